"""The simulator's formulas over batches of phantoms, in float32 on a device; see `arithmetic`.

Promises: what is drawn stays what numpy drew; nothing random happens here. Pictures agree with numpy's to a grey level
of 255 in all but rare pixels; masks and boxes are equal, because outlines are computed in float64. Not promised: bits,
which differ between devices and, at the last place of float32, between sizes of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_shared.science.phantom.arithmetic import Array, Part, Values
from sonoshare_shared.science.phantom.fields import FieldDraws, gaussian_response
from sonoshare_shared.science.phantom.lesion_drawing import Contour

Draws = TypeVar("Draws")
_NEGLIGIBLE = 1e-6
"""Frequencies that a filter lets through less than this are left out of a batch."""
_CUT = 4.0
"""Where a Gaussian filter is cut, in standard deviations: as in ``scipy.ndimage.gaussian_filter1d``."""


@dataclass(frozen=True)
class TorchArithmetic:
    """A batch of pictures in float32; see `Arithmetic` for the methods.

    Args:
        device: where.
    """

    device: torch.device
    xp: Any = torch

    def loaded(self, values: NDArray[np.generic]) -> Tensor:
        """As `Arithmetic.loaded`; integers and truth values stay what they are."""
        return self._moved(values.astype(np.float32) if values.dtype == np.float64 else values)

    def exact(self, values: NDArray[np.generic]) -> Tensor:
        """As `Arithmetic.exact`."""
        return self._moved(values)

    def _moved(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def working(self, values: Tensor) -> Tensor:
        """As `Arithmetic.working`."""
        return values.float()

    def whole(self, values: Tensor) -> Tensor:
        """As `Arithmetic.whole`."""
        return values.long()

    def paired(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """As `Arithmetic.paired`."""
        return torch.complex(real, imaginary)

    def fft(self, values: Tensor, axis: int) -> Tensor:
        """As `Arithmetic.fft`."""
        transformed: Tensor = torch.fft.fft(values, dim=axis)
        return transformed

    def ifft(self, values: Tensor, axis: int) -> Tensor:
        """As `Arithmetic.ifft`."""
        transformed: Tensor = torch.fft.ifft(values, dim=axis)
        return transformed

    def irfft(self, values: Tensor, n: int) -> Tensor:
        """As `Arithmetic.irfft`."""
        transformed: Tensor = torch.fft.irfft(values, n=n, dim=-1)
        return transformed

    def magnitude(self, values: Tensor) -> Tensor:
        """As `Arithmetic.magnitude`; on a CPU several times faster than `torch.abs`."""
        return torch.view_as_real(values).square().sum(dim=-1).sqrt()

    def deviation(self, values: Tensor) -> Tensor:
        """As `Arithmetic.deviation`."""
        return values.square().mean(dim=(-2, -1), keepdim=True).sqrt()

    def padded(self, values: Tensor, width: int) -> Tensor:
        """As `Arithmetic.padded`."""
        return torch.nn.functional.pad(values[:, None], (width,) * 4, mode="replicate")[:, 0]

    def blurred(self, values: Tensor, sigma: float) -> Tensor:
        """As `Arithmetic.blurred`."""
        weights, columns = _gaussian(sigma), values.shape[-1]
        reach = len(weights) // 2
        sides = torch.nn.functional.pad(values, (reach, reach), mode="replicate")
        blurred = torch.zeros_like(values)
        for place, weight in enumerate(weights.tolist()):  # no convolution: TF32 would round it
            blurred.add_(sides[..., place : place + columns], alpha=weight)
        return blurred

    def shifted(self, values: Tensor, shift: Tensor, n: int) -> Tensor:
        """As `Arithmetic.shifted`."""
        rows = (torch.arange(n, device=self.device)[:, None] + shift).clamp(0, n - 1)
        return values.gather(-2, rows)

    def looked_up(self, table: Tensor, index: Tensor) -> Tensor:
        """As `Arithmetic.looked_up`."""
        return table.gather(-1, index.flatten(-2)).view(index.shape)


@lru_cache
def _gaussian(sigma: float) -> Array:
    reach = int(_CUT * sigma + 0.5)
    weights = np.exp(-0.5 / sigma**2 * np.arange(-reach, reach + 1) ** 2)
    return np.asarray(weights / weights.sum())


def stacked(draws: Sequence[Draws], on: TorchArithmetic) -> Draws:
    """The draws of several pictures as one, on the device.

    Numbers become [B, 1, 1], arrays [B, ...], and of parts there are as many as the picture with most of them has.
    """
    return _stacked(draws, on)  # type: ignore[no-any-return]


def _stacked(values: Sequence[Any], on: TorchArithmetic, *, exact: bool = False) -> Values:
    first = values[0]
    if isinstance(first, tuple):
        return _parts(values, on)
    if isinstance(first, FieldDraws):
        values = _let_through(values)
    if is_dataclass(first):
        exact = isinstance(first, Contour)
        names = [each.name for each in fields(first)]
        parts = {name: _stacked([getattr(one, name) for one in values], on, exact=exact) for name in names}
        return replace(first, **parts)
    load = on.exact if exact else on.loaded
    if isinstance(first, np.ndarray):
        kept = np.float32 if first.dtype == np.float64 and not exact else first.dtype
        return load(np.stack(values, dtype=kept, casting="same_kind"))
    return load(np.array(values, dtype=np.float64)[:, None, None])


def _parts(values: Sequence[tuple[Part[Any], ...]], on: TorchArithmetic) -> tuple[Part[Any], ...]:
    """The first part of all pictures that have one, their second part, and so on."""
    found = []
    for place in range(max(len(parts) for parts in values)):
        rows = [row for row, parts in enumerate(values) if len(parts) > place]
        draws = _stacked([values[row][place].draws for row in rows], on)
        found.append(Part(draws, slice(None) if len(rows) == len(values) else on.exact(np.array(rows))))
    return tuple(found)


def _let_through(values: Sequence[FieldDraws]) -> list[FieldDraws]:
    """The same fields without the lateral frequencies that their filters stop."""
    n = values[0].parts.shape[-2]
    widest = gaussian_response(n, min(one.sigma_lateral for one in values) * n)[: n // 2 + 1]
    kept = int(np.count_nonzero(widest > _NEGLIGIBLE))
    return [FieldDraws(one.parts[..., :kept], one.sigma_depth, one.sigma_lateral) for one in values]
