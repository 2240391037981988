"""Checking and averaging updates, with public weights.

An update is a safetensors file of float32 differences with exactly the adapter's names and shapes. What does not
fit, or holds a NaN or infinity, is refused and the round goes on without it (CASES 22, 32). One hospital moves the
average by at most its weight times ``NORM_FACTOR`` times the median norm of the round's updates: longer updates are
scaled down to that (CASES 33). Weights are constants of the plan; nobody's claimed number of examples counts
(CASES 41). Everything here is post-processing of private updates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sonoshare_shared.errors import IntegrityError

NORM_FACTOR: Final = 3.0

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Aggregate:
    """The new adapter and how much each hospital's update was scaled (1: not at all)."""

    adapter: bytes
    scales: dict[str, float]


def read_tensors(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Parse a safetensors file of finite float32 tensors.

    Raises:
        IntegrityError: it is not one.
    """
    try:
        tensors: dict[str, NDArray[np.float32]] = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise IntegrityError("not a safetensors file", remedy="only safetensors are accepted") from error
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise IntegrityError(f"tensor {name} is {tensor.dtype}, not float32")
        if not np.isfinite(tensor).all():
            raise IntegrityError(f"tensor {name} holds NaN or infinity")
    return tensors


def check_update(update: bytes, adapter: Tensors) -> dict[str, NDArray[np.float32]]:
    """Parse an update and check that it fits the adapter.

    Raises:
        IntegrityError: names or shapes differ, or a value is not finite.
    """
    tensors = read_tensors(update)
    if tensors.keys() != adapter.keys():
        raise IntegrityError("the update's tensors are not the adapter's")
    for name, tensor in tensors.items():
        if tensor.shape != adapter[name].shape:
            raise IntegrityError(f"tensor {name} has another shape than the adapter's")
    return tensors


def norm(tensors: Tensors) -> float:
    """L2 norm over all tensors, in float64."""
    return float(np.sqrt(sum(float(np.square(t, dtype=np.float64).sum()) for t in tensors.values())))


def aggregate(adapter: Tensors, updates: Mapping[str, Tensors], weights: Mapping[str, float]) -> Aggregate:
    """Add the weighted mean of the updates to the adapter.

    Args:
        adapter: the global adapter the round started from.
        updates: checked update of each hospital that replied (at least one).
        weights: public weight of each hospital; renormalised over those that replied.
    """
    norms = {hospital: norm(update) for hospital, update in updates.items()}
    bound = NORM_FACTOR * float(np.median(list(norms.values())))
    scales = {hospital: min(1.0, bound / length) if length > 0 else 1.0 for hospital, length in norms.items()}
    total = sum(weights[hospital] for hospital in updates)
    mean = {
        name: sum(
            (weights[hospital] * scales[hospital] / total) * update[name].astype(np.float64)
            for hospital, update in sorted(updates.items())
        )
        for name in adapter
    }
    moved = {name: (tensor.astype(np.float64) + mean[name]).astype(np.float32) for name, tensor in adapter.items()}
    return Aggregate(adapter=save(dict(sorted(moved.items()))), scales=scales)
