"""Engines, rows of patients and their integer sums, for tests of the per-patient gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import Parameter

from sonoshare_privacy.mechanisms.gaussian import Grid
from sonoshare_privacy.patient_gradients import PatientGradients
from sonoshare_privacy.patient_gradients.chunk import together

K, P = 2, 4


def gradients(
    model: Any, parameters: dict[str, Parameter] | dict[Any, Any] | None = None, **settings: Any
) -> PatientGradients:
    settings = {"draws": K, "clip_norm": 1.0, "clip_mode": "clip", "places": P, **settings}
    return PatientGradients(model, parameters or dict(model.named_parameters()), **settings)


def split(batch: dict[str, torch.Tensor], draws: int = K) -> list[Any]:
    count = len(next(iter(batch.values())))
    return [{name: value[i : i + draws] for name, value in batch.items()} for i in range(0, count, draws)]


def contribution(
    engine: PatientGradients,
    patients: list[Any],
    loss: Callable[..., Any] | Callable[..., torch.Tensor],
    sigma: float = 1.0,
) -> tuple[torch.Tensor, Grid]:
    """Integer sum of at most a chunk's patients, and its grid."""
    grid = Grid(engine.clip_norm, sigma, engine.dimension + 1)
    total = torch.zeros(engine.dimension + 1, dtype=torch.int64)
    with engine:
        engine.add_clipped(together(patients), patients[0], loss, grid, total)
    return total, grid
