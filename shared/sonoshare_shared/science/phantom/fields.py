"""Random fields on the simulator's square grid.

Promises: every field is drawn from the generator handed in and from nothing else; lengths are *fractions of the
image side*, so that a grid of another resolution shows the same kind of tissue (not the same pixels). Smooth
fields have mean zero and unit standard deviation and are periodic: a Gaussian filter applied in the Fourier
domain, which costs the same whatever its width.
"""

from dataclasses import dataclass

import numpy as np

from sonoshare_shared.science.phantom.arithmetic import Array, Plane, Values, frequencies
from sonoshare_shared.science.phantom.noise import Noise


@dataclass(frozen=True)
class FieldDraws:
    """What fixes a smooth field.

    Attributes:
        parts: [..., 2, n, k], real and imaginary parts of white noise at the first k of n // 2 + 1 lateral
            frequencies; all of them when drawn, those that the filter lets through in a batch.
        sigma_depth: smoothing along depth, fraction of the image side.
        sigma_lateral: smoothing along the lateral axis, fraction of the image side.
    """

    parts: Values
    sigma_depth: Values
    sigma_lateral: Values


def gaussian_response(n: int, sigma: float | Array) -> Array:
    """Frequency response of a Gaussian filter over ``n`` samples, in ``numpy.fft.fftfreq`` order.

    Args:
        n: number of samples along the axis.
        sigma: standard deviation in samples, a number or an array broadcast against [n].

    Returns:
        Response in 0..1, shape [n] (or the broadcast shape).
    """
    return np.asarray(response(np, frequencies(n), sigma))


def response(xp: Values, frequency: Values, sigma: Values) -> Values:
    """Response of a Gaussian filter of ``sigma`` samples at frequencies in cycles a sample; they are broadcast."""
    return xp.exp(-2.0 * (np.pi * frequency * sigma) ** 2)


@dataclass(frozen=True)
class Source:
    """Where random numbers come from.

    Attributes:
        rng: of numbers.
        noise: draws white noise from it.
        n: side of the grid in pixels.
    """

    rng: np.random.Generator
    noise: Noise
    n: int

    def field(self, sigma_depth: float, sigma_lateral: float) -> FieldDraws:
        """Draw the noise of a smooth field of [n, n] pixels; see `FieldDraws` for the lengths."""
        return FieldDraws(self.noise(self.rng, self.n, self.n // 2 + 1), sigma_depth, sigma_lateral)


def smooth_field(draws: FieldDraws, plane: Plane) -> Values:
    """A smooth random field, [..., n, n], mean 0, standard deviation 1."""
    on, n = plane.on, plane.n
    along_depth = response(plane.xp, plane.frequency[:, None], draws.sigma_depth * n)
    along_lateral = response(plane.xp, plane.frequency[None, : draws.parts.shape[-1]], draws.sigma_lateral * n)
    parts = draws.parts * along_depth[..., None, :, :]
    parts *= along_lateral[..., None, :, :]
    spectrum = on.paired(parts[..., 0, :, :], parts[..., 1, :, :])
    spectrum[..., 0, 0] = 0.0
    field = on.irfft(on.ifft(spectrum, axis=-2), n)
    field /= on.deviation(field) + 1e-9
    return field


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


def ridges(plane: Plane, field: Values, width: Values) -> Values:
    """Thin connected lines: the zero crossings of a smooth field, which look like fascia and septa.

    Args:
        plane: the picture's grid.
        field: field of unit standard deviation, any shape.
        width: half-width of a line in standard deviations of the field.

    Returns:
        Values in 0..1 of the same shape, 1 on the line.
    """
    return plane.xp.exp(-((field / width) ** 2))


def smooth_step(plane: Plane, x: Values, edge: Values, width: float) -> Values:
    """Logistic step from 0 (``x`` below ``edge``) to 1, ``width`` being its scale in the unit of ``x``."""
    return 0.5 * (1.0 + plane.xp.tanh((x - edge) / (2.0 * width)))
