"""Random fields on the simulator's square grid.

Promises: every field is drawn from the generator handed in and from nothing else; lengths are *fractions of the
image side*, so that a grid of another resolution shows the same kind of tissue (not the same pixels). Smooth
fields have mean zero and unit standard deviation and are periodic: a Gaussian filter applied in the Fourier
domain, which costs the same whatever its width.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a square picture of ``n`` by ``n`` pixels, in fractions of its side."""

    n: int

    @property
    def centres(self) -> Array:
        """Pixel centres along one axis, shape [n], in 0..1."""
        return (np.arange(self.n) + 0.5) / self.n

    @property
    def depth(self) -> Array:
        """Depth of each row as a column vector, shape [n, 1]; 0 is the skin."""
        return self.centres[:, None]

    @property
    def lateral(self) -> Array:
        """Lateral position of each column as a row vector, shape [1, n]."""
        return self.centres[None, :]


def gaussian_response(n: int, sigma: float | Array) -> Array:
    """Frequency response of a Gaussian filter over ``n`` samples, in ``numpy.fft.fftfreq`` order.

    Args:
        n: number of samples along the axis.
        sigma: standard deviation in samples, a number or an array broadcast against [n].

    Returns:
        Response in 0..1, shape [n] (or the broadcast shape).
    """
    frequency = np.fft.fftfreq(n)
    return np.asarray(np.exp(-2.0 * (np.pi * frequency * sigma) ** 2))


def smooth_field(rng: np.random.Generator, grid: Grid, sigma_depth: float, sigma_lateral: float) -> Array:
    """Draw a smooth random field.

    Args:
        rng: source of randomness.
        grid: the picture's grid.
        sigma_depth: smoothing along depth, fraction of the image side.
        sigma_lateral: smoothing along the lateral axis, fraction of the image side.

    Returns:
        Field of shape [n, n], mean 0, standard deviation 1.
    """
    n = grid.n
    half = n // 2 + 1
    parts = rng.standard_normal((2, n, half))
    spectrum = parts[0] + 1j * parts[1]
    spectrum *= gaussian_response(n, sigma_depth * n)[:, None]
    spectrum *= gaussian_response(n, sigma_lateral * n)[None, :half]
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(n, n))
    return np.asarray(field / (field.std() + 1e-9))


def smooth_curve(rng: np.random.Generator, n: int, sigma: float) -> Array:
    """Draw a smooth periodic curve of ``n`` samples.

    Args:
        rng: source of randomness.
        n: number of samples.
        sigma: smoothing as a fraction of the curve's length.

    Returns:
        Curve of shape [n], mean 0, standard deviation 1.
    """
    spectrum = np.fft.rfft(rng.standard_normal(n)) * gaussian_response(n, sigma * n)[: n // 2 + 1]
    spectrum[0] = 0.0
    curve = np.fft.irfft(spectrum, n=n)
    return np.asarray(curve / (curve.std() + 1e-9))


def ridges(field: Array, width: float) -> Array:
    """Thin connected lines: the zero crossings of a smooth field, which look like fascia and septa.

    Args:
        field: field of unit standard deviation, any shape.
        width: half-width of a line in standard deviations of the field.

    Returns:
        Values in 0..1 of the same shape, 1 on the line.
    """
    return np.asarray(np.exp(-((field / width) ** 2)))


def smooth_step(x: Array, edge: Array | float, width: float) -> Array:
    """Logistic step from 0 (``x`` below ``edge``) to 1, ``width`` being its scale in the unit of ``x``."""
    return np.asarray(0.5 * (1.0 + np.tanh((x - edge) / (2.0 * width))))
