"""Draws a lesion into healthy tissue.

The outline is a star-shaped curve ``r(theta)`` around the lesion's centre: an ellipse, plus low harmonics for its
shape, plus what its margin asks for (fine lobules, corners, spikes). The exact outline gives the mask; echogenicity and
attenuation change across it over the margin's softness. Shadow and enhancement are not painted: they follow from the
attenuation inside the lesion when the beam is integrated along depth (module ``acoustics``).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.phantom.anatomy import Tissue
from sonoshare_shared.science.phantom.fields import Array, Grid, smooth_curve, smooth_field
from sonoshare_shared.science.phantom.lesions import LesionParameters

ANGLES = 512
"""Samples of the outline over a full turn."""


@dataclass(frozen=True)
class DrawnLesion:
    """Tissue with the lesion in it, and the exact mask, bool [n, n]."""

    tissue: Tissue
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Polar:
    """Coordinates around the lesion, each [n, n]: radius in half-axes, outline there, angle, distance outside.

    ``distance`` is the radial distance from the outline in fractions of the picture, negative inside.
    """

    radius: Array
    outline: Array
    angle: Array
    distance: Array


def _outline(rng: np.random.Generator, lesion: LesionParameters) -> Array:
    """Radius over ``ANGLES`` directions, in half-axes; about 1."""
    theta = np.linspace(-np.pi, np.pi, ANGLES, endpoint=False)

    def harmonic(k: int, amplitude: float) -> Array:
        return np.asarray(amplitude * np.cos(k * theta + rng.uniform(0.0, 2.0 * np.pi)))

    outline = np.ones(ANGLES)
    if lesion.shape == "irregular":
        for k in range(2, 10):
            outline += harmonic(k, float(rng.normal(0.0, 0.17)) / k**0.75)
    else:
        for k in (2, 3):
            outline += harmonic(k, float(rng.normal(0.0, 0.035)))
        if rng.random() < 0.25:  # gentle lobulation, at most three lobes
            outline += harmonic(int(rng.integers(3, 5)), float(rng.uniform(0.03, 0.06)))
    if lesion.margin == "microlobulated":
        outline += np.abs(harmonic(int(rng.integers(4, 8)), float(rng.uniform(0.08, 0.18))))
    elif lesion.margin == "angular":
        corners = 1.0 - np.abs(np.sin(int(rng.integers(3, 6)) * theta / 2.0 + rng.uniform(0.0, np.pi)))
        outline += float(rng.uniform(0.15, 0.35)) * corners * (1.0 + 0.5 * smooth_curve(rng, ANGLES, 0.08))
    elif lesion.margin == "spiculated":
        wobble = 0.8 * smooth_curve(rng, ANGLES, 0.06)
        spikes = np.cos(int(rng.integers(6, 12)) * theta + rng.uniform(0.0, 2.0 * np.pi) + wobble)
        outline += float(rng.uniform(0.10, 0.25)) * np.clip(spikes, 0.0, 1.0) ** 3
    return np.asarray(np.clip(outline, 0.45, 1.7))


def _polar(lesion: LesionParameters, outline: Array, grid: Grid) -> _Polar:
    x = grid.lateral - lesion.centre[0]
    y = grid.depth - lesion.centre[1]
    cos, sin = np.cos(lesion.tilt), np.sin(lesion.tilt)
    u = (x * cos + y * sin) / lesion.half_width
    v = (-x * sin + y * cos) / lesion.half_height
    radius = np.hypot(u, v) + 1e-6
    angle = np.arctan2(v, u)
    index = ((angle + np.pi) * (ANGLES / (2.0 * np.pi))).astype(int) % ANGLES
    around = outline[index]
    distance = (radius - around) / radius * np.hypot(x, y)
    return _Polar(radius, around, angle, distance)


def _inside_db(rng: np.random.Generator, lesion: LesionParameters, grid: Grid) -> Array:
    grain = smooth_field(rng, grid, 0.02, 0.03) * lesion.heterogeneity_db
    inside = lesion.level_db + grain
    if lesion.echo_pattern == "complex":  # solid with fluid-filled parts
        pools = smooth_field(rng, grid, 0.04, 0.05)
        inside = np.where(pools > rng.uniform(0.2, 0.9), rng.uniform(-40.0, -30.0), inside)
    return np.asarray(inside)


def _rim_db(lesion: LesionParameters, at: _Polar) -> Array:
    """Capsule and halo: bright bands outside the outline; a thin capsule reflects where the beam meets it squarely."""
    rim = np.zeros_like(at.distance)
    if lesion.capsule_db > 0.0:
        facing = 0.25 + 0.75 * np.sin(at.angle) ** 2
        rim += lesion.capsule_db * facing * np.exp(-(((at.distance - 0.006) / 0.008) ** 2))
    if lesion.halo_db > 0.0:
        rim += lesion.halo_db * np.exp(-(((at.distance - 0.03) / 0.028) ** 2))
    return rim


def _spicules_db(rng: np.random.Generator, lesion: LesionParameters, at: _Polar) -> Array:
    """Dark lines radiating from the margin into the surrounding tissue."""
    lines = np.zeros_like(at.distance)
    for _ in range(lesion.spicules):
        direction = rng.uniform(-np.pi, np.pi)
        apart = np.abs((at.angle - direction + np.pi) % (2.0 * np.pi) - np.pi)
        length = rng.uniform(0.03, 0.12)
        fading = np.exp(-((at.distance / length) ** 2))
        width = rng.uniform(0.03, 0.07)
        lines -= rng.uniform(4.0, 12.0) * np.exp(-((apart / width) ** 2)) * fading * (at.distance > 0.0)
    return lines


def _calcifications_db(rng: np.random.Generator, lesion: LesionParameters, grid: Grid) -> Array:
    points = np.zeros((grid.n, grid.n))
    for _ in range(lesion.calcifications):
        x = lesion.centre[0] + rng.normal(0.0, 0.4) * lesion.half_width
        y = lesion.centre[1] + rng.normal(0.0, 0.4) * lesion.half_height
        spot = np.exp(-((grid.depth - y) ** 2) / 5e-5) * np.exp(-((grid.lateral - x) ** 2) / 5e-5)
        points += rng.uniform(12.0, 24.0) * spot
    return points


def _attenuation(lesion: LesionParameters, within: Array, at: _Polar) -> Array:
    per_depth = lesion.attenuation_db / (2.0 * lesion.half_height)
    loss = per_depth * within
    if lesion.edge_shadow_db > 0.0:  # refraction where the beam grazes the outline
        grazing = np.abs(np.cos(at.angle)) ** 12 * np.exp(-((at.distance / 0.012) ** 2))
        loss = loss + lesion.edge_shadow_db / (0.8 * lesion.half_height) * grazing
    return np.asarray(loss)


def draw_into(rng: np.random.Generator, tissue: Tissue, lesion: LesionParameters, grid: Grid) -> DrawnLesion:
    """Draw a lesion into healthy tissue.

    Args:
        rng: source of randomness of the outline and of the texture inside.
        tissue: the healthy tissue, not changed.
        lesion: what to draw.
        grid: the picture's grid.

    Returns:
        New tissue maps and the mask of the exact outline.
    """
    at = _polar(lesion, _outline(rng, lesion), grid)
    within = 0.5 * (1.0 - np.tanh((at.radius - at.outline) / lesion.softness))
    echo = tissue.echo_db + _rim_db(lesion, at)
    if lesion.spicules:
        echo = echo + _spicules_db(rng, lesion, at)
    echo = echo + (_inside_db(rng, lesion, grid) - echo) * within
    if lesion.calcifications:
        echo = echo + _calcifications_db(rng, lesion, grid)
    # The lesion replaces tissue, so it replaces the tissue's own excess loss too.
    loss = tissue.attenuation * (1.0 - within) + _attenuation(lesion, within, at)
    return DrawnLesion(Tissue(np.asarray(echo), loss), at.radius <= at.outline)
