"""Which text in a picture may stay: what systems write that names nobody. Everything else goes.

May stay
- one sign alone: a caliper's cross, its letter or number, a mark;
- numbers of up to three digits before the point and two after it, with or without a unit: scales, depths, distances,
  ratios; at most two of them in one line that have neither a unit nor a name;
- a setting or measurement of the list below in front of such a number: ``MI 1.2``, ``Dist A 8.1 mm``.

Goes
- words and initials, whatever they say, and letters that no list below has;
- digits in the shape of dates, times, years, telephone and record numbers: four in a row, or joined by anything but one
  decimal point;
- what was found and could not be read with certainty, unless it has the shape of one sign, or of a caliper with its
  number.

A logo is read as letters, and goes. Not found, and so not gone: drawings without letters (body marks, calipers, logos
that are pictures).
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

CERTAIN: Final = 0.85
"""Confidence from which a measurement is a measurement. Letters that the reader does not know come out as digits, too
(Hebrew as ``103 707``, at 0.64)."""
SURE: Final = 0.9
"""Confidence from which two signs in a square are those signs; below it they are a caliper with its number, misread."""
_ONE_SIGN: Final = 2.2
"""Ratio of length to height up to which a line may hold one sign alone; with certainty, one and a half times that."""
_SQUARE: Final = 1.35
"""The same of a caliper with its number, which may be read as a letter; two letters are a logo or initials."""
_BARE_NUMBERS: Final = 2

_UNITS: Final = frozenset({"mm", "cm", "m", "cc", "ml", "hz", "khz", "mhz", "db", "s", "ms", "fps", "%"})
_SETTINGS: Final = frozenset(
    {
        *(
            "mi",
            "tis",
            "tib",
            "tic",
            "tls",
            "tlb",
            "tlc",
            "fr",
            "frq",
            "gn",
            "gain",
            "dr",
            "dyn",
            "pwr",
            "map",
            "chi",
            "thi",
            "prf",
            "wf",
        ),
        *("dist", "distance", "depth", "area", "vol", "ratio", "circ"),
    }
)
_LETTERS: Final = frozenset("abcdghlpw")
"""Of one letter: calipers, axes, gain, depth, power. Not those of sex and age."""
_ITEM: Final = re.compile(
    r"\s*(?:(?P<mark>[+\xd7\u2715*\xb0|.,'\u2013\u2014-]|x(?![^\W\d_]))|(?P<equals>[:=])"
    r"|(?P<number>\d{1,3}(?:[.,]\d{1,2})?)(?!\d)|(?P<letters>[^\W\d_]+|%))"
)
_DECIMAL: Final = re.compile(r"(?<![\d.,])\d{1,3}[.,]\d{1,2}(?![\d.,])")
_JOINED: Final = re.compile(r"\d\s?[^\w\s+\xd7\u2715*]\s?\d")


def may_stay(text: str, confidence: float, shape: float) -> bool:
    """Whether a line of text may stay in a picture.

    Args:
        text: as read.
        confidence: of the reading, 0..1.
        shape: length of the line over its height.
    """
    plain = unicodedata.normalize("NFKC", text).strip()
    signs = sum(character.isalnum() for character in plain)
    one_sign = signs <= 1 and shape <= (_ONE_SIGN if confidence < CERTAIN else 1.5 * _ONE_SIGN)
    letters = sum(character.isalpha() for character in plain.casefold().replace("x", ""))
    caliper = signs <= 2 and letters <= 1 and shape <= _SQUARE and confidence < SURE
    return one_sign or caliper or (confidence >= CERTAIN and names_nobody(plain))


def names_nobody(text: str) -> bool:
    """Whether a line holds settings and measurements alone.

    Args:
        text: in compatibility form (NFKC).
    """
    lowered = text.casefold()
    if not lowered or _JOINED.search(_DECIMAL.sub("0", lowered)):
        return False
    items = [("start", ""), *_items(lowered), ("end", "")]
    bare = 0
    for before, (kind, value), after in zip(items, items[1:], items[2:], strict=False):
        named, measured = before[0] in {"letters", "equals"}, after[0] == "letters" and after[1] in _UNITS
        bare += kind == "number" and not named and not measured
        unit = value in _UNITS and before[0] == "number"
        if kind == "unknown" or (kind == "letters" and not unit and not _is_name(value, after)):
            return False
    return bare <= _BARE_NUMBERS


def _is_name(value: str, after: tuple[str, str]) -> bool:
    """Whether letters are the name of the number that follows them."""
    if value in _SETTINGS:
        return after[0] in {"number", "equals"} or (after[0] == "letters" and after[1] in _LETTERS)
    return value in _LETTERS and after[0] in {"number", "equals"}


def _items(text: str) -> Iterator[tuple[str, str]]:
    """Marks, numbers and letters in their order; ``unknown`` where something is none of them."""
    place = 0
    while place < len(text):
        found = _ITEM.match(text, place)
        if found is None:
            yield "unknown", text[place:]
            return
        kind = found.lastgroup or "unknown"
        yield kind, found.group(kind)
        place = found.end()
