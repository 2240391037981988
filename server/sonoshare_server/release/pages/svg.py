"""Scalable drawings for the reports: a few shapes as text, the same bytes for the same values.

Promises: no script, no style attribute, no external resource, so that a strict Content-Security-Policy has nothing to
refuse; colours are classes of the page, which has a light and a dark form; what a colour says, a pattern or a word says
too. Every drawing has a name and a description for who does not see it. Numbers that stand in a drawing carry their
exact value in ``data-value``.

Lengths are in units of the drawing, `WIDTH` of which are as wide as a telephone's page.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from markupsafe import Markup

WIDTH: Final = 340
ROW: Final = 34
"""Height of a row of a chart with rows: a line of words, and the bar below it."""

_NARROW: Final = 5.9
"""Width of a letter of the page's small text, on average: how many fit into a line."""


@dataclass(frozen=True)
class Scale:
    """From values to places along one axis.

    Attributes:
        low: value at ``start``.
        high: value at ``end``.
        start: place of ``low``.
        end: place of ``high``.
        logarithmic: whether equal factors are equal lengths.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Place of a value; values beyond the scale stand at its ends."""
        clipped = min(self.high, max(self.low, value))
        if self.logarithmic:
            part = math.log(clipped / self.low) / math.log(self.high / self.low)
        else:
            part = (clipped - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)


def drawing(name: str, title: str, description: str, height: float, parts: Iterable[str]) -> Markup:
    """A drawing `WIDTH` wide.

    Args:
        name: letters, digits and hyphens, unlike any other on the page.
        title: what it shows, in a few words.
        description: the same with its figures, for who does not see it.
        height: of the drawing.
        parts: shapes, in the order in which they are painted.
    """
    return Markup(  # noqa: S704 - every text that comes from elsewhere is escaped where it is put in
        f'<svg class="plot" role="img" viewBox="0 0 {WIDTH} {_n(height)}" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
        f"{_patterns(name)}{''.join(parts)}</svg>"
    )


def rect(left: float, top: float, right: float, bottom: float, kind: str) -> str:
    """A rectangle; a width or height below nothing is none."""
    width, height = max(0.0, right - left), max(0.0, bottom - top)
    return f'<rect class="{kind}" x="{_n(left)}" y="{_n(top)}" width="{_n(width)}" height="{_n(height)}"/>'


def hatched(name: str, left: float, top: float, right: float, bottom: float) -> str:
    """A rectangle filled with the slanting lines of the drawing called ``name``."""
    width, height = max(0.0, right - left), max(0.0, bottom - top)
    place = f'x="{_n(left)}" y="{_n(top)}" width="{_n(width)}" height="{_n(height)}"'
    return f'<rect class="outline" fill="url(#{name}-hatch)" {place}/>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A line."""
    return f'<line class="{kind}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def path(places: Sequence[tuple[float, float]], kind: str) -> str:
    """Lines from place to place."""
    return f'<polyline class="{kind}" points="{" ".join(f"{_n(x)},{_n(y)}" for x, y in places)}"/>'


def whisker(low: float, high: float, across: float, *, upright: bool = False) -> str:
    """An interval: a line with a short bar at each end.

    Args:
        low: place of the lower end.
        high: of the upper end.
        across: place of the line on the other axis.
        upright: whether it stands.
    """
    marks = (
        (low, across, high, across),
        (low, across - 3.5, low, across + 3.5),
        (high, across - 3.5, high, across + 3.5),
    )
    turned = [(y1, x1, y2, x2) if upright else (x1, y1, x2, y2) for x1, y1, x2, y2 in marks]
    return "".join(line(*ends, "whisker") for ends in turned)


def dot(x: float, y: float) -> str:
    """A filled circle."""
    return f'<circle class="mark" cx="{_n(x)}" cy="{_n(y)}" r="4"/>'


def square(x: float, y: float) -> str:
    """An open square."""
    return rect(x - 4, y - 4, x + 4, y + 4, "open")


def diamond(x: float, y: float) -> str:
    """An open diamond."""
    corners = " ".join(f"{_n(a)},{_n(b)}" for a, b in ((x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)))
    return f'<polygon class="open" points="{corners}"/>'


def words(x: float, y: float, text: str, kind: str = "", *, at: str = "start", values: Iterable[float] = ()) -> str:
    """A line of text.

    Args:
        x: place.
        y: base line.
        text: what it says.
        kind: class.
        at: which of its parts is at ``x``: start, middle, end.
        values: exact values of the numbers in it.
    """
    said = " ".join(repr(value) for value in values)
    attributes = (f' class="{kind}"' if kind else "") + (f' data-value="{said}"' if said else "")
    anchor = "" if at == "start" else f' text-anchor="{at}"'
    return f'<text x="{_n(x)}" y="{_n(y)}"{anchor}{attributes}>{escape(text)}</text>'


def fitted(text: str, width: float) -> list[str]:
    """Lines of a text that fit into a width, broken between words."""
    lines, most = [""], max(8, int(width / _NARROW))
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if len(joined) > most and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = joined
    return lines


def _patterns(name: str) -> str:
    return (
        f'<defs><pattern id="{name}-hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect class="hatch-ground" width="5" height="5"/>'
        '<line class="hatch-line" x1="0" y1="0" x2="0" y2="5"/></pattern></defs>'
    )


def _n(value: float) -> str:
    """A length to hundredths, without needless zeros, and never a minus before zero."""
    short = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if short == "-0" else short
