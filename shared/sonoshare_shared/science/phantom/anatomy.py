"""Layered anatomy of the breast as maps of echogenicity and attenuation.

From the transducer down: skin, subcutaneous fat crossed by Cooper's ligaments, fibroglandular tissue, the pectoral
muscle with its fascia, and what lies behind (ribs, lung: mostly dark). Thicknesses are in millimetres and ordinary for
adult breasts; glandular tissue has the reference level of 0 dB, fat and muscle lie 6-16 dB below it.

Promises: maps depend on the generator, the grid and the frame's size only. Random numbers are drawn in the order in
which the fields of a ``...Draws`` are listed. Echogenicity is in decibels (amplitude,
20 log10); attenuation is the *excess* two-way loss, in decibels per picture depth, beyond what the scanner's depth gain
makes up for. It is a picture of anatomy, not a wave simulation: no refraction, no reverberation between layers.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.phantom.arithmetic import Array, Part, Plane, Values
from sonoshare_shared.science.phantom.fields import (
    FieldDraws,
    Source,
    ridges,
    smooth_curve,
    smooth_field,
    smooth_step,
)


@dataclass(frozen=True)
class Frame:
    """Size of the picture and the mean depth of its layers (fractions of the depth)."""

    width_mm: float
    depth_mm: float
    gland_top: float
    muscle_top: float


@dataclass(frozen=True)
class Tissue:
    """Maps over the grid, both [..., n, n]: echogenicity in dB, excess two-way attenuation in dB per picture depth."""

    echo_db: Values
    attenuation: Values


@dataclass(frozen=True)
class _Layers:
    """Depth of each border for every column, shape [..., 1, n], fractions of the depth."""

    skin: Values
    gland: Values
    muscle: Values
    deep: Values


@dataclass(frozen=True)
class _FatDraws:
    """Subcutaneous fat: lobules parted by septa; levels in dB."""

    lobules: FieldDraws
    septa_width: Values
    septa_db: Values
    grain: FieldDraws
    grain_db: Values
    level_db: Values


@dataclass(frozen=True)
class _GlandDraws:
    """Fibroglandular tissue: textures of three scales and bright strands; levels in dB."""

    fine: FieldDraws
    fine_db: Values
    coarse: FieldDraws
    coarse_db: Values
    broad: FieldDraws
    broad_db: Values
    lines: FieldDraws
    strand_width: Values
    strand_db: Values
    level_db: Values


@dataclass(frozen=True)
class _LobuleDraws:
    """Fat lobules within the gland: the commonest mimic of a lesion."""

    field: FieldDraws
    drop_db: Values
    threshold: Values


@dataclass(frozen=True)
class _MuscleDraws:
    """Pectoral muscle, the fascia in front of it, and what lies behind; levels in dB.

    ``shown`` says for each column whether the fascia shows, bool [..., 1, n].
    """

    fibres: FieldDraws
    fibres_db: Values
    level_db: Values
    fascia_db: Values
    shown: Values
    behind_db: Values
    behind: FieldDraws


@dataclass(frozen=True)
class _ShadowDraws:
    """A column that loses signal from some depth on: poor contact or a steep ligament, in every class alike."""

    width: Values
    column: Values
    start: Values
    loss_db: Values


@dataclass(frozen=True)
class TissueDraws:
    """What is random in the healthy tissue of a picture.

    ``bend`` is the number of rows by which each column is moved up, integers [..., 1, n].
    """

    layers: _Layers
    gland: _GlandDraws
    fat: _FatDraws
    lobules: tuple[Part[_LobuleDraws], ...]
    muscle: _MuscleDraws
    bend: Values
    skin_db: Values
    overall_db: Values
    overall_power: Values
    shadows: tuple[Part[_ShadowDraws], ...]


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


def _draw_layers(source: Source, frame: Frame) -> _Layers:
    rng = source.rng

    def border(depth: float, swing_mm: float) -> Array:
        curve = smooth_curve(rng, source.n, rng.uniform(0.12, 0.25))[None, :]
        return np.asarray(depth + swing_mm / frame.depth_mm * curve)

    skin = rng.uniform(0.8, 2.0) / frame.depth_mm
    muscle_mm = rng.uniform(5.0, 12.0)
    return _Layers(
        skin=border(skin, 0.1),
        gland=border(frame.gland_top, rng.uniform(0.3, 1.6)),
        muscle=border(frame.muscle_top, rng.uniform(0.4, 1.8)),
        deep=border(frame.muscle_top + muscle_mm / frame.depth_mm, rng.uniform(0.4, 1.2)),
    )


def _draw_fat(source: Source) -> _FatDraws:
    rng = source.rng
    return _FatDraws(
        lobules=source.field(rng.uniform(0.02, 0.04), rng.uniform(0.08, 0.18)),
        septa_width=rng.uniform(0.08, 0.18),
        septa_db=rng.uniform(8.0, 18.0),
        grain=source.field(0.008, rng.uniform(0.02, 0.06)),
        grain_db=rng.uniform(1.0, 2.5),
        level_db=rng.uniform(-17.0, -9.0),
    )


def _draw_gland(source: Source) -> _GlandDraws:
    rng = source.rng
    return _GlandDraws(
        fine=source.field(rng.uniform(0.005, 0.010), rng.uniform(0.04, 0.10)),
        fine_db=rng.uniform(2.0, 5.5),
        coarse=source.field(rng.uniform(0.02, 0.05), rng.uniform(0.06, 0.14)),
        coarse_db=rng.uniform(1.5, 4.5),
        broad=source.field(0.07, 0.12),
        broad_db=rng.uniform(0.5, 3.5),
        lines=source.field(rng.uniform(0.010, 0.022), rng.uniform(0.08, 0.20)),
        strand_width=rng.uniform(0.08, 0.20),
        strand_db=rng.uniform(0.0, 14.0),
        level_db=rng.uniform(-5.0, 1.0),
    )


def _draw_lobules(source: Source) -> tuple[Part[_LobuleDraws], ...]:
    rng = source.rng
    if rng.random() >= 0.5:
        return ()
    lobules = _LobuleDraws(
        field=source.field(rng.uniform(0.03, 0.06), rng.uniform(0.05, 0.10)),
        drop_db=rng.uniform(4.0, 10.0),
        threshold=rng.uniform(1.0, 1.8),
    )
    return (Part(lobules),)


def _draw_muscle(source: Source) -> _MuscleDraws:
    rng = source.rng
    return _MuscleDraws(
        fibres=source.field(0.008, rng.uniform(0.12, 0.22)),
        fibres_db=rng.uniform(2.5, 6.0),
        level_db=rng.uniform(-16.0, -8.0),
        fascia_db=rng.uniform(0.0, 13.0),
        shown=smooth_curve(rng, source.n, 0.1)[None, :] > -0.5,
        behind_db=rng.uniform(-34.0, -16.0),
        behind=source.field(0.03, 0.08),
    )


def _draw_bend(source: Source) -> NDArray[np.int64]:
    """Rows by which each column moves: layers and strands of a compressed breast are never level."""
    swing = source.rng.uniform(0.0, 0.03) * source.n
    return np.rint(swing * smooth_curve(source.rng, source.n, 0.25)).astype(np.int64)[None, :]


def _draw_shadow(rng: np.random.Generator) -> _ShadowDraws:
    return _ShadowDraws(
        width=rng.uniform(0.015, 0.07),
        column=rng.uniform(0.0, 1.0),
        start=rng.uniform(0.0, 0.4),
        loss_db=rng.uniform(2.0, 9.0),
    )


def draw_tissue(source: Source, frame: Frame) -> TissueDraws:
    """Draw what is random in the healthy tissue of one picture.

    Args:
        source: of random numbers.
        frame: the picture's size and mean layer depths.
    """
    rng = source.rng
    return TissueDraws(
        layers=_draw_layers(source, frame),
        gland=_draw_gland(source),
        fat=_draw_fat(source),
        lobules=_draw_lobules(source),
        muscle=_draw_muscle(source),
        bend=_draw_bend(source),
        skin_db=rng.uniform(-2.0, 6.0),
        overall_db=rng.uniform(0.0, 15.0) * rng.uniform(1.0, 2.2),
        overall_power=rng.uniform(0.3, 1.4),
        shadows=tuple(Part(_draw_shadow(rng)) for _ in range(int(rng.poisson(0.8)))),
    )


def _fat_db(draws: _FatDraws, plane: Plane) -> Values:
    septa = ridges(plane, smooth_field(draws.lobules, plane), draws.septa_width) * draws.septa_db
    return draws.level_db + septa + smooth_field(draws.grain, plane) * draws.grain_db


def _gland_db(draws: _GlandDraws, plane: Plane) -> Values:
    fine = smooth_field(draws.fine, plane) * draws.fine_db
    coarse = smooth_field(draws.coarse, plane) * draws.coarse_db
    broad = smooth_field(draws.broad, plane) * draws.broad_db
    strands = ridges(plane, smooth_field(draws.lines, plane), draws.strand_width) * draws.strand_db
    return draws.level_db + fine + coarse + broad + strands


def _shadows(draws: tuple[Part[_ShadowDraws], ...], loss: Values, plane: Plane) -> Values:
    """``loss``, which is used up, and the columns that lose signal from some depth on."""
    xp, thick = plane.xp, 0.12
    for part in draws:
        one = part.draws
        column = xp.exp(-(((plane.lateral - one.column) / one.width) ** 2))
        row = xp.exp(-(((plane.depth - one.start) / thick) ** 2)) / (thick * math.sqrt(np.pi))
        loss[part.rows] += one.loss_db * column * row
    return loss


def paint_tissue(draws: TissueDraws, plane: Plane) -> Tissue:
    """The healthy tissue: echogenicity and excess attenuation over the grid."""
    xp, depth, layers, muscle = plane.xp, plane.depth, draws.layers, draws.muscle
    gland, fat = _gland_db(draws.gland, plane), _fat_db(draws.fat, plane)
    for part in draws.lobules:
        lobules = smooth_field(part.draws.field, plane)
        gland[part.rows] -= part.draws.drop_db * smooth_step(plane, lobules, part.draws.threshold, 0.12)
    echo = fat + (gland - fat) * smooth_step(plane, depth, layers.gland, 0.012)
    muscle_db = muscle.level_db + smooth_field(muscle.fibres, plane) * muscle.fibres_db
    echo += (muscle_db - echo) * smooth_step(plane, depth, layers.muscle, 0.010)
    fascia = xp.exp(-(((depth - layers.muscle) / 0.008) ** 2)) * muscle.fascia_db
    echo += fascia * muscle.shown
    behind = muscle.behind_db + 3.0 * smooth_field(muscle.behind, plane)
    echo += (behind - echo) * smooth_step(plane, depth, layers.deep, 0.015)
    echo = plane.on.shifted(echo, draws.bend, plane.n)
    echo = xp.where(depth < layers.skin, draws.skin_db, echo)
    shadows = _shadows(draws.shadows, xp.zeros_like(echo), plane)
    return Tissue(echo, draws.overall_db * depth**draws.overall_power + shadows)
