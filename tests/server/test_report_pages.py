"""The pages of the reports: every number is the JSON's, and the same statements give the same page."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.shared.audited_figures import full_figures
from tests.shared.consortium import Consortium, figures

from sonoshare_server.release.facts import Measurement
from sonoshare_server.release.pages.numbers import figure_rows
from sonoshare_server.release.pages.privacy_plots import in_words
from sonoshare_server.release.pages.utility_plots import EVERYBODY, utility_parts
from sonoshare_server.release.reports import privacy_page, utility_page
from sonoshare_shared.protocol.documents.reports import PrivacyReport, UtilityFigure, UtilityReport
from sonoshare_shared.protocol.release import layout

MEASURED = (
    Measurement(
        "AUC, trained on this release", 0.71, (0.65, 0.77), 0.76, "trained on real images", "212 test patients"
    ),
    Measurement("class benign: called rightly, trained on this release", 0.66, None, 0.7, "trained on real images"),
    Measurement("class benign: Fréchet distance, whole image", 290.0),
)
GUIDELINES = re.compile(r"SP 800-226|WP216|28/2024|ISO/IEC 27559|95 %")
"""Digits that are names; intervals of a utility report are at 95 %, as its document says."""


class _Measuring(Consortium):
    """Two hospitals measure everything, the third what it must."""

    def statement(self, hospital: str, candidate: Any, /, **changes: Any) -> Any:
        said = figures() if hospital == "west" else full_figures()
        return super().statement(hospital, candidate, **({"figures": said} | changes))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _Measuring(tmp_path_factory.mktemp("consortium"), utility=MEASURED).release()


@pytest.fixture(scope="module")
def privacy(release: Path) -> PrivacyReport:
    return PrivacyReport.from_bytes((release / layout.PRIVACY_JSON).read_bytes())


class Page(HTMLParser):
    """What stands on a page: exact values, text outside of them, ids, links, and names of drawings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.values: list[float] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels: list[str] = []
        self.drawings = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in {"meta", "rect", "line", "circle", "polyline", "polygon"}:
            self.open.append((tag, found))
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value[1:] for name, value in attrs if name == "href" and value]
        self.labels += (found.get("aria-labelledby") or "").split()
        self.drawings += tag == "svg"
        for said in (found.get("data-value"), found.get("value") if tag == "data" else None):
            self.values += [float(value) for value in (said or "").split()]

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1][0] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        exact = any(tag == "data" or "data-value" in found for tag, found in self.open)
        scale = any("tick" in (found.get("class") or "") for _, found in self.open)
        if not exact and not scale and not any(tag in {"style", "desc"} for tag, _ in self.open):
            self.words.append(data)


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _numbers(one)
    elif isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize(
    ("page", "beside"), [(layout.PRIVACY_HTML, layout.PRIVACY_JSON), (layout.UTILITY_HTML, layout.UTILITY_JSON)]
)
def test_every_number_of_a_page_is_in_the_json_beside_it(release: Path, page: str, beside: str) -> None:
    said = json.loads((release / beside).read_bytes())
    shown = Page((release / page).read_text())
    # Hospitals, and those that pass; what chance is, and noise as stated.
    counted = {3.0, 0.5, 1.0} if beside == layout.PRIVACY_JSON else set()
    assert len(shown.values) > 10
    assert set(shown.values) <= {*_numbers(said), *counted}
    texts = sorted({*_texts(said)}, key=len, reverse=True)
    for words in map(_without_names, shown.words):
        left = words
        for text in texts:
            left = left.replace(text, "").replace(text.replace("_", " "), "")
        assert not re.search(r"\d", _without_rows(left)), words


def _without_names(words: str) -> str:
    return GUIDELINES.sub("", words)


def _without_rows(words: str) -> str:
    """Places in a list ("points 1 · copied"), days, and what is said of e to the power of epsilon are no figures."""
    return re.sub(r"(?<=\w )\d+(?= ·)|\d{4}-\d\d-\d\d|at fpr|tpr", "", words)


def test_every_drawing_has_a_name_and_every_link_an_end(release: Path) -> None:
    for name in (layout.PRIVACY_HTML, layout.UTILITY_HTML):
        page = Page((release / name).read_text())
        assert page.drawings >= 2
        assert len(page.ids) == len(set(page.ids))
        assert {*page.links, *page.labels} <= set(page.ids)
        assert page.open == []


