"""From tissue maps to a B-mode picture.

Fully developed speckle: complex Gaussian scatterers weighted by echogenicity and by the two-way loss along the beam,
convolved with a separable point spread function whose lateral width grows away from the focus; envelope, average over
looks, log compression to the displayed dynamic range, grey map. (Wagner et al., IEEE Trans. Sonics Ultrason. 1983 for
the statistics; the convolution model as in Bamber and Dickinson 1980.)

Promises: values in 0..1, float64 [n, n]. Not promised: interference between looks, side lobes, non-linear propagation.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from sonoshare_shared.science.phantom.anatomy import Tissue
from sonoshare_shared.science.phantom.fields import Array, Grid, gaussian_response, smooth_curve
from sonoshare_shared.science.phantom.scanners import Range, ScannerStyle

PAD = 0.0625
"""Border simulated around the picture and cut off, so that the periodic convolution does not wrap into it."""
SHADOW_SPREAD = 0.012
"""Lateral smoothing of shadows by the width of the aperture, fraction of the picture."""


@dataclass(frozen=True)
class Setting:
    """One exposure: the values drawn from a scanner's ranges for one picture (units as in ``ScannerStyle``)."""

    axial_mm: float
    lateral_mm: float
    focus: float
    dynamic_range_db: float
    gain_db: float
    gamma: float
    black: float
    white: float
    side_loss_db: float


def _draw(rng: np.random.Generator, limits: Range) -> float:
    return float(rng.uniform(*limits))


def draw_setting(rng: np.random.Generator, style: ScannerStyle) -> Setting:
    """Draw the operator's settings and the machine's tolerances for one picture."""
    return Setting(
        axial_mm=_draw(rng, style.axial_mm),
        lateral_mm=_draw(rng, style.lateral_mm),
        focus=_draw(rng, style.focus),
        dynamic_range_db=_draw(rng, style.dynamic_range_db),
        gain_db=_draw(rng, style.gain_db),
        gamma=_draw(rng, style.gamma),
        black=_draw(rng, style.black),
        white=_draw(rng, style.white),
        side_loss_db=float(rng.uniform(4.0, 14.0)) if rng.random() < 0.25 else 0.0,
    )


def received_db(tissue: Tissue, grid: Grid) -> Array:
    """Echo level after the two-way loss along each beam, in dB, shape [n, n]."""
    loss = np.cumsum(tissue.attenuation, axis=0) / grid.n
    spread = gaussian_filter1d(loss, SHADOW_SPREAD * grid.n, axis=1, mode="nearest")
    return np.asarray(tissue.echo_db - spread)


def _speckle(rng: np.random.Generator, amplitude: Array, axial: float, lateral: Array) -> Array:
    """Envelope of scatterers of the given amplitude; widths in pixels, lateral one per row, shape [rows, 1]."""
    rows, columns = amplitude.shape
    noise = rng.standard_normal((2, rows, columns))
    scatterers = (noise[0] + 1j * noise[1]) * amplitude
    spectrum = np.fft.fft(scatterers, axis=0) * gaussian_response(rows, axial)[:, None]
    field = np.fft.ifft(spectrum, axis=0)
    beams = np.fft.fft(field, axis=1) * gaussian_response(columns, lateral)
    # A Gaussian of width s keeps 1 / (2 s sqrt(pi)) of the variance of white noise: undo it for axial and lateral.
    energy = np.sqrt((2.0 * axial * np.sqrt(np.pi)) * (2.0 * lateral * np.sqrt(np.pi)))
    return np.asarray(np.abs(np.fft.ifft(beams, axis=1)) * np.sqrt(energy / 2.0))


def scan(
    rng: np.random.Generator,
    tissue: Tissue,
    grid: Grid,
    *,
    style: ScannerStyle,
    setting: Setting,
    size_mm: tuple[float, float],
) -> Array:
    """Scan tissue with one machine.

    Args:
        rng: source of the speckle and of the depth-gain error.
        tissue: maps over the grid.
        grid: the picture's grid.
        style: the scanner.
        setting: values drawn for this picture.
        size_mm: width and depth of the picture.

    Returns:
        Grey levels in 0..1, shape [n, n].
    """
    n, pad = grid.n, round(PAD * grid.n)
    level = received_db(tissue, grid)
    level += _draw(rng, style.gain_curve_db) * smooth_curve(rng, n, 0.15)[:, None]
    level -= setting.side_loss_db * np.abs(2.0 * grid.lateral - 1.0) ** 4
    amplitude = np.pad(10.0 ** (level / 20.0), pad, mode="edge")
    depth = np.pad(grid.centres, pad, mode="edge")[:, None]
    axial = setting.axial_mm / size_mm[1] * n
    lateral = setting.lateral_mm / size_mm[0] * n * (1.0 + style.divergence * np.abs(depth - setting.focus))
    envelope = np.mean([_speckle(rng, amplitude, axial, lateral) for _ in range(style.looks)], axis=0)
    echo_db = 20.0 * np.log10(envelope[pad:-pad, pad:-pad] + 1e-6)
    grey = np.clip(1.0 + (echo_db - setting.gain_db) / setting.dynamic_range_db, 0.0, 1.0)
    return np.asarray(setting.black + (setting.white - setting.black) * grey**setting.gamma)
