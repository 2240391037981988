"""What is done with noised sums: Adam in units of each tensor's size, and an average over steps.

Everything here is post-processing of released numbers and public constants: it costs no privacy and may be changed,
stored and sent freely. Nothing here sees a patient. How far a step goes is said in ``optimiser``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch.nn import Parameter

from sonoshare_privacy.optimiser import Optimiser, averaging_decay, rate_at

_SMALLEST_SIZE: Final = 1e-18
"""Of a coordinate's gradients; the squares of smaller ones are lost in float32, and would bound no step."""


@dataclass(frozen=True)
class OptimiserState:
    """Where a training stands; public, because it comes from released numbers only.

    Attributes:
        step: steps taken so far.
        first: first moment, float32 [D].
        second: second moment, float32 [D].
    """

    step: int
    first: torch.Tensor
    second: torch.Tensor


class NoisyAdam:
    """Moves parameters by noised mean gradients.

    Args:
        parameters: changed in place.
        settings: public constants.
        total_steps: of the whole study, for the learning rate's decay.
        state: of an earlier training to go on from.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        settings: Optimiser,
        *,
        total_steps: int,
        state: OptimiserState | None = None,
    ) -> None:
        self._parameters: list[torch.Tensor] = list(parameters.values())
        self._settings, self._total = settings, max(1, total_steps)
        sizes = [parameter.numel() for parameter in self._parameters]
        first = self._parameters[0]
        if state is None:
            zeros = torch.zeros(sum(sizes), dtype=torch.float32, device=first.device)
            state = OptimiserState(0, zeros, zeros.clone())
        self._step, self._first, self._second = state.step, state.first.clone(), state.second.clone()
        self._sizes = sizes
        self._scales = [
            max(float(parameter.detach().double().square().mean().sqrt()), settings.smallest_rms)
            for parameter in self._parameters
        ]
        self._average = [parameter.detach().clone() for parameter in self._parameters]
        self._averaged = 0

    @property
    def state(self) -> OptimiserState:
        """A copy of where it stands."""
        return OptimiserState(self._step, self._first.clone(), self._second.clone())

    @torch.no_grad()
    def step(self, gradient: torch.Tensor) -> None:
        """Take one step along a noised mean gradient, float [D] in the order of the parameters."""
        settings = self._settings
        rate = rate_at(settings, self._step, self._total)
        self._step += 1
        rate /= 1 - settings.momentum**self._step
        root = math.sqrt(1 - settings.second_moment**self._step)
        fresh = gradient.to(self._first)
        self._first.lerp_(fresh, 1 - settings.momentum)
        self._second.mul_(settings.second_moment).addcmul_(fresh, fresh, value=1 - settings.second_moment)
        size = self._second.sqrt().clamp_min_(_SMALLEST_SIZE)
        # All tensors in a few calls: on a GPU one call a tensor costs more than the step.
        torch._foreach_addcdiv_(
            self._parameters,
            self._shaped(self._first),
            self._shaped(size),
            scalars=[-rate * scale * root for scale in self._scales],
        )
        decay = averaging_decay(settings, self._averaged)
        self._averaged += 1
        torch._foreach_lerp_(self._average, self._parameters, 1 - decay)

    def _shaped(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Flat numbers as tensors like the parameters."""
        parts = torch.split(flat, self._sizes)
        return [part.view_as(like).to(like.dtype) for part, like in zip(parts, self._parameters, strict=True)]

    @torch.no_grad()
    def finish(self) -> None:
        """Put the average in the parameters' place."""
        for parameter, average in zip(self._parameters, self._average, strict=True):
            parameter.copy_(average)
