"""The simulator's formulas over batches of phantoms, in float32 on a device; see `arithmetic`.

Promises: what is drawn stays what numpy drew; white noise that was only named (`noise`) is made here, a function of its
key. Pictures of the same noise agree with numpy's to a grey level of 255 in all but rare pixels; masks and boxes are
equal, because outlines are computed in float64. Not promised: bits, which differ between devices and, at the last place
of float32, between sizes of a batch.
"""

import math
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_shared.science.phantom.arithmetic import Array, Values
from sonoshare_shared.science.phantom.noise import NoiseKey

Draws = TypeVar("Draws")
_GOLDEN, _MIX_1, _MIX_2 = (value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""Constants of SplitMix64, as signed integers."""
_HALF = 2**32 - 1
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
        """As `Arithmetic.loaded`."""
        return self.exact(values.astype(np.float32))

    def exact(self, values: NDArray[np.generic]) -> Tensor:
        """As `Arithmetic.exact`: numbers of any type stay of that type."""
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


def normals(noise: NoiseKey, device: torch.device) -> Tensor:
    """The noise of a batch of keys, float32 [B, 2, rows, columns].

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) counts from each key; its two halves give two normal numbers by the
    method of Box and Muller. Integers wrap around alike on all devices; the last bits of logarithm and cosine differ.
    """
    place = torch.arange(noise.rows * noise.columns, device=device)
    bits = noise.key.to(device)[:, None] + place * _GOLDEN
    bits = _folded(_folded(_folded(bits, 30) * _MIX_1, 27) * _MIX_2, 31)
    above = ((bits >> 32) & _HALF).float().add_(0.5).mul_(2.0**-32)
    turn = (bits & _HALF).float().mul_(2.0 * math.pi * 2.0**-32)
    radius = above.log_().mul_(-2.0).sqrt_()
    both = torch.stack([radius * turn.cos(), radius * turn.sin()], dim=1)
    return both.view(-1, 2, noise.columns, noise.rows).mT  # by columns, so that more of them change nothing


def _folded(bits: Tensor, shift: int) -> Tensor:
    """Each number xor itself shifted down, without its sign."""
    return bits ^ ((bits >> shift) & ((1 << (64 - shift)) - 1))


def loaded(draws: Draws, on: TorchArithmetic) -> Draws:
    """A batch of draws (`batch.stacked`) on the device, its noise made."""
    return _loaded(draws, on)  # type: ignore[no-any-return] # of the type that came


def _loaded(value: Any, on: TorchArithmetic) -> Values:
    if isinstance(value, tuple):
        return tuple(_loaded(one, on) for one in value)
    if isinstance(value, NoiseKey):
        return normals(replace(value, key=torch.from_numpy(value.key)), on.device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: _loaded(getattr(value, each.name), on) for each in fields(value)})
    return on.exact(value) if isinstance(value, np.ndarray) else value
