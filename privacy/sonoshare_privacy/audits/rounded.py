"""Which windows reach a score: a product of rounded windows rules most out, the whole product decides the rest.

For example: of 1000 pictures beside one, some five have a rounded product of .56 or more. Only these five can have a
score of .6, so only these are multiplied in full.

A window of unit length is written as whole numbers and a rest, with a public step s. For two of them, a = s q + e and
b = s p + f, the inequality of Cauchy and Schwarz gives

    <a, b> = s^2 <q, p> + s <q, f> + <e, b>  <=  s^2 <q, p> + (1 + |e|) |f| + |e|

and both rests are known. So a pair with s^2 <q, p> below the limit less the two last terms in *every* pose is below the
limit itself. Whole numbers are at most 63: their products are exact in every kernel, also where a processor adds pairs
of products in 16 bits and cuts off what is more (127 would be cut off there). What floats round in lengths and rests is
less than ``_ROUNDING``: sums of 196 squares are off by less than 196 * 2**-24 of themselves.

Promises: exactly the pairs whose score reaches the limit, each with the score that 64-bit arithmetic gives, whatever
the blocks, the device and the way that rules out. No index, no chance, no knowledge of other pictures. Memory beyond
the windows is a quarter of theirs and a few megabytes (a hundred on a GPU). Windows with a NaN reach nothing. Does not
promise: that much is ruled out. Where everybody looks alike, all is multiplied twice.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_privacy.audits.search import products
from sonoshare_shared.science.device import CPU

_STEP: Final = 0.005
"""Of the rounding: 63 steps are four times the usual pixel of a window of 196. Less leaves rests of the brightest."""

_MOST_STEPS: Final = 63
_ROUNDING: Final = 1e-4
_WINDOWS_AT_ONCE: Final = 1024
"""In a block of products, which stays in a processor's cache."""

_ON_A_GPU_AT_ONCE: Final = 65_536
"""There a block costs a start, and the cache is no matter."""


def whole_numbers_are_fast(device: torch.device) -> bool:
    """Whether the device multiplies bytes faster than floats: x86 from AVX2 on; elsewhere torch has a plain loop."""
    kernels = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call] # torch gives it no types
    return bool(kernels) and device == CPU and "AVX" in torch.backends.cpu.get_cpu_capability()


class Reaching:
    """Windows among which those are found that reach a limit with a posed picture.

    Args:
        windows: float32 [n, d] of unit length, d at most 1000.
        limit: score to be reached.
        rounded: rule out by whole numbers; None where the device is fast at that. The answer is the same.
    """

    def __init__(self, windows: Tensor, limit: float, *, rounded: bool | None = None) -> None:
        self._windows, self._limit = windows, limit
        self._rounded = whole_numbers_are_fast(windows.device) if rounded is None else rounded
        self._at_once = _WINDOWS_AT_ONCE if windows.device == CPU else _ON_A_GPU_AT_ONCE
        parts = [_in_steps(windows[span]) for span in self._spans(len(windows))] if self._rounded else []
        self._steps = torch.cat([part for part, _ in parts]) if parts else windows
        self._rests = torch.cat([rest for _, rest in parts]) if parts else windows.new_zeros(len(windows))
        self._kept = windows.new_empty(0, dtype=torch.int32 if self._rounded else torch.float32)

    def with_posed(self, posed: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the windows whose best score over poses reaches the limit: places [k], rising, and scores [k].

        Args:
            posed: float32 [poses, d], one picture's windows of unit length.
        """
        close = self._not_ruled_out(posed)
        exact = posed.double()
        found = [(np.empty(0, np.int64), np.empty(0, np.float32))]
        for span in self._spans(len(close)):
            places = close[span]
            scores = products(exact, self._windows[places].double()).amax(0)
            reached = scores >= self._limit
            found.append((places[reached].cpu().numpy(), scores[reached].float().cpu().numpy()))
        return np.concatenate([places for places, _ in found]), np.concatenate([scores for _, scores in found])

    def _not_ruled_out(self, posed: Tensor) -> Tensor:
        """Places of the windows that may reach the limit, rising."""
        steps, rests = _in_steps(posed) if self._rounded else (posed, posed.new_zeros(len(posed)))
        rest, unit = rests.amax(), _STEP**2 if self._rounded else 1.0
        least = (self._limit - _ROUNDING - self._rests - (1 + self._rests) * rest) / unit
        enough = torch.empty(len(least), dtype=torch.bool, device=least.device)
        for span in self._spans(len(least)):
            torch.ge(self._highest(steps, self._steps[span]), least[span], out=enough[span])
        return torch.nonzero(enough)[:, 0]

    def _highest(self, posed: Tensor, windows: Tensor) -> Tensor:
        """Best product over poses, in steps where they are rounded."""
        out = self._room(len(posed), len(windows))
        if not self._rounded:
            return products(posed, windows, out).amax(0)
        # Private in torch, which is pinned; its public products of whole numbers are plain loops.
        return torch._int_mm(posed, windows.T, out=out).amax(0)  # noqa: SLF001

    def _spans(self, count: int) -> Iterator[slice]:
        return (slice(start, start + self._at_once) for start in range(0, count, self._at_once))

    def _room(self, rows: int, columns: int) -> Tensor:
        """The same memory for every block: asking the system anew costs a third of a product."""
        if len(self._kept) < rows * columns:
            self._kept = self._kept.new_empty(rows * columns)
        return self._kept[: rows * columns].view(rows, columns)


def _in_steps(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Windows in whole steps, int8, and the lengths of what is left of each."""
    steps = (windows / _STEP).round_().clamp_(-_MOST_STEPS, _MOST_STEPS)
    return steps.to(torch.int8), torch.sub(windows, steps, alpha=_STEP).norm(dim=-1)
