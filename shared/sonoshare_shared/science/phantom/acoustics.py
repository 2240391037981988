"""From tissue maps to a B-mode picture.

Fully developed speckle: complex Gaussian scatterers weighted by echogenicity and by the two-way loss along the beam,
convolved with a separable point spread function whose lateral width grows away from the focus; envelope, average over
looks, log compression to the displayed dynamic range, grey map. (Wagner et al., IEEE Trans. Sonics Ultrason. 1983 for
the statistics; the convolution model as in Bamber and Dickinson 1980.)

Promises: values in 0..1, [..., n, n]. Not promised: interference between looks, side lobes, non-linear propagation.
"""

import math
from dataclasses import dataclass

import numpy as np

from sonoshare_shared.science.phantom.anatomy import Tissue
from sonoshare_shared.science.phantom.arithmetic import Part, Plane, Values, centres, frequencies
from sonoshare_shared.science.phantom.fields import Source, response, smooth_curve
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


@dataclass(frozen=True)
class ScanDraws:
    """What is random in one exposure, and the settings it was made with.

    Attributes:
        gain_curve_db: depth-gain error, [..., n, 1].
        side_loss_db: as in `Setting`.
        axial: width of the point spread function along depth, pixels.
        lateral: the same along the lateral axis, for each row of the padded grid, [..., rows, 1].
        looks: white noise of the scatterers of each look, [..., 2, rows, rows].
        looks_averaged: how many.
        gain_db: as in `Setting`.
        dynamic_range_db: as in `Setting`.
        gamma: as in `Setting`.
        black: as in `Setting`.
        white_above: grey levels from black to white.
    """

    gain_curve_db: Values
    side_loss_db: Values
    axial: Values
    lateral: Values
    looks: tuple[Part[Values], ...]
    looks_averaged: Values
    gain_db: Values
    dynamic_range_db: Values
    gamma: Values
    black: Values
    white_above: Values


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


def draw_scan(source: Source, *, style: ScannerStyle, setting: Setting, size_mm: tuple[float, float]) -> ScanDraws:
    """Draw what is random in one exposure.

    Args:
        source: of the speckle and of the depth-gain error.
        style: the scanner.
        setting: values drawn for this picture.
        size_mm: width and depth of the picture.
    """
    rng, n, pad = source.rng, source.n, padding(source.n)
    depth = np.pad(centres(n), pad, mode="edge")[:, None]
    rows = n + 2 * pad
    return ScanDraws(
        gain_curve_db=_draw(rng, style.gain_curve_db) * smooth_curve(rng, n, 0.15)[:, None],
        side_loss_db=setting.side_loss_db,
        axial=setting.axial_mm / size_mm[1] * n,
        lateral=setting.lateral_mm / size_mm[0] * n * (1.0 + style.divergence * np.abs(depth - setting.focus)),
        looks=tuple(Part(source.noise(rng, rows, rows)) for _ in range(style.looks)),
        looks_averaged=float(style.looks),
        gain_db=setting.gain_db,
        dynamic_range_db=setting.dynamic_range_db,
        gamma=setting.gamma,
        black=setting.black,
        white_above=setting.white - setting.black,
    )


def padding(n: int) -> int:
    """Pixels of the border that is simulated around ``n`` and cut off."""
    return round(PAD * n)


def received_db(tissue: Tissue, plane: Plane) -> Values:
    """Echo level after the two-way loss along each beam, in dB, shape [..., n, n]."""
    loss = plane.xp.cumsum(tissue.attenuation, axis=-2) / plane.n
    return tissue.echo_db - plane.on.blurred(loss, SHADOW_SPREAD * plane.n)


def _envelope(draws: ScanDraws, amplitude: Values, plane: Plane) -> Values:
    """Envelope of scatterers of the given amplitude, averaged over looks; shape of ``amplitude``."""
    xp, on, rows = plane.xp, plane.on, amplitude.shape[-1]
    frequency = on.loaded(frequencies(rows))
    along_depth = response(xp, frequency[:, None], draws.axial)
    along_lateral = response(xp, frequency, draws.lateral)
    # A Gaussian of width s keeps 1 / (2 s sqrt(pi)) of the variance of white noise: undo it for axial and lateral.
    energy = xp.sqrt((2.0 * draws.axial * math.sqrt(np.pi)) * (2.0 * draws.lateral * math.sqrt(np.pi)))
    level = xp.sqrt(energy / 2.0)
    envelope = xp.zeros_like(amplitude)
    for look in draws.looks:
        noise = look.draws * amplitude[look.rows][..., None, :, :]
        field = on.fft(on.paired(noise[..., 0, :, :], noise[..., 1, :, :]), axis=-2)
        field *= along_depth[look.rows]
        beams = on.fft(on.ifft(field, axis=-2), axis=-1)
        beams *= along_lateral[look.rows]
        envelope[look.rows] += on.magnitude(on.ifft(beams, axis=-1)) * level[look.rows]
    return envelope / draws.looks_averaged


def scan(draws: ScanDraws, tissue: Tissue, plane: Plane) -> Values:
    """Scan tissue with one machine.

    Args:
        draws: the exposure.
        tissue: maps over the grid.
        plane: the picture's grid.

    Returns:
        Grey levels in 0..1, shape [..., n, n].
    """
    xp, pad = plane.xp, padding(plane.n)
    level = received_db(tissue, plane)
    level += draws.gain_curve_db
    level -= draws.side_loss_db * xp.abs(2.0 * plane.lateral - 1.0) ** 4
    amplitude = plane.on.padded(10.0 ** (level / 20.0), pad)
    envelope = _envelope(draws, amplitude, plane)
    echo_db = 20.0 * xp.log10(envelope[..., pad:-pad, pad:-pad] + 1e-6)
    grey = xp.clip(1.0 + (echo_db - draws.gain_db) / draws.dynamic_range_db, 0.0, 1.0)
    return draws.black + draws.white_above * grey**draws.gamma
