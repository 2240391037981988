"""Simulated B-mode pictures of breasts, with class, lesion outline and box known exactly.

Promises
- Picture ``i`` of a call depends only on ``(seed, start_index + i, its class name, its scanner)``: batches of any size,
  in any order, in any process give the same pixels. Tissue, lesion and speckle come from separate streams, so the
  same index shows the same patient when only the class or the scanner changes. Another ``scan`` of a recipe is the same
  breast, lesion and settings with other speckle, depth-gain error and overlays; another ``lesion`` is the same breast
  and settings with the lesion of another picture, brought to this breast's depth and size.
- Images are float32 in 0..1; the box is the bounding box of the outline; a normal picture has an empty mask and a
  box of zeros.
- Nothing was fitted to patients: see ``lesions`` and ``scanners`` for where the figures come from.

Not promised: the same pixels at another ``size`` above 128 (the speckle grid grows with it), nor across versions of
numpy (the promise of ``numpy.random.Generator`` holds within one).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import NO_LESION, Box
from sonoshare_shared.science.imaging import box_of_mask
from sonoshare_shared.science.phantom.acoustics import ScanDraws, draw_scan, draw_setting, scan
from sonoshare_shared.science.phantom.anatomy import Tissue, TissueDraws, draw_frame, draw_tissue, paint_tissue
from sonoshare_shared.science.phantom.arithmetic import Array, NumpyArithmetic, Part, Plane, Values
from sonoshare_shared.science.phantom.fields import Source
from sonoshare_shared.science.phantom.lesion_drawing import LesionDraws, draw_details, paint_lesion
from sonoshare_shared.science.phantom.lesions import LesionParameters, Pathology, draw_lesion
from sonoshare_shared.science.phantom.noise import Noise, host_noise
from sonoshare_shared.science.phantom.overlays import NO_OVERLAY, draw_overlay, marked
from sonoshare_shared.science.phantom.scanners import SCANNER_STYLES

CLASSES: tuple[str, ...] = ("benign", "malignant", "normal", "in-situ")
"""Class names the simulator understands; the position seeds the class's stream, so new ones go to the end."""
GRID_SIDE = 128
"""Smallest internal resolution; smaller pictures are averaged down from it."""
LARGEST = 512


