"""Draws a lesion into healthy tissue.

The outline is a star-shaped curve ``r(theta)`` around the lesion's centre: an ellipse, plus low harmonics for its
shape, plus what its margin asks for (fine lobules, corners, spikes). The exact outline gives the mask; echogenicity and
attenuation change across it over the margin's softness. Shadow and enhancement are not painted: they follow from the
attenuation inside the lesion when the beam is integrated along depth (module ``acoustics``).

Random numbers are drawn in the order in which the fields of a ``...Draws`` are listed. Where the outline runs is
computed in double precision in every arithmetic, so that all of them give the same mask.
"""

from dataclasses import dataclass

import numpy as np

from sonoshare_shared.science.phantom.anatomy import Tissue
from sonoshare_shared.science.phantom.arithmetic import Array, Part, Plane, Values
from sonoshare_shared.science.phantom.fields import FieldDraws, Source, smooth_curve, smooth_field
from sonoshare_shared.science.phantom.lesions import LesionParameters

ANGLES = 512
"""Samples of the outline over a full turn."""
TURN = 2.0 * np.pi


@dataclass(frozen=True)
class DrawnLesion:
    """Tissue with the lesion in it, and the exact mask, bool [..., n, n]."""

    tissue: Tissue
    mask: Values


@dataclass(frozen=True)
class Contour:
    """Where the outline runs, in double precision.

    Attributes:
        x: lateral position of the centre, fraction of the picture.
        y: its depth.
        cos: of the tilt.
        sin: of the tilt.
        half_width: half-axis along the lateral axis before tilting, fraction of the picture.
        half_height: half-axis along depth.
        outline: radius over `ANGLES` directions, [..., ANGLES], in half-axes.
    """

    x: Values
    y: Values
    cos: Values
    sin: Values
    half_width: Values
    half_height: Values
    outline: Values


@dataclass(frozen=True)
class _SpiculeDraws:
    """A dark line radiating from the margin: angles in radians, length in fractions of the picture."""

    direction: Values
    length: Values
    width: Values
    drop_db: Values


@dataclass(frozen=True)
class _PoolDraws:
    """Fluid-filled parts of a complex lesion: where the field lies above the threshold."""

    field: FieldDraws
    threshold: Values
    level_db: Values


@dataclass(frozen=True)
class _CalcificationDraws:
    """A bright point at (x, y)."""

    x: Values
    y: Values
    level_db: Values


@dataclass(frozen=True)
class LesionDraws:
    """What a lesion is and what is random in it; units as in `LesionParameters`.

    ``loss_db`` is the excess attenuation inside, dB per picture depth.
    """

    contour: Contour
    softness: Values
    level_db: Values
    heterogeneity_db: Values
    loss_db: Values
    capsule_db: tuple[Part[Values], ...]
    halo_db: tuple[Part[Values], ...]
    edge_db: tuple[Part[Values], ...]
    spicules: tuple[Part[_SpiculeDraws], ...]
    grain: FieldDraws
    pools: tuple[Part[_PoolDraws], ...]
    calcifications: tuple[Part[_CalcificationDraws], ...]


@dataclass(frozen=True)
class _Polar:
    """Coordinates around the lesion, each [..., n, n]: radius beyond the outline in half-axes, angle, distance outside.

    ``distance`` is the radial distance from the outline in fractions of the picture, negative inside.
    """

    beyond: Values
    angle: Values
    distance: Values


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


def _draw_spicule(rng: np.random.Generator) -> _SpiculeDraws:
    return _SpiculeDraws(
        direction=rng.uniform(-np.pi, np.pi),
        length=rng.uniform(0.03, 0.12),
        width=rng.uniform(0.03, 0.07),
        drop_db=rng.uniform(4.0, 12.0),
    )


def _draw_pools(source: Source, lesion: LesionParameters) -> tuple[Part[_PoolDraws], ...]:
    if lesion.echo_pattern != "complex":  # solid with fluid-filled parts
        return ()
    rng = source.rng
    pools = _PoolDraws(source.field(0.04, 0.05), rng.uniform(0.2, 0.9), rng.uniform(-40.0, -30.0))
    return (Part(pools),)


def _draw_calcification(rng: np.random.Generator, lesion: LesionParameters) -> _CalcificationDraws:
    return _CalcificationDraws(
        x=lesion.centre[0] + rng.normal(0.0, 0.4) * lesion.half_width,
        y=lesion.centre[1] + rng.normal(0.0, 0.4) * lesion.half_height,
        level_db=rng.uniform(12.0, 24.0),
    )


def _if_any(value: float, scaled: float) -> tuple[Part[Values], ...]:
    return (Part(scaled),) if value > 0.0 else ()


def draw_details(source: Source, lesion: LesionParameters) -> LesionDraws:
    """Draw what a lesion's parameters leave open: its outline and its texture.

    Args:
        source: of random numbers.
        lesion: what to draw.
    """
    rng = source.rng
    return LesionDraws(
        contour=Contour(
            x=lesion.centre[0],
            y=lesion.centre[1],
            cos=np.cos(lesion.tilt),
            sin=np.sin(lesion.tilt),
            half_width=lesion.half_width,
            half_height=lesion.half_height,
            outline=_outline(rng, lesion),
        ),
        softness=lesion.softness,
        level_db=lesion.level_db,
        heterogeneity_db=lesion.heterogeneity_db,
        loss_db=lesion.attenuation_db / (2.0 * lesion.half_height),
        capsule_db=_if_any(lesion.capsule_db, lesion.capsule_db),
        halo_db=_if_any(lesion.halo_db, lesion.halo_db),
        edge_db=_if_any(lesion.edge_shadow_db, lesion.edge_shadow_db / (0.8 * lesion.half_height)),
        spicules=tuple(Part(_draw_spicule(rng)) for _ in range(lesion.spicules)),
        grain=source.field(0.02, 0.03),
        pools=_draw_pools(source, lesion),
        calcifications=tuple(Part(_draw_calcification(rng, lesion)) for _ in range(lesion.calcifications)),
    )


