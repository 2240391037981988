"""Where the simulator's formulas are computed: written once, over numpy's arrays or over torch's tensors.

What is drawn at random is drawn by numpy, one phantom at a time (`draw_...` functions; the same numbers everywhere).
What follows from it on the grid is a formula (`paint_...` functions) over a `Plane`: the grid as arrays of one
arithmetic. `NumpyArithmetic` computes one phantom in float64, and its bits are the simulator's; `torch_arithmetic`
computes a batch in float32 on a device. Formulas index axes from the end and broadcast, so that they hold with and
without a batch axis in front; functions that numpy and torch call alike are reached through ``xp``, those that they
call differently are methods here.

A picture may lack a part (a capsule) or have several (spicules): such parts are tuples of `Part`, each of which says
which pictures of the batch it belongs to.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Array = NDArray[np.float64]
Values = Any
"""A number, or an array of the arithmetic in use: drawn, a float or an NDArray; in a batch, a tensor [B, ...]."""
Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class Part(Generic[Drawn]):
    """Something that some pictures have.

    Attributes:
        draws: its random numbers; in a batch, of the pictures that have it.
        rows: which pictures these are: an index of the batch axis, each at most once. Of a single picture, all of it.
    """

    draws: Drawn
    rows: Values = ...


class Arithmetic(Protocol):
    """What numpy and torch call differently. Arrays are [..., rows, columns], the batch in front."""

    @property
    def xp(self) -> Any:
        """The module of what they call alike (exp, tanh, where ...)."""

    def loaded(self, values: Array) -> Values:
        """An array of the host, in working precision."""

    def exact(self, values: Array) -> Values:
        """An array of the host, in double precision."""

    def working(self, values: Values) -> Values:
        """Values of any precision, in working precision."""

    def whole(self, values: Values) -> Values:
        """Values without their fractions, as an index."""

    def paired(self, real: Values, imaginary: Values) -> Values:
        """Complex numbers; may use up its arguments."""

    def fft(self, values: Values, axis: int) -> Values:
        """Discrete Fourier transform of complex numbers along an axis; may use up its argument."""

    def ifft(self, values: Values, axis: int) -> Values:
        """Its inverse."""

    def irfft(self, values: Values, n: int) -> Values:
        """Inverse transform to ``n`` real numbers along the last axis; missing frequencies are zero."""

    def magnitude(self, values: Values) -> Values:
        """Absolute values of complex numbers."""

    def deviation(self, values: Values) -> Values:
        """Standard deviation of each picture of mean zero, broadcast against [..., rows, columns]."""

    def padded(self, values: Values, width: int) -> Values:
        """The pictures with their border pixels repeated ``width`` times on all sides."""

    def blurred(self, values: Values, sigma: float) -> Values:
        """Gaussian filter along the last axis, cut at four ``sigma`` pixels, border pixels repeated."""

    def shifted(self, values: Values, shift: Values, n: int) -> Values:
        """Each column moved up by ``shift`` [..., 1, columns] rows, of ``n``; border pixels are repeated."""

    def looked_up(self, table: Values, index: Values) -> Values:
        """Entries of ``table`` [..., entries] at an index [..., rows, columns]."""


class NumpyArithmetic:
    """One picture at a time in float64: the bits that releases and ballots rest on."""

    xp: Any = np

    def loaded(self, values: Array) -> Array:
        """As `Arithmetic.loaded`: as it is."""
        return values

    exact = loaded

    def working(self, values: Array) -> Array:
        """As `Arithmetic.working`: as it is."""
        return values

    def whole(self, values: Array) -> NDArray[np.int64]:
        """As `Arithmetic.whole`."""
        return values.astype(np.int64)

    def paired(self, real: Array, imaginary: Array) -> NDArray[np.complex128]:
        """As `Arithmetic.paired`."""
        numbers = np.empty(real.shape, dtype=np.complex128)
        numbers.real, numbers.imag = real, imaginary
        return numbers

    def fft(self, values: NDArray[np.complex128], axis: int) -> NDArray[np.complex128]:
        """As `Arithmetic.fft`, in place: fresh memory costs as much as the transform."""
        return np.fft.fft(values, axis=axis, out=values)

    def ifft(self, values: NDArray[np.complex128], axis: int) -> NDArray[np.complex128]:
        """As `Arithmetic.ifft`, in place."""
        return np.fft.ifft(values, axis=axis, out=values)

    def irfft(self, values: NDArray[np.complex128], n: int) -> Array:
        """As `Arithmetic.irfft`."""
        return np.fft.irfft(values, n=n, axis=-1)

    def magnitude(self, values: NDArray[np.complex128]) -> Array:
        """As `Arithmetic.magnitude`."""
        return np.abs(values)

    def deviation(self, values: Array) -> float:
        """As `Arithmetic.deviation`."""
        return float(values.std())

    def padded(self, values: Array, width: int) -> Array:
        """As `Arithmetic.padded`."""
        return np.pad(values, width, mode="edge")

    def blurred(self, values: Array, sigma: float) -> Array:
        """As `Arithmetic.blurred`."""
        return np.asarray(gaussian_filter1d(values, sigma, axis=-1, mode="nearest"))

    def shifted(self, values: Array, shift: NDArray[np.int64], n: int) -> Array:
        """As `Arithmetic.shifted`."""
        rows = np.clip(np.arange(n)[:, None] + shift, 0, n - 1)
        return np.take_along_axis(values, rows, axis=0)

    def looked_up(self, table: Array, index: NDArray[np.int64]) -> Array:
        """As `Arithmetic.looked_up`."""
        return np.asarray(table[index])


@dataclass(frozen=True)
class Plane:
    """The square grid of ``n`` by ``n`` pixel centres, in fractions of the picture's side, in one arithmetic.

    Attributes:
        on: the arithmetic.
        n: pixels along a side.
        depth: of each row, [n, 1]; 0 is the skin.
        lateral: position of each column, [1, n].
        frequency: cycles a pixel along an axis, [n], in ``numpy.fft.fftfreq`` order.
        exact_depth: depth in double precision.
        exact_lateral: lateral position in double precision.
    """

    on: Arithmetic
    n: int
    depth: Values = field(init=False)
    lateral: Values = field(init=False)
    frequency: Values = field(init=False)
    exact_depth: Values = field(init=False)
    exact_lateral: Values = field(init=False)

    def __post_init__(self) -> None:
        at = centres(self.n)
        for name, values in (("depth", at[:, None]), ("lateral", at[None, :])):
            object.__setattr__(self, name, self.on.loaded(values))
            object.__setattr__(self, f"exact_{name}", self.on.exact(values))
        object.__setattr__(self, "frequency", self.on.loaded(frequencies(self.n)))

    @property
    def xp(self) -> Any:
        """Functions that numpy and torch call alike."""
        return self.on.xp


@lru_cache
def centres(n: int) -> Array:
    """Pixel centres along one axis, shape [n], in 0..1."""
    return (np.arange(n) + 0.5) / n


@lru_cache
def frequencies(n: int) -> Array:
    """Cycles a sample of ``n`` samples, [n], in ``numpy.fft.fftfreq`` order."""
    return np.asarray(np.fft.fftfreq(n), dtype=np.float64)