def test_what_a_colour_says_a_pattern_or_a_word_says_too(release: Path) -> None:
    page = (release / layout.PRIVACY_HTML).read_text()
    assert 'fill="url(#likeness-north-hatch)"' in page
    for words in ("trained on", "held out, never trained on", "attack by denoising loss", "chance: the attack"):
        assert words in page
    assert ' style="' not in page
    assert "<script" not in page


def test_a_hospital_without_histograms_has_no_drawing_and_the_page_says_so(release: Path) -> None:
    page = (release / layout.PRIVACY_HTML).read_text()
    assert "roc-north" in page
    assert "roc-west" not in page
    assert "its statement holds no histograms" in page
    assert "Curves and likeness of patients' pictures: not measured at west." in page.replace("&#39;", "'")


def test_the_page_of_an_old_report_says_less_and_nothing_false(privacy: PrivacyReport) -> None:
    hospitals = tuple(one.model_copy(update={"derived": None}) for one in privacy.hospitals)
    page = privacy_page(privacy.model_copy(update={"hospitals": hospitals}))
    assert "Taken alone this limit is" not in page
    assert "roc-" not in page


def test_the_first_paragraph_tells_of_the_worst_hospital(privacy: PrivacyReport) -> None:
    words = in_words(privacy)
    assert (words.attacked, words.leak, words.passed, words.alone) == ((0.44, 0.64), 7, 3, "weak")
    blind = privacy.hospitals[0].model_copy(update={"smallest_detectable_leak": None, "verdict": "INCONCLUSIVE"})
    report = privacy.model_copy(update={"hospitals": (blind, *privacy.hospitals[1:])})
    assert in_words(report).leak is None
    page = privacy_page(report)
    assert "were too weak to notice copied patients" in page
    assert "Not all of them could rule out" in page


def test_the_same_report_gives_the_same_page(privacy: PrivacyReport, release: Path) -> None:
    assert privacy_page(privacy).encode() == (release / layout.PRIVACY_HTML).read_bytes()
    utility = UtilityReport.from_bytes((release / layout.UTILITY_JSON).read_bytes())
    assert utility_page(utility).encode() == (release / layout.UTILITY_HTML).read_bytes()


def test_words_from_outside_are_escaped(privacy: PrivacyReport) -> None:
    north = privacy.hospitals[0]
    assert north.derived is not None
    curve = north.derived.curves[0].model_copy(update={"attack": '<b>"&'})
    derived = north.derived.model_copy(update={"curves": (curve,)})
    hospital = north.model_copy(update={"reasons": ("<i>x",), "derived": derived})
    page = privacy_page(privacy.model_copy(update={"hospitals": (hospital,)}))
    assert "<b>&" not in page
    assert "<i>x" not in page
    assert "&lt;i&gt;x" in page


def test_utility_figures_stand_by_class_and_those_without_interval_in_a_table(release: Path) -> None:
    report = UtilityReport.from_bytes((release / layout.UTILITY_JSON).read_bytes())
    everybody, benign = utility_parts(report.figures)
    assert (everybody.name, [plot.name for plot in everybody.plots]) == (EVERYBODY, ["AUC"])
    assert (benign.name, [plot.name for plot in benign.plots]) == ("class benign", ["called rightly"])
    assert [one.value for one in benign.plain] == [290.0]
    drawn = str(everybody.plots[0].drawing)
    assert "0.710, between 0.650 and 0.770 · ◇ trained on real images 0.760" in re.sub(
        r"</text><text[^>]*>", " ", drawn
    )


def test_figures_below_nothing_and_beyond_one_stay_on_the_scale() -> None:
    rows = (
        UtilityFigure(name="gain", value=-0.2, interval=(-0.4, 0.1), reference=None, reference_name="", note=""),
        UtilityFigure(name="gain", value=37.0, interval=(12.0, 90.0), reference=None, reference_name="", note=""),
    )
    drawn = str(utility_parts(rows)[0].plots[0].drawing)
    places = [float(x) for x in re.findall(r'c?x[12]?="(-?[\d.]+)"', drawn)]
    assert 0 <= min(places) <= max(places) <= 340


def test_every_figure_is_a_row_of_words_and_numbers() -> None:
    figures_of = {
        "points": [{"copied": 0, "pass": 0.99}],
        "edges": [0.1, 0.2],
        "seen": True,
        "deep": {"a": {"b": None}},
    }
    rows = [(name, re.sub(r"<[^>]*>", "", text)) for name, text in figure_rows(figures_of)]
    assert rows == [
        ("points 1 · copied", "0"),
        ("points 1 · pass", "0.99"),
        ("edges", "0.1, 0.2"),
        ("seen", "yes"),
        ("deep · a · b", "none"),
    ]