def _polar(at: Contour, plane: Plane) -> tuple[_Polar, Values]:
    """Coordinates around the lesion, and its mask."""
    xp, on = plane.xp, plane.on
    x, y = plane.exact_lateral - at.x, plane.exact_depth - at.y
    u = (x * at.cos + y * at.sin) / at.half_width
    v = (-x * at.sin + y * at.cos) / at.half_height
    radius = xp.hypot(u, v) + 1e-6
    angle = xp.arctan2(v, u)
    around = on.looked_up(at.outline, on.whole((angle + np.pi) * (ANGLES / TURN)) % ANGLES)
    beyond = radius - around
    distance = beyond / radius * xp.hypot(x, y)
    return _Polar(on.working(beyond), on.working(angle), on.working(distance)), radius <= around


def _inside_db(draws: LesionDraws, plane: Plane) -> Values:
    inside = draws.level_db + smooth_field(draws.grain, plane) * draws.heterogeneity_db
    for part in draws.pools:
        pools = smooth_field(part.draws.field, plane) > part.draws.threshold
        inside[part.rows] = plane.xp.where(pools, part.draws.level_db, inside[part.rows])
    return inside


def _rim_db(draws: LesionDraws, at: _Polar, plane: Plane) -> Values:
    """Capsule and halo: bright bands outside the outline; a thin capsule reflects where the beam meets it squarely."""
    xp, rim = plane.xp, plane.xp.zeros_like(at.distance)
    for part in draws.capsule_db:
        facing = 0.25 + 0.75 * xp.sin(at.angle[part.rows]) ** 2
        rim[part.rows] += part.draws * facing * xp.exp(-(((at.distance[part.rows] - 0.006) / 0.008) ** 2))
    for part in draws.halo_db:
        rim[part.rows] += part.draws * xp.exp(-(((at.distance[part.rows] - 0.03) / 0.028) ** 2))
    return rim


def _spicules_db(draws: LesionDraws, at: _Polar, plane: Plane) -> Values:
    """Dark lines radiating from the margin into the surrounding tissue."""
    xp, lines = plane.xp, plane.xp.zeros_like(at.distance)
    for part in draws.spicules:
        one, angle, distance = part.draws, at.angle[part.rows], at.distance[part.rows]
        apart = xp.abs(_within_a_turn(angle - one.direction + np.pi, plane) - np.pi)
        fading = xp.exp(-((distance / one.length) ** 2))
        lines[part.rows] -= one.drop_db * xp.exp(-((apart / one.width) ** 2)) * fading * (distance > 0.0)
    return lines


def _within_a_turn(angle: Values, plane: Plane) -> Values:
    """The remainder over a full turn, of angles from -2 pi to 4 pi; exact, and quicker than ``%``."""
    xp = plane.xp
    return xp.where(angle < 0.0, angle + TURN, xp.where(angle >= TURN, angle - TURN, angle))


def _calcifications_db(draws: LesionDraws, at: _Polar, plane: Plane) -> Values:
    xp, points = plane.xp, plane.xp.zeros_like(at.distance)
    for part in draws.calcifications:
        one = part.draws
        spot = xp.exp(-((plane.depth - one.y) ** 2) / 5e-5) * xp.exp(-((plane.lateral - one.x) ** 2) / 5e-5)
        points[part.rows] += one.level_db * spot
    return points


def _attenuation(draws: LesionDraws, within: Values, at: _Polar, plane: Plane) -> Values:
    xp = plane.xp
    loss = draws.loss_db * within
    for part in draws.edge_db:  # refraction where the beam grazes the outline
        angle, distance = at.angle[part.rows], at.distance[part.rows]
        loss[part.rows] += part.draws * (xp.abs(xp.cos(angle)) ** 12 * xp.exp(-((distance / 0.012) ** 2)))
    return loss


def paint_lesion(draws: LesionDraws, tissue: Tissue, plane: Plane) -> DrawnLesion:
    """Draw a lesion into healthy tissue.

    Args:
        draws: the lesion.
        tissue: the healthy tissue, not changed.
        plane: the picture's grid.

    Returns:
        New tissue maps and the mask of the exact outline.
    """
    at, mask = _polar(draws.contour, plane)
    within = 0.5 * (1.0 - plane.xp.tanh(at.beyond / draws.softness))
    echo = tissue.echo_db + _rim_db(draws, at, plane)
    if draws.spicules:
        echo += _spicules_db(draws, at, plane)
    echo += (_inside_db(draws, plane) - echo) * within
    if draws.calcifications:
        echo += _calcifications_db(draws, at, plane)
    # The lesion replaces tissue, so it replaces the tissue's own excess loss too.
    loss = tissue.attenuation * (1.0 - within) + _attenuation(draws, within, at, plane)
    return DrawnLesion(Tissue(echo, loss), mask)
