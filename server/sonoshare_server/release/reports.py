"""The reports of a release, for machines (JSON) and for people (self-contained HTML), and the datasheet.

The HTML has no script and no external resource; every text that comes from outside is escaped. The privacy report
says nothing that is not in the signed statements and the plan. The utility report holds the figures handed in and
otherwise says that nothing was measured.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import jinja2

from sonoshare_server.release.describe import Description
from sonoshare_server.release.facts import Measurement
from sonoshare_shared.protocol.documents import AuditStatement, Document
from sonoshare_shared.protocol.documents.reports import (
    PrivacyReport,
    UtilityFigure,
    UtilityReport,
)
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.report import privacy_report_of

_EPSILON_SCALE: Final = 10.0
POINTS: Final = ("auc", "rate", "value")
"""Names of the estimates that an ``interval`` beside them is about."""

NOT_PROMISED: Final = (
    "That the images are right in every detail: they are drawn, not recorded, and no one diagnosis rests on them.",
    "Anything about a patient known to two hospitals: such a patient's losses add up over these hospitals.",
    "That an audit sees a leak smaller than the smallest detectable leak stated for it.",
    "Anything about later releases: each one is charged to the same ledgers.",
)

_RESTS_ON_OTHERS: Final = (
    "Anything about a patient where fewer hospitals of a sum than stated were honest: the noise is shared, and the "
    "privacy of each hospital's patients rests on the others' part of it too."
)

_ENVIRONMENT: Final = jinja2.Environment(
    loader=jinja2.PackageLoader("sonoshare_server.release", "templates"),
    autoescape=jinja2.select_autoescape(("html.j2",)),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Bar:
    """A figure drawn as a bar: left edge, width and mark in percent of the scale; interval drawn as a whisker."""

    name: str
    text: str
    mark: float
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    note: str = ""


def privacy_report(description: Description, said: tuple[AuditStatement, ...]) -> dict[str, bytes]:
    """Both forms of the privacy report, by path."""
    report = privacy_figures(description, said)
    hospitals = report.model_dump(mode="json", by_alias=True)["hospitals"]
    page = _ENVIRONMENT.get_template("privacy.html.j2").render(
        r=report,
        bars=epsilon_bars(hospitals),
        epsilon_scale=epsilon_scale(hospitals),
        figures={hospital["id"]: flatten(hospital["figures"]) for hospital in hospitals},
        intervals={hospital["id"]: interval_bars(hospital["figures"]) for hospital in hospitals},
    )
    return {layout.PRIVACY_JSON: _json(report), layout.PRIVACY_HTML: page.encode()}


def utility_report(description: Description) -> dict[str, bytes]:
    """Both forms of the utility report, by path."""
    report = utility_figures(description)
    bars = [_bar(measurement) for measurement in description.facts.utility]
    page = _ENVIRONMENT.get_template("utility.html.j2").render(r=report, bars=bars)
    return {layout.UTILITY_JSON: _json(report), layout.UTILITY_HTML: page.encode()}


def datasheet(description: Description, said: tuple[AuditStatement, ...]) -> bytes:
    """The datasheet (Gebru et al., *Datasheets for Datasets*, 2021), as Markdown."""
    template = _ENVIRONMENT.get_template("datasheet.md.j2")
    privacy, utility = privacy_figures(description, said), utility_figures(description)
    return template.render(d=description, privacy=privacy, utility=utility, layout=layout).encode()


def privacy_figures(description: Description, said: tuple[AuditStatement, ...]) -> PrivacyReport:
    """What the statements and the plan say about patients."""
    d = description
    released = len(d.kept)
    not_promised = NOT_PROMISED if d.plan.honest is None else (*NOT_PROMISED, _RESTS_ON_OTHERS)
    return privacy_report_of(d.candidate, d.plan, d.privacy, said, released=released, not_promised=not_promised)


def utility_figures(description: Description) -> UtilityReport:
    """The figures handed in, or ``measured: false``."""
    return UtilityReport(
        release=description.candidate.release,
        task=description.plan.task.name,
        question=description.plan.task.question,
        measured=bool(description.facts.utility),
        note=description.facts.utility_note,
        figures=tuple(UtilityFigure(**asdict(measurement)) for measurement in description.facts.utility),
        counts=description.counts,
        scanners=description.scanners,
    )


def flatten(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested figures as rows of name and text, in the order in which they stand."""
    rows: list[tuple[str, str]] = []
    for name, value in figures.items():
        path = f"{prefix}{name}".replace("_", " ")
        parts = value if isinstance(value, list | tuple) else ()
        if isinstance(value, dict):
            rows.extend(flatten(value, f"{path} · "))
        elif parts and all(isinstance(part, dict) for part in parts):
            for number, part in enumerate(parts, 1):
                rows.extend(flatten(part, f"{path} {number} · "))
        else:
            rows.append((path, _text(value)))
    return rows


def interval_bars(figures: dict[str, Any], prefix: str = "") -> list[Bar]:
    """Bars for figures of `POINTS` that state an interval within 0..1, as ``{"auc": 0.5, "interval": [low, high]}``."""
    bars: list[Bar] = []
    for name, value in figures.items():
        if not isinstance(value, dict):
            continue
        path = f"{prefix}{name}".replace("_", " ")
        bars.extend(interval_bars(value, f"{path} · "))
        interval = value.get("interval")
        point = next((value[key] for key in POINTS if _is_fraction(value.get(key))), None)
        pair = isinstance(interval, list | tuple) and len(interval) == 2 and all(map(_is_fraction, interval))
        if pair and interval is not None and point is not None:
            text = f"{point:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
            bars.append(Bar(path, text, 100 * point, 100 * interval[0], 100 * interval[1]))
    return bars


def epsilon_scale(hospitals: list[dict[str, Any]]) -> float:
    """Epsilon at the right end of the bars: 10, unless a hospital spent more."""
    spent = [float(math.ceil(hospital["epsilon"])) for hospital in hospitals]
    return max([_EPSILON_SCALE, *spent])


def epsilon_bars(hospitals: list[dict[str, Any]]) -> list[Bar]:
    """A bar for what each hospital's patients paid."""
    scale = epsilon_scale(hospitals)
    return [
        Bar(h["id"], f"ε = {h['epsilon']:.2f} at δ = {h['delta']:.1e}", 100 * h["epsilon"] / scale) for h in hospitals
    ]


def figure_bars(figures: list[dict[str, Any]]) -> list[Bar]:
    """Bars for the figures of a utility report (the fields of ``Measurement``)."""
    return [_bar(Measurement(**figure)) for figure in figures]


def _bar(m: Measurement) -> Bar:
    # Shares and AUCs have a natural scale; other figures are drawn against the largest number beside them.
    known = [m.value, *(m.interval or ()), *(() if m.reference is None else (m.reference,))]
    scale = 100 / max(1.0, *known)
    interval = f" [{m.interval[0]:.3f}, {m.interval[1]:.3f}]" if m.interval else ""
    reference = f" · {m.reference_name} {m.reference:.3f}" if m.reference is not None else ""
    return Bar(
        name=m.name,
        text=f"{m.value:.3f}{interval}{reference}",
        mark=max(0.0, m.value) * scale,
        low=m.interval[0] * scale if m.interval else None,
        high=m.interval[1] * scale if m.interval else None,
        reference=m.reference * scale if m.reference is not None else None,
        note=m.note,
    )


def _is_fraction(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return str(value)


def _json(report: Document) -> bytes:
    value = report.model_dump(mode="json", by_alias=True)
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
