"""Screens as systems show them: an invented picture in the middle of names, dates, a ruler, a grey bar and a logo."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.phantom.simulator import Recipe, simulate_one

NAMES: Final = "MUSTERFRAU, ANNA   04.07.1961   MRN 00482913"
HOSPITAL: Final = "St Elsewhere General Hospital    12/03/2021 14:22:07"


def tissue(width: int, height: int, seed: int = 0, style: int = 0) -> NDArray[np.uint8]:
    """A phantom without marks, uint8 [height, width], with speckle at the scale of its pixels."""
    image = simulate_one(Recipe(seed, "benign", style), seed=seed, overlays=False).image
    enlarged = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    grain = np.random.default_rng(seed).normal(1.0, 0.12, (height, width))
    return eight_bits(np.clip(enlarged * grain + 0.01, 0.0, 1.0))


def sector(picture: NDArray[np.uint8], ground: int = 0) -> NDArray[np.uint8]:
    """The picture as a convex probe shows it: what is outside the fan is ground."""
    height, width = picture.shape
    y, x = np.mgrid[0:height, 0:width]
    apex, across = -0.35 * height, x - (width - 1) / 2
    radius = np.hypot(across, y - apex)
    inside = (radius > 0.45 * height) & (radius < 1.35 * height) & (np.abs(across) < (y - apex) * 0.62)
    return np.where(inside, picture, np.uint8(ground))


def screen(
    picture: NDArray[np.uint8], left: int, top: int, size: tuple[int, int] = (1024, 768), ground: int = 0
) -> NDArray[np.uint8]:
    """Place a picture on a screen (width, height), and write around it what machines write."""
    shown = Image.new("L", size, ground)
    pen = ImageDraw.Draw(shown)
    width, height = size
    unit = height / 768
    small, large = font(round(15 * unit)), font(round(22 * unit))
    pen.rectangle((0, 0, width, round(0.07 * height)), fill=ground + 40)
    pen.text((round(0.12 * width), 2), NAMES, fill=240, font=large)
    pen.text((round(0.12 * width), round(0.035 * height)), HOSPITAL, fill=220, font=small)
    for line, words in enumerate(("FR 32Hz", "RS", "2D 68%", "C 60", "P Low", "HGen", "MI 1.2", "TIs 0.4", "L12-5")):
        pen.text((4, round((0.1 + 0.026 * line) * height)), words, fill=200, font=small)
    pen.text((8, 4), "VENUS", fill=255, font=large)
    pen.text((round(0.3 * width), round(0.955 * height)), "Dist A 12.3 mm   Dist B 8.1 mm", fill=250, font=small)
    shown.paste(Image.fromarray(picture), (left, top))
    right, bottom = left + picture.shape[1], top + picture.shape[0]
    for tick in range(top, bottom, max(8, picture.shape[0] // 12)):
        pen.line((right + 14, tick, right + 20, tick), fill=220)
    bar = np.repeat(np.linspace(255, 0, picture.shape[0] // 3).astype(np.uint8)[:, None], round(14 * unit), axis=1)
    shown.paste(Image.fromarray(bar), (right + round(40 * unit), top))
    return np.asarray(shown, dtype=np.uint8)


def font(size: int) -> Any:
    return ImageFont.load_default(size)
