"""Planted edits: the ways in which a copy of a training image may differ from it.

The copy detector is measured by planting edited copies of *public* images (phantoms, or a public data set) and
counting how many it finds. Each edit takes an image, an unrelated image (used by blends) and a generator, and
returns an image of the same shape. Images are float32 [S, S] in 0..1; pixel sizes below are fractions of S.

Promises: deterministic given the generator; values stay in 0..1. Does not promise that a generative model's own
near-copies look like any of these: they are a yardstick.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoshare_shared.science.levels import eight_bits

Picture = NDArray[np.float32]
_Edit = Callable[[Picture, Picture, np.random.Generator], Picture]


@dataclass(frozen=True)
class PlantedEdit:
    """One kind of planted copy.

    Args:
        name: short name, stable (field of the benchmark).
        apply: the edit.
        blind_spot: known to be missed often; printed as such, kept out of the declared recall.
    """

    name: str
    apply: _Edit
    blind_spot: bool = False


def _clip(image: NDArray[np.floating]) -> Picture:
    return np.asarray(np.clip(image, 0.0, 1.0), dtype=np.float32)


def _resized(image: Picture, side: int) -> Picture:
    shrinks = side < image.shape[0]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((side, side), how), dtype=np.float32)


def _flip(image: Picture, _: Picture, __: np.random.Generator) -> Picture:
    return image[:, ::-1].copy()


def _jpeg(quality: int) -> _Edit:
    def edit(image: Picture, _: Picture, __: np.random.Generator) -> Picture:
        buffer = io.BytesIO()
        Image.fromarray(eight_bits(image)).save(buffer, format="JPEG", quality=quality)
        with Image.open(buffer) as picture:
            return _clip(np.asarray(picture, dtype=np.float32) / 255)

    return edit


def _crop(share: float) -> _Edit:
    def edit(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
        side = image.shape[0]
        kept = max(2, round(side * share))
        top, left = rng.integers(0, side - kept + 1, size=2)
        return _clip(_resized(np.ascontiguousarray(image[top : top + kept, left : left + kept]), side))

    return edit


def _rotate(degrees: float) -> _Edit:
    def edit(image: Picture, _: Picture, rng: np.random.Generator) -> Picture:
        angle = degrees if rng.integers(2) else -degrees
        margin = image.shape[0] // 4  # edge pixels repeated, so that no black corner gives the edit away
        framed = np.pad(image, margin, mode="edge")
        turned = np.asarray(Image.fromarray(framed).rotate(angle, Image.Resampling.BILINEAR), dtype=np.float32)
        return _clip(turned[margin:-margin, margin:-margin])

    return edit


def _gamma(power: float) -> _Edit:
    return lambda image, _, __: _clip(image**power)


def _brighten(factor: float) -> _Edit:
    return lambda image, _, __: _clip(image * factor)


def _noise(sigma: float) -> _Edit:
    return lambda image, _, rng: _clip(image + sigma * rng.standard_normal(image.shape))


def _speckle(sigma: float) -> _Edit:
    return lambda image, _, rng: _clip(image * (1 + sigma * rng.standard_normal(image.shape)))


def _blend(weight: float) -> _Edit:
    return lambda image, other, _: _clip(weight * image + (1 - weight) * other)


def _shrink(share: float) -> _Edit:
    def edit(image: Picture, _: Picture, __: np.random.Generator) -> Picture:
        return _clip(_resized(_resized(image, max(2, round(image.shape[0] * share))), image.shape[0]))

    return edit


def _flipped_crop_gamma(image: Picture, other: Picture, rng: np.random.Generator) -> Picture:
    return _clip(_crop(0.9)(_flip(image, other, rng), other, rng) ** 1.4)


EDITS: Final[tuple[PlantedEdit, ...]] = (
    PlantedEdit("exact", lambda image, _, __: image.copy()),
    PlantedEdit("flip", _flip),
    PlantedEdit("jpeg30", _jpeg(30)),
    PlantedEdit("crop95", _crop(0.95)),
    PlantedEdit("crop90", _crop(0.9)),
    PlantedEdit("crop80", _crop(0.8)),
    PlantedEdit("rotate3", _rotate(3)),
    PlantedEdit("rotate8", _rotate(8), blind_spot=True),
    PlantedEdit("gamma0.6", _gamma(0.6)),
    PlantedEdit("gamma1.7", _gamma(1.7)),
    PlantedEdit("bright1.4", _brighten(1.4)),
    PlantedEdit("noise25", _noise(25 / 255)),
    PlantedEdit("speckle", _speckle(0.3)),
    PlantedEdit("blend0.8", _blend(0.8)),
    PlantedEdit("blend0.6", _blend(0.6), blind_spot=True),
    PlantedEdit("blend0.5", _blend(0.5), blind_spot=True),
    PlantedEdit("shrink38", _shrink(48 / 128)),
    PlantedEdit("shrink19", _shrink(24 / 128)),
    PlantedEdit("flip_crop90_gamma", _flipped_crop_gamma),
)
"""The table of edits; the strengths are those at which the fused detector was measured."""
