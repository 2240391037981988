"""The drawings of a utility report: classifiers with their intervals and yardsticks, by what they were tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from sonoshare_server.release.pages.charts import Estimate, estimates_chart, round_end
from sonoshare_shared.protocol.documents.reports import UtilityFigure

EVERYBODY: Final = "All test patients"


@dataclass(frozen=True)
class Plot:
    """A drawing with its name and what is to be said of it."""

    drawing: Markup
    name: str
    words: str


@dataclass(frozen=True)
class Part:
    """The figures on one group of test images.

    Attributes:
        name: the group.
        plots: of figures that have an interval or a yardstick.
        plain: the others.
    """

    name: str
    plots: tuple[Plot, ...]
    plain: tuple[UtilityFigure, ...]


def utility_parts(figures: Sequence[UtilityFigure]) -> tuple[Part, ...]:
    """Figures by the group that they are about: what stands before ``: `` in their names."""
    groups: dict[str, list[UtilityFigure]] = {}
    for figure in figures:
        groups.setdefault(_group(figure.name), []).append(figure)
    return tuple(_part(number, name, group) for number, (name, group) in enumerate(groups.items(), 1))


def _part(number: int, name: str, figures: Sequence[UtilityFigure]) -> Part:
    drawn: dict[str, list[UtilityFigure]] = {}
    plain = []
    for figure in figures:
        if figure.interval is None and figure.reference is None:
            plain.append(figure)
        else:
            drawn.setdefault(_kind(figure.name), []).append(figure)
    plots = tuple(
        _plot(f"utility-{number}-{place}", kind, group) for place, (kind, group) in enumerate(drawn.items(), 1)
    )
    return Part(name, plots, tuple(plain))


def _plot(name: str, kind: str, figures: Sequence[UtilityFigure]) -> Plot:
    rows = [
        Estimate(_what(one.name), one.value, one.interval, one.reference, one.reference_name, one.note)
        for one in figures
    ]
    known = [number for row in rows for number in row.numbers]
    low = 0.0 if min(known) >= 0 else -round_end(-min(known))
    high = 1.0 if max(known) <= 1 else round_end(max(known))
    words = "Each figure with what it is compared with."
    return Plot(estimates_chart(name, kind, rows, low=low, high=high), kind, words)


def _group(name: str) -> str:
    return name.split(": ", 1)[0] if ": " in name else EVERYBODY


def _kind(name: str) -> str:
    """What is measured: what stands before the comma, which comes before what was trained on."""
    return name.split(": ", 1)[-1].split(", ", 1)[0]


def _what(name: str) -> str:
    measured = name.split(": ", 1)[-1]
    return measured.split(", ", 1)[1] if ", " in measured else measured
