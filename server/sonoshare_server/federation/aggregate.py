"""Checking and averaging updates, with public weights.

An update is a safetensors file of float32 differences with exactly the adapter's names and shapes. What does not
fit, or holds a NaN or infinity, is refused and the round goes on without it (CASES 22, 32). So is an update with a
number in it that the plan's optimiser could not have reached, whatever the patients and the noise
(`sonoshare_privacy.update_bound`): it is refused whole, because nothing says which part of it would be true. One
hospital therefore moves a number of the adapter by at most its weight among those that replied, times
``round_reach``, times the scale of its tensor: constants of the plan and of the public adapter, for any number of
hospitals (CASES 33).

From three hospitals on, an update longer than ``NORM_FACTOR`` times the median norm of the round is scaled down to
that. This shortens what a poisoner can do in long rounds, where honest updates stay far from the bound; it promises
nothing by itself, because the others may conspire. Of two hospitals either is half of the median: there it is left out.

Weights are constants of the plan; nobody's claimed number of examples counts (CASES 41). Everything here is
post-processing of private updates.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.update_bound import round_reach, rounding_slack, tensor_scale
from sonoshare_shared.errors import IntegrityError

NORM_FACTOR: Final = 3.0
FEWEST_FOR_A_MEDIAN: Final = 3

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


def check_update(update: bytes, adapter: Tensors, optimiser: Optimiser, steps: int) -> dict[str, NDArray[np.float32]]:
    """Parse an update and check that it is one that the round could have made.

    Args:
        update: as received.
        adapter: the global adapter the round started from.
        optimiser: the plan's, in this round.
        steps: of the round.

    Raises:
        IntegrityError: names or shapes differ, a value is not finite, or a number moved further than it can.
    """
    tensors = read_tensors(update)
    if tensors.keys() != adapter.keys():
        raise IntegrityError("the update's tensors are not the adapter's")
    for name, tensor in tensors.items():
        if tensor.shape != adapter[name].shape:
            raise IntegrityError(f"tensor {name} has another shape than the adapter's")
    _check_reach(tensors, adapter, optimiser, steps)
    return tensors


def _check_reach(update: Tensors, adapter: Tensors, optimiser: Optimiser, steps: int) -> None:
    in_scale = round_reach(optimiser, steps)
    for name, moved in update.items():
        start = adapter[name]
        reach = in_scale * tensor_scale(optimiser, start)
        if (np.abs(moved, dtype=np.float64) > reach + rounding_slack(start, reach, steps)).any():
            raise IntegrityError(
                f"tensor {name} moves further than {steps} steps of the plan's optimiser can",
                remedy="ask the hospital what it runs; its update is left out whole",
            )


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
    enough = len(norms) >= FEWEST_FOR_A_MEDIAN
    longest = NORM_FACTOR * float(np.median(list(norms.values()))) if enough else math.inf
    scales = {hospital: min(1.0, longest / length) if length > 0 else 1.0 for hospital, length in norms.items()}
    total = sum(weights[hospital] for hospital in updates)
    mean = {
        name: np.asarray(
            sum(
                (weights[hospital] * scales[hospital] / total) * update[name].astype(np.float64)
                for hospital, update in sorted(updates.items())
            )
        )
        for name in adapter
    }
    return Aggregate(adapter=moved_by(adapter, mean), scales=scales)


def moved_by(adapter: Tensors, mean: Mapping[str, NDArray[np.float64]]) -> bytes:
    """The adapter after a mean update (of its shapes, or flat), as safetensors."""
    moved = {
        name: (tensor.astype(np.float64) + mean[name].reshape(tensor.shape)).astype(np.float32)
        for name, tensor in adapter.items()
    }
    return bytes(save(dict(sorted(moved.items()))))
