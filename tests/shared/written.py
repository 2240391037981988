"""Identifiers written into pictures: what names, dates and numbers look like on screens, in several scripts."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

IDENTIFIERS: Final = (
    "MUSTERFRAU, ANNA",
    "Anna Musterfrau-Öztürk",
    "GARCÍA LÓPEZ MARÍA",
    "Nguyễn Thị Hạnh",
    "Łucja Wiśniewska",
    "O'Brien^Siobhán",
    "Иванова Мария Петровна",
    "Παπαδοπούλου Ελένη",
    "Ժաննա Պետրոսյան",
    "ანა ბერიძე",
    "فاطمة الزهراء",
    "רחל כהן",
    "Dr. K. Weber",
    "AM",
    "12/03/1971",
    "1971-03-12",
    "12.03.71",
    "12 MAR 1971",
    "14:22:07",
    "Geb. 04.07.1961",
    "63 ANOS",
    "F 045Y",
    "MRN 00482913",
    "ID: 7734-881",
    "ACC 20210312-0042",
    "123456789",
    "+49 30 901820",
    "(555) 010-7788",
    "12 Elm Street, Springfield",
    "St Elsewhere General Hospital",
    "HOSPITAL UNIVERSITARIO",
    "MAMA ESQUERDA QSE",
)
"""Names, initials, ages, dates, times, numbers, addresses and places; all invented."""

HARMLESS: Final = (
    *("+", "x", "1", "A", "3", "2.5", "72", "12.3 mm", "x 14.8mm", "D 7.8MM", "Dist A 8.1 mm"),
    *("MI 1.2", "TIs 0.4", "FR 32Hz", "Gain: 68 %", "1 + 2.1 cm"),
)
"""What systems write that names nobody: calipers, measurements, scales, settings."""

_FONTS: Final = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf")


@dataclass(frozen=True)
class Written:
    """How something is written.

    Attributes:
        words: what.
        font: one of the faces, or the bitmap letters of old systems (Latin alone).
        size: of the letters, pixels.
        grey: level.
        turned: degrees.
    """

    words: str
    font: str = _FONTS[0]
    size: int = 14
    grey: int = 255
    turned: int = 0


def write(picture: NDArray[np.uint8], written: Written, left: int, top: int) -> NDArray[np.uint8]:
    """The picture with the words in it, their corner at a place."""
    stamp = stamped(written)
    shown = Image.fromarray(picture)
    shown.paste(written.grey, (left, top), stamp)
    return np.asarray(shown, dtype=np.uint8)


def stamped(written: Written) -> Image.Image:
    """The words' shape: how far each pixel is covered."""
    face = _face(written.font, written.size)
    left, top, right, bottom = (round(edge) for edge in face.getbbox(written.words))
    stamp = Image.new("L", (right - left + 2, bottom - top + 2), 0)
    ImageDraw.Draw(stamp).text((1 - left, 1 - top), written.words, fill=255, font=face)
    return stamp.rotate(written.turned, expand=True, resample=Image.Resampling.BICUBIC) if written.turned else stamp


def drawn_at_random(rng: np.random.Generator, words: str) -> Written:
    """The words in some face, size, grey level; now and then down the side or aslant."""
    latin = words.isascii()
    face = str(rng.choice([*_FONTS, *(["bitmap"] if latin else [])]))
    turned = int(rng.choice([0, 0, 0, 0, 0, 0, 0, 0, 90, 8]))
    return Written(words, face, int(rng.integers(10, 26)), int(rng.choice([255, 255, 230, 200, 170])), turned)


def place(rng: np.random.Generator, shape: tuple[int, ...], written: Written) -> tuple[int, int]:
    """A corner that leaves the words inside a picture, if they fit."""
    width, height = stamped(written).size
    return int(rng.integers(0, max(1, shape[1] - width))), int(rng.integers(0, max(1, shape[0] - height)))


@cache
def _face(name: str, size: int) -> Any:
    if name == "bitmap":
        return ImageFont.load_default_imagefont()
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name), size)