@dataclass(frozen=True)
class PhantomBatch:
    """Simulated pictures and what is known about them.

    Attributes:
        images: float32 [n, size, size] in 0..1.
        masks: bool [n, size, size], the lesion's outline filled.
        boxes: float32 [n, 4], (x, y, width, height) of the lesion in fractions of the image.
        labels: int64 [n], index in the ``classes`` of the call.
        scanners: int64 [n], index in ``SCANNER_STYLES``.
        parameters: the lesion of each picture, None for a normal one.
        sizes_mm: float64 [n, 2], width and depth of each picture in millimetres.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scanners: NDArray[np.int64]
    parameters: tuple[LesionParameters | None, ...]
    sizes_mm: NDArray[np.float64]


@dataclass(frozen=True)
class Phantom:
    """One simulated picture at the internal resolution; see :class:`PhantomBatch` for the fields."""

    image: Array
    mask: NDArray[np.bool_]
    box: Box
    size_mm: tuple[float, float]
    lesion: LesionParameters | None


@dataclass(frozen=True)
class PhantomDraws:
    """All that is random in one picture.

    Attributes:
        tissue: the healthy breast.
        lesion: what is drawn into it, if anything.
        scan: the exposure.
        sheet: the scanner's marks, [..., n, n], NaN where there are none.
    """

    tissue: TissueDraws
    lesion: tuple[Part[LesionDraws], ...]
    scan: ScanDraws
    sheet: Values


@dataclass(frozen=True)
class Drawn:
    """One picture before it is painted; see :class:`Phantom` for the fields."""

    draws: PhantomDraws
    size_mm: tuple[float, float]
    lesion: LesionParameters | None


@dataclass(frozen=True)
class Recipe:
    """What fixes one picture of a series.

    Attributes:
        index: position in the series, at least 0.
        kind: class name, one of ``CLASSES``.
        scanner: index in ``SCANNER_STYLES``.
        scan: 0 is the picture of the series; any other number scans the same breast again.
        lesion: position in the series whose lesion, of the same class, grows in this breast; None for its own.
    """

    index: int
    kind: str
    scanner: int
    scan: int = 0
    lesion: int | None = None


def _streams(seed: int, recipe: Recipe, kind: int) -> tuple[np.random.Generator, ...]:
    """Independent generators of tissue, lesion and scan of one picture."""
    grown = recipe.index if recipe.lesion is None else recipe.lesion
    keys = ((seed, recipe.index, 0), (seed, grown, 1, kind), (seed, recipe.index, 2, recipe.scanner))
    return tuple(np.random.default_rng(np.random.SeedSequence(key)) for key in keys)


def _box(mask: NDArray[np.bool_]) -> Box:
    box, (height, width) = box_of_mask(mask), mask.shape
    return NO_LESION if box is None else box.fractions(width, height)


def draw_one(
    recipe: Recipe, *, seed: int, side: int = GRID_SIDE, overlays: bool = True, noise: Noise = host_noise
) -> Drawn:
    """Draw all that is random in one picture.

    Args:
        recipe: which picture of the series.
        seed: seed of the series, at least 0.
        side: side of the grid in pixels.
        overlays: whether the scanner writes over the picture.
        noise: draws white noise. Another noise than numpy's leaves class, outline and box as they are, and all that is
            drawn before it; what is drawn after it is another draw of the same.
    """
    style, kind = SCANNER_STYLES[recipe.scanner], CLASSES.index(recipe.kind)
    tissue_rng, lesion_rng, scan_rng = _streams(seed, recipe, kind)
    size_mm = (float(scan_rng.uniform(*style.width_mm)), float(scan_rng.uniform(*style.depth_mm)))
    frame = draw_frame(tissue_rng, *size_mm)
    tissue = draw_tissue(Source(tissue_rng, noise, side), frame)
    lesion: LesionParameters | None = None
    details: tuple[Part[LesionDraws], ...] = ()
    if recipe.kind != "normal":
        lesion = draw_lesion(lesion_rng, cast("Pathology", recipe.kind), frame)
        details = (Part(draw_details(Source(lesion_rng, noise, side), lesion)),)
    setting = draw_setting(scan_rng, style)
    if recipe.scan:
        scan_rng = np.random.default_rng(np.random.SeedSequence((seed, recipe.index, 3, recipe.scanner, recipe.scan)))
    exposure = draw_scan(Source(scan_rng, noise, side), style=style, setting=setting, size_mm=size_mm)
    sheet = draw_overlay(scan_rng, style.overlay if overlays else NO_OVERLAY, lesion, side)
    return Drawn(PhantomDraws(tissue, details, exposure, sheet), size_mm, lesion)


def paint(draws: PhantomDraws, plane: Plane) -> tuple[Values, Values]:
    """The picture, grey levels in 0..1 [..., n, n], and the lesion's mask, bool [..., n, n]."""
    tissue = paint_tissue(draws.tissue, plane)
    mask = plane.xp.zeros_like(tissue.echo_db, dtype=plane.xp.bool)
    for part in draws.lesion:
        healthy = Tissue(tissue.echo_db[part.rows], tissue.attenuation[part.rows])
        drawn = paint_lesion(part.draws, healthy, plane)
        tissue.echo_db[part.rows], tissue.attenuation[part.rows] = drawn.tissue.echo_db, drawn.tissue.attenuation
        mask[part.rows] = drawn.mask
    return marked(plane.xp, scan(draws.scan, tissue, plane), draws.sheet), mask


@lru_cache
def _plane(side: int) -> Plane:
    return Plane(NumpyArithmetic(), side)


def simulate_one(recipe: Recipe, *, seed: int, side: int = GRID_SIDE, overlays: bool = True) -> Phantom:
    """Simulate one picture at its internal resolution; arguments as `draw_one`.

    Returns:
        The picture, its mask, box and lesion.
    """
    drawn = draw_one(recipe, seed=seed, side=side, overlays=overlays)
    image, mask = paint(drawn.draws, _plane(side))
    return Phantom(image, mask, _box(mask), drawn.size_mm, drawn.lesion)


def grid_side(size: int) -> int:
    """Side of the grid on which pictures of a size are simulated, pixels.

    Raises:
        InputError: the size is not understood.
    """
    side = max(GRID_SIDE, size)
    if size < 1 or size > LARGEST or side % size or side % GRID_SIDE:
        raise InputError(f"cannot simulate pictures of {size} px", remedy="use a size of 16, 32, 64, 128 or 256")
    return side


def keep_freed_memory() -> None:
    """Let the process keep the memory of a picture for the next one.

    The C library of Linux gives freed blocks of this size back to the system and asks for them again, page by page,
    which takes a tenth to a fifth of the time of a picture, until the process has once freed a much larger block.
    """
    np.empty(2**24, dtype=np.uint8)  # 16 MiB that nobody touches, freed at once


