"""The optimiser of pooled sums: the same steps as `NoisyAdam`, with the same bits on every machine.

Where noise is pooled no hospital has a private gradient to move by: the coordinator takes the step, one for each sum.
It is a function of public things (the plan, the study's first adapter, the sums so far), so everybody who was shown
the sums can take it again and compare. To make that possible on any processor every operation here is one addition,
multiplication, division or root of float64 by itself, which IEEE 754 rounds in one way; nothing is fused, no sum
depends on an order, and powers are products.

The model that hospitals compute gradients at is the *iterate*; what the study ends with is the *average* of iterates.
Post-processing of released sums: it costs no privacy, and promises none.

Reach: whatever the sums are, a number moves in a step by at most the learning rate times its tensor's scale times
`sonoshare_privacy.update_bound.step_reach` (docs/proofs/update-bound.md). That bound is of the whole step: behind masks
nobody can tell which hospital's words were wrong, so one of them can spoil a step, and no more than that.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_privacy.optimiser import Optimiser, averaging_decay, rate_at
from sonoshare_shared.errors import InputError

Tensors = Mapping[str, NDArray[np.float32]]
Flat = NDArray[np.float64]
_SMALLEST_SIZE: Final = 1e-150
"""Of a coordinate's gradients; squares of smaller ones are lost in float64, and would bound no step."""


@dataclass(frozen=True)
class PooledState:
    """Where a study stands; public.

    Attributes:
        step: steps taken so far.
        iterate: numbers that the next gradients are taken at, float32 [D], tensors in the order of ``shapes``.
        average: average of iterates so far, float64 [D].
        first: first moment, float64 [D].
        second: second moment, float64 [D].
        scales: of each tensor's steps, from the study's first adapter.
        shapes: of the tensors, by name, in the order in which sums hold them.
    """

    step: int
    iterate: NDArray[np.float32]
    average: Flat
    first: Flat
    second: Flat
    scales: tuple[float, ...]
    shapes: dict[str, tuple[int, ...]]

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The iterate by name."""
        return self._named(self.iterate)

    def averaged(self) -> dict[str, NDArray[np.float32]]:
        """The average by name, rounded to float32: what the study ends with."""
        return self._named(self.average.astype(np.float32))

    def _named(self, flat: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        found, start = {}, 0
        for name, shape in self.shapes.items():
            end = start + math.prod(shape)
            found[name], start = flat[start:end].reshape(shape), end
        return found


def first_state(adapter: Tensors, settings: Optimiser) -> PooledState:
    """The state before the first step.

    Args:
        adapter: the study's first, tensors in the order in which sums hold them.
        settings: public constants.
    """
    iterate = np.concatenate([tensor.reshape(-1) for tensor in adapter.values()])
    zeros = np.zeros(len(iterate))
    return PooledState(
        step=0,
        iterate=iterate,
        average=iterate.astype(np.float64),
        first=zeros,
        second=zeros,
        scales=tuple(_scale(tensor, settings) for tensor in adapter.values()),
        shapes={name: tensor.shape for name, tensor in adapter.items()},
    )


def stepped(state: PooledState, gradient: Flat, settings: Optimiser, *, total: int) -> PooledState:
    """The state after one step along a noised mean gradient.

    Args:
        state: before it.
        gradient: float64 [D], finite.
        settings: public constants.
        total: steps of the whole study, for the learning rate.

    Raises:
        InputError: the gradient does not fit, or is not finite.
    """
    if gradient.shape != state.first.shape or not np.isfinite(gradient).all():
        raise InputError("a mean gradient has one finite number for each that is trained")
    number, momentum, memory = state.step + 1, settings.momentum, settings.second_moment
    first = momentum * state.first + (1 - momentum) * gradient
    second = memory * state.second + (1 - memory) * np.square(gradient)
    rate = rate_at(settings, state.step, total) / (1 - _power(momentum, number))
    size = np.maximum(np.sqrt(second / (1 - _power(memory, number))), _SMALLEST_SIZE)
    sizes = [math.prod(shape) for shape in state.shapes.values()]
    moved = np.repeat(rate * np.array(state.scales), sizes) * (first / size)
    iterate = (state.iterate.astype(np.float64) - moved).astype(np.float32)
    decay = averaging_decay(settings, state.step)
    average = decay * state.average + (1 - decay) * iterate.astype(np.float64)
    return PooledState(number, iterate, average, first, second, state.scales, state.shapes)


def _scale(tensor: NDArray[np.float32], settings: Optimiser) -> float:
    squares = np.square(tensor.reshape(-1).astype(np.float64))
    return max(math.sqrt(math.fsum(squares) / len(squares)), settings.smallest_rms)  # exactly rounded: no order


def _power(base: float, exponent: int) -> float:
    """By products: a library's power may differ in its last bit."""
    product = 1.0
    for _ in range(exponent):
        product *= base
    return product
