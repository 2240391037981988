"""Layered anatomy of the breast as maps of echogenicity and attenuation.

From the transducer down: skin, subcutaneous fat crossed by Cooper's ligaments, fibroglandular tissue, the pectoral
muscle with its fascia, and what lies behind (ribs, lung: mostly dark). Thicknesses are in millimetres and ordinary for
adult breasts; glandular tissue has the reference level of 0 dB, fat and muscle lie 6-16 dB below it.

Promises: maps depend on the generator, the grid and the frame's size only. Echogenicity is in decibels (amplitude,
20 log10); attenuation is the *excess* two-way loss, in decibels per picture depth, beyond what the scanner's depth gain
makes up for. It is a picture of anatomy, not a wave simulation: no refraction, no reverberation between layers.
"""

from dataclasses import dataclass

import numpy as np

from sonoshare_shared.science.phantom.fields import Array, Grid, ridges, smooth_curve, smooth_field, smooth_step


@dataclass(frozen=True)
class Frame:
    """Size of the picture and the mean depth of its layers (fractions of the depth)."""

    width_mm: float
    depth_mm: float
    gland_top: float
    muscle_top: float


@dataclass(frozen=True)
class Tissue:
    """Maps over the grid, both [n, n]: echogenicity in dB, excess two-way attenuation in dB per picture depth."""

    echo_db: Array
    attenuation: Array


@dataclass(frozen=True)
class _Layers:
    """Depth of each border for every column, shape [1, n], fractions of the depth."""

    skin: Array
    gland: Array
    muscle: Array
    deep: Array


def draw_frame(rng: np.random.Generator, width_mm: float, depth_mm: float) -> Frame:
    """Draw where the layers lie in a picture of the given size.

    Args:
        rng: source of randomness.
        width_mm: lateral width of the picture.
        depth_mm: depth of the picture.

    Returns:
        The frame; the gland begins 3-11 mm deep and is 10-24 mm thick.
    """
    gland_top = rng.uniform(3.0, 11.0) / depth_mm
    muscle_top = gland_top + rng.uniform(10.0, 24.0) / depth_mm
    return Frame(width_mm, depth_mm, float(gland_top), float(muscle_top))


def _draw_layers(rng: np.random.Generator, grid: Grid, frame: Frame) -> _Layers:
    def border(depth: float, swing_mm: float) -> Array:
        curve = smooth_curve(rng, grid.n, rng.uniform(0.12, 0.25))[None, :]
        return np.asarray(depth + swing_mm / frame.depth_mm * curve)

    skin = rng.uniform(0.8, 2.0) / frame.depth_mm
    muscle_mm = rng.uniform(5.0, 12.0)
    return _Layers(
        skin=border(skin, 0.1),
        gland=border(frame.gland_top, rng.uniform(0.3, 1.6)),
        muscle=border(frame.muscle_top, rng.uniform(0.4, 1.8)),
        deep=border(frame.muscle_top + muscle_mm / frame.depth_mm, rng.uniform(0.4, 1.2)),
    )


def _fat_db(rng: np.random.Generator, grid: Grid) -> Array:
    lobules = smooth_field(rng, grid, rng.uniform(0.02, 0.04), rng.uniform(0.08, 0.18))
    septa = ridges(lobules, rng.uniform(0.08, 0.18)) * rng.uniform(8.0, 18.0)
    grain = smooth_field(rng, grid, 0.008, rng.uniform(0.02, 0.06)) * rng.uniform(1.0, 2.5)
    return np.asarray(rng.uniform(-17.0, -9.0) + septa + grain)