def simulate_recipes(
    recipes: Sequence[Recipe],
    labels: NDArray[np.integer],
    *,
    seed: int,
    size: int = 64,
    overlays: bool = True,
) -> PhantomBatch:
    """Simulate chosen pictures of a series.

    Args:
        recipes: which pictures.
        labels: int [n], what to call the class of each; the simulator does not read it.
        seed: seed of the series, at least 0.
        size: side of the pictures in pixels, a divisor or power-of-two multiple of 128, at most 512.
        overlays: whether scanners write over their pictures.

    Returns:
        The pictures in the order of the recipes.

    Raises:
        InputError: the size is not understood.
    """
    side, n = grid_side(size), len(recipes)
    images = np.empty((n, size, size), dtype=np.float32)
    masks = np.empty((n, size, size), dtype=np.bool_)
    boxes = np.empty((n, 4), dtype=np.float32)
    sizes_mm = np.empty((n, 2), dtype=np.float64)
    lesions: list[LesionParameters | None] = []
    factor = side // size
    keep_freed_memory()
    for i, recipe in enumerate(recipes):
        one = simulate_one(recipe, seed=seed, side=side, overlays=overlays)
        images[i] = one.image.reshape(size, factor, size, factor).mean(axis=(1, 3))
        masks[i] = one.mask.reshape(size, factor, size, factor).mean(axis=(1, 3)) >= 0.5
        boxes[i] = one.box
        sizes_mm[i] = one.size_mm
        lesions.append(one.lesion)
    scanners = np.array([recipe.scanner for recipe in recipes], dtype=np.int64)
    kinds = np.asarray(labels, dtype=np.int64)
    return PhantomBatch(images, masks, boxes, kinds, scanners, tuple(lesions), sizes_mm)


def _indices(
    values: NDArray[np.integer] | Sequence[int] | None, default: NDArray[np.int64], count: int, what: str
) -> NDArray[np.int64]:
    """Check one index per picture, or take the default."""
    if values is None:
        return default
    indices = np.asarray(values, dtype=np.int64)
    if indices.shape != default.shape:
        raise InputError(f"{what}: {indices.shape} given for {default.size} pictures", remedy="give one for each")
    if indices.size and not (indices.min() >= 0 and indices.max() < count):
        raise InputError(f"{what} outside 0..{count - 1}", remedy=f"there are {count}")
    return indices


def simulate(
    n: int,
    *,
    seed: int,
    size: int = 64,
    classes: Sequence[str] = ("benign", "malignant"),
    labels: NDArray[np.integer] | Sequence[int] | None = None,
    scanners: NDArray[np.integer] | Sequence[int] | None = None,
    start_index: int = 0,
    overlays: bool = True,
) -> PhantomBatch:
    """Simulate pictures ``start_index`` to ``start_index + n - 1`` of a series.

    Args:
        n: number of pictures, 0 or more.
        seed: seed of the series, at least 0.
        size: side of the pictures in pixels, a divisor or power-of-two multiple of 128, at most 512.
        classes: class names out of ``CLASSES``; labels index into it.
        labels: class of each picture, shape [n]; by default the classes take turns.
        scanners: scanner of each picture, shape [n]; by default they take turns, each over all classes.
        start_index: position of the first picture in the series.
        overlays: whether scanners write over their pictures.

    Returns:
        The pictures with masks, boxes, labels, scanners and lesion parameters.

    Raises:
        InputError: for a class, size, label or scanner that is not understood.
    """
    unknown = [name for name in classes if name not in CLASSES]
    if unknown or not classes:
        raise InputError(f"phantom classes not understood: {unknown}", remedy=f"use some of {', '.join(CLASSES)}")
    if n < 0:
        raise InputError(f"cannot simulate {n} pictures", remedy="give 0 or more")
    if seed < 0 or start_index < 0:
        raise InputError("seed and start index must not be negative", remedy="use 0 or more")
    position = start_index + np.arange(n, dtype=np.int64)
    kinds = _indices(labels, position % len(classes), len(classes), "labels")
    machines = _indices(scanners, position // len(classes) % len(SCANNER_STYLES), len(SCANNER_STYLES), "scanners")
    chosen = zip(position.tolist(), kinds.tolist(), machines.tolist(), strict=True)
    recipes = [Recipe(index, classes[kind], scanner) for index, kind, scanner in chosen]
    return simulate_recipes(recipes, kinds, seed=seed, size=size, overlays=overlays)
