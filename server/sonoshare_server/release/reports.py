"""The reports of a release, for machines (JSON) and for people (self-contained HTML), and the datasheet.

The HTML has no script and no external resource; every text that comes from outside is escaped. The privacy report
says nothing that is not in the signed statements and the plan, or follows from them; every number on the page is one of
the JSON's. The utility report holds the figures handed in and otherwise says that nothing was measured. The same
statements give the same bytes.
"""

import json
from dataclasses import asdict
from typing import Final

import jinja2

from sonoshare_server.release.describe import Description
from sonoshare_server.release.pages import not_shown, numbers, privacy_plots
from sonoshare_server.release.pages.utility_plots import utility_parts
from sonoshare_shared.protocol.documents import AuditStatement, Document
from sonoshare_shared.protocol.documents.reports import (
    PrivacyReport,
    UtilityFigure,
    UtilityReport,
)
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.report import privacy_report_of

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
_ENVIRONMENT.filters |= {"num": numbers.num, "between": numbers.between}


def privacy_report(description: Description, said: tuple[AuditStatement, ...]) -> dict[str, bytes]:
    """Both forms of the privacy report, by path."""
    report = privacy_figures(description, said)
    return {layout.PRIVACY_JSON: _json(report), layout.PRIVACY_HTML: privacy_page(report).encode()}


def privacy_page(report: PrivacyReport) -> str:
    """The page of a privacy report."""
    draw = privacy_plots
    named = ("budget", "membership", "copies", "canaries", "noise")
    plots = (draw.budget_plot, draw.membership_plot, draw.copies_plot, draw.canaries_plot, draw.noise_plot)
    figures = {one.id: one.figures.model_dump(mode="json", by_alias=True) for one in report.hospitals}
    each = [{"hospital": h, "curves": draw.curves_of(h), "likeness": draw.likeness_of(h)} for h in report.hospitals]
    return _ENVIRONMENT.get_template("privacy.html.j2").render(
        r=report,
        w=draw.in_words(report),
        plots={name: plot(report) for name, plot in zip(named, plots, strict=True)},
        each=each,
        missing=not_shown.not_measured(report),
        checked=[one.id for one in report.hospitals if not_shown.checked(one)],
        layout=layout,
        figures={hospital: numbers.figure_rows(of) for hospital, of in figures.items()},
    )


def utility_report(description: Description) -> dict[str, bytes]:
    """Both forms of the utility report, by path."""
    report = utility_figures(description)
    return {layout.UTILITY_JSON: _json(report), layout.UTILITY_HTML: utility_page(report).encode()}


def utility_page(report: UtilityReport) -> str:
    """The page of a utility report."""
    return _ENVIRONMENT.get_template("utility.html.j2").render(r=report, parts=utility_parts(report.figures))


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


def _json(report: Document) -> bytes:
    value = report.model_dump(mode="json", by_alias=True)
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