def _gland_db(rng: np.random.Generator, grid: Grid) -> Array:
    fine = smooth_field(rng, grid, rng.uniform(0.005, 0.010), rng.uniform(0.04, 0.10)) * rng.uniform(2.0, 5.5)
    coarse = smooth_field(rng, grid, rng.uniform(0.02, 0.05), rng.uniform(0.06, 0.14)) * rng.uniform(1.5, 4.5)
    broad = smooth_field(rng, grid, 0.07, 0.12) * rng.uniform(0.5, 3.5)
    lines = smooth_field(rng, grid, rng.uniform(0.010, 0.022), rng.uniform(0.08, 0.20))
    strands = ridges(lines, rng.uniform(0.08, 0.20)) * rng.uniform(0.0, 14.0)
    return np.asarray(rng.uniform(-5.0, 1.0) + fine + coarse + broad + strands)


def _muscle_db(rng: np.random.Generator, grid: Grid) -> Array:
    fibres = smooth_field(rng, grid, 0.008, rng.uniform(0.12, 0.22)) * rng.uniform(2.5, 6.0)
    return np.asarray(rng.uniform(-16.0, -8.0) + fibres)


def _bend(echo_db: Array, rng: np.random.Generator, grid: Grid) -> Array:
    """Shift each column along depth: layers and strands of a compressed breast are never level."""
    swing = rng.uniform(0.0, 0.03) * grid.n
    shift = np.rint(swing * smooth_curve(rng, grid.n, 0.25)).astype(int)
    rows = np.clip(np.arange(grid.n)[:, None] + shift[None, :], 0, grid.n - 1)
    return np.asarray(np.take_along_axis(echo_db, rows, axis=0))


def _shadows(rng: np.random.Generator, grid: Grid) -> Array:
    """Columns that lose signal from some depth on: poor contact and steep ligaments, in every class alike."""
    loss = np.zeros((grid.n, grid.n))
    for _ in range(int(rng.poisson(0.8))):
        width = rng.uniform(0.015, 0.07)
        column = np.exp(-(((grid.lateral - rng.uniform(0.0, 1.0)) / width) ** 2))
        start = rng.uniform(0.0, 0.4)
        thick = 0.12
        row = np.exp(-(((grid.depth - start) / thick) ** 2)) / (thick * np.sqrt(np.pi))
        loss += rng.uniform(2.0, 9.0) * column * row
    return loss


def draw_tissue(rng: np.random.Generator, grid: Grid, frame: Frame) -> Tissue:
    """Draw the healthy tissue of one picture.

    Args:
        rng: source of randomness.
        grid: the picture's grid.
        frame: its size and mean layer depths.

    Returns:
        Echogenicity and excess attenuation over the grid.
    """
    layers = _draw_layers(rng, grid, frame)
    depth = grid.depth
    below_gland = smooth_step(depth, layers.gland, 0.012)
    below_muscle = smooth_step(depth, layers.muscle, 0.010)
    below_deep = smooth_step(depth, layers.deep, 0.015)
    gland, fat = _gland_db(rng, grid), _fat_db(rng, grid)
    if rng.random() < 0.5:  # fat lobules within the gland: the commonest mimic of a lesion
        lobules = smooth_field(rng, grid, rng.uniform(0.03, 0.06), rng.uniform(0.05, 0.10))
        gland -= rng.uniform(4.0, 10.0) * smooth_step(lobules, rng.uniform(1.0, 1.8), 0.12)
    echo = fat + (gland - fat) * below_gland
    echo += (_muscle_db(rng, grid) - echo) * below_muscle
    fascia = np.exp(-(((depth - layers.muscle) / 0.008) ** 2)) * rng.uniform(0.0, 13.0)
    echo += fascia * (smooth_curve(rng, grid.n, 0.1)[None, :] > -0.5)
    behind = rng.uniform(-34.0, -16.0) + 3.0 * smooth_field(rng, grid, 0.03, 0.08)
    echo += (behind - echo) * below_deep
    echo = _bend(echo, rng, grid)
    echo = np.where(depth < layers.skin, rng.uniform(-2.0, 6.0), echo)
    overall = rng.uniform(0.0, 15.0) * rng.uniform(1.0, 2.2) * depth ** rng.uniform(0.3, 1.4)
    return Tissue(echo, overall + _shadows(rng, grid))
