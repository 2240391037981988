"""Charts with rows: estimates with their intervals, and bars; one row a figure, its words above it.

The words carry everything: whoever sees no drawing, or no colour, reads the same figures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from markupsafe import Markup

from sonoshare_server.release.pages.svg import (
    WIDTH,
    Scale,
    diamond,
    dot,
    drawing,
    fitted,
    hatched,
    line,
    rect,
    whisker,
    words,
)

Fill = Literal["solid", "hatched", "open"]

_LINE: Final = 14
_EDGE: Final = 6.0
_BAND: Final = 18
_GAP: Final = 8
_AXIS: Final = 20
_TICKS: Final = 4


@dataclass(frozen=True)
class Estimate:
    """A row: a figure with its interval, and what it is to be compared with.

    Attributes:
        label: what it is.
        value: the figure; None where only the words are known.
        interval: of it.
        reference: the same figure of a yardstick.
        reference_name: what the yardstick is.
        note: small print.
    """

    label: str
    value: float
    interval: tuple[float, float] | None = None
    reference: float | None = None
    reference_name: str = ""
    note: str = ""

    @property
    def figures(self) -> str:
        """The figures in words."""
        between = f", between {shown(self.interval[0])} and {shown(self.interval[1])}" if self.interval else ""
        return f"{shown(self.value)}{between}"

    @property
    def compared(self) -> str:
        """The yardstick in words; empty without one."""
        return "" if self.reference is None else f"{self.reference_name} {shown(self.reference)}"

    @property
    def numbers(self) -> tuple[float, ...]:
        """Every number of the row."""
        return (self.value, *(self.interval or ()), *(() if self.reference is None else (self.reference,)))


@dataclass(frozen=True)
class Guide:
    """A value that all rows of a chart are compared with.

    Attributes:
        value: where.
        name: what it is.
    """

    value: float
    name: str


@dataclass(frozen=True)
class Bar:
    """One bar of a group: its words, its length, and how it is filled."""

    label: str
    value: float
    fill: Fill = "solid"


@dataclass(frozen=True)
class Group:
    """Bars that belong together, under one name."""

    name: str
    bars: tuple[Bar, ...]


def shown(value: float) -> str:
    """A figure as it stands in words: three digits after the point where it is small, fewer where it is large."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def estimates_chart(
    name: str,
    title: str,
    rows: Sequence[Estimate],
    *,
    guides: Sequence[Guide] = (),
    low: float = 0.0,
    high: float = 1.0,
) -> Markup:
    """A chart of estimates on one scale, in the order in which they stand.

    Args:
        name: of the drawing.
        title: of the drawing.
        rows: at least one.
        guides: compared with all rows.
        low: left end of the scale.
        high: right end.
    """
    scale, top, parts = Scale(low, high, _EDGE, WIDTH - _EDGE), 0.0, []
    for row in rows:
        top, drawn = _estimate(row, scale, top, guides)
        parts.append(drawn)
    axis, height = _axis(scale, top)
    named = []
    for guide in guides:
        height += _LINE
        named.append(_named(guide, scale, height - 2))
    said = [f"{row.label}: {row.figures}{f'; {row.compared}' if row.compared else ''}." for row in rows]
    told = [f"{guide.name}: {guide.value:g}." for guide in guides]
    return drawing(name, title, " ".join([*said, *told]), height + 4, [*parts, axis, *named])


def bars_chart(name: str, title: str, groups: Sequence[Group], *, high: float) -> Markup:
    """A chart of bars that begin at nothing.

    Args:
        name: of the drawing.
        title: of the drawing.
        groups: at least one.
        high: right end of the scale.
    """
    scale, top, parts = Scale(0.0, high, _EDGE, WIDTH - _EDGE), 0.0, []
    for group in groups:
        parts.append(words(_EDGE, top + 12, group.name, "strong"))
        top += _LINE + 3
        for bar in group.bars:
            parts.append(words(_EDGE, top + 10, bar.label, "small"))
            parts.append(
                words(WIDTH - _EDGE, top + 10, shown(bar.value), "small strong", at="end", values=(bar.value,))
            )
            parts.append(rect(scale(0), top + 14, scale(high), top + 23, "track"))
            parts.append(_filled(name, bar, scale, top + 14))
            top += _LINE + _BAND - 4
        top += _GAP
    axis, height = _axis(scale, top - _GAP / 2)
    said = [f"{group.name}: {', '.join(f'{bar.label} {shown(bar.value)}' for bar in group.bars)}." for group in groups]
    return drawing(name, title, " ".join(said), height + 2, [*parts, axis])


def round_end(largest: float) -> float:
    """A round number at the end of a scale that holds a value."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in (1, 2, 4, 5, 8, 10, 20) if step * power >= largest)


def _estimate(row: Estimate, scale: Scale, top: float, guides: Sequence[Guide]) -> tuple[float, str]:
    """A row's shapes, and where the next one begins."""
    parts = []
    for text in fitted(row.label, WIDTH - 2 * _EDGE):
        parts.append(words(_EDGE, top + 12, text))
        top += _LINE
    said = row.figures if row.reference is None else f"{row.figures} · ◇ {row.compared}"
    for text in fitted(said, WIDTH - 2 * _EDGE):
        parts.append(words(_EDGE, top + 12, text, "small strong", values=row.numbers))
        top += _LINE
    y = top + 9
    parts.append(line(scale(scale.low), y, scale(scale.high), y, "track-line"))
    # Beside the row alone: through the words they could not be read.
    parts += [line(scale(guide.value), y - 7, scale(guide.value), y + 7, "guide") for guide in guides]
    if row.interval is not None:
        parts.append(whisker(scale(row.interval[0]), scale(row.interval[1]), y))
    if row.reference is not None:
        parts.append(diamond(scale(row.reference), y))
    parts.append(dot(scale(row.value), y))
    top += _BAND
    for text in fitted(row.note, WIDTH - 2 * _EDGE) if row.note else ():
        parts.append(words(_EDGE, top + 10, text, "small soft"))
        top += _LINE - 1
    return top + _GAP, "".join(parts)


def _named(guide: Guide, scale: Scale, y: float) -> str:
    """What a guide is, with the end of the text that has its sign at the guide's place."""
    text, x = f"{guide.name}: {guide.value:g}", scale(guide.value)
    if len(fitted(f"┊ {text}", WIDTH - x)) == 1:
        return words(x - 2, y, f"┊ {text}", "small", values=(guide.value,))
    return words(x + 2, y, f"{text} ┊", "small", at="end", values=(guide.value,))


def _filled(name: str, bar: Bar, scale: Scale, top: float) -> str:
    if bar.fill == "hatched":
        return hatched(name, scale(0), top, scale(bar.value), top + 9)
    return rect(scale(0), top, scale(bar.value), top + 9, "fill" if bar.fill == "solid" else "open")


def _axis(scale: Scale, top: float) -> tuple[str, float]:
    """The scale under a chart, and where it ends."""
    parts = [line(scale.start, top, scale.end, top, "axis")]
    for number in range(_TICKS + 1):
        value = scale.low + (scale.high - scale.low) * number / _TICKS
        x, at = scale(value), ("start" if number == 0 else "end" if number == _TICKS else "middle")
        parts += [line(x, top, x, top + 4, "axis"), words(x, top + 16, f"{value:g}", "tick", at=at)]
    return "".join(parts), top + _AXIS
