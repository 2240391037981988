"""The documents hold together: every page stands in the nav, every link leads somewhere, a role's page is short."""

import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted(DOCS.rglob("*.md"))
OUTSIDE: Final = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
WORDS_A_MINUTE: Final = 200
MINUTES_FOR_A_ROLE: Final = 15


def text_of(page: Path) -> str:
    """A page without its blocks of code, in which nothing is a link or a heading."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> Iterator[str]:
    """What a page links to inside the repository, pictures included."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text_of(page))):
        if not re.match(r"[a-z]+:", target):
            yield target


@cache
def anchors(page: Path) -> frozenset[str]:
    """Anchors of a page that are the same on the site and on a forge, which make them by other rules."""
    text = text_of(page)
    found = set(re.findall(r'<a id="([^"]+)"></a>', text))
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        words = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading.strip())
        plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode()
        site = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
        forge = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        if site == forge:
            found.add(forge)
    return frozenset(found)


def pages_in_nav() -> list[Path]:
    """Pages that the site's nav names; a folder stands for all of its pages."""
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    found: list[Path] = []
    for entry in re.findall(r"([\w./-]+\.md|[\w/-]+/)$", nav, flags=re.MULTILINE):
        found += sorted((DOCS / entry).glob("*.md")) if entry.endswith("/") else [DOCS / entry]
    return found


def test_every_page_stands_in_the_nav_once() -> None:
    assert sorted(pages_in_nav()) == PAGES


@pytest.mark.parametrize("page", [*PAGES, *OUTSIDE], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_and_anchor_leads_somewhere(page: Path) -> None:
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{link}: there is no such file"
        assert page in OUTSIDE or target.is_relative_to(DOCS), f"{link}: the site has nothing outside of docs/"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


@pytest.mark.parametrize("role", ["hospital.md", "coordinator.md", "researcher.md"])
def test_a_roles_page_is_read_in_a_quarter_of_an_hour(role: str) -> None:
    assert len((DOCS / role).read_text(encoding="utf-8").split()) <= WORDS_A_MINUTE * MINUTES_FOR_A_ROLE


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="([a-z]+:)?//[^"]*"', html)
        assert not loaded, page
        assert not re.search(r"<td><code>[^<]*\\\|", html), f"{page}: a stroke in a table's code keeps its backslash"
        assert "<th></th>" not in html, f"{page}: a heading without a word is read out to the blind"
        assert not re.search(r'role="dialog"(?! aria-label)', html), f"{page}: a dialog without a name"
    decisions = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.search(r">\s*0001 Four rooms", decisions), "decisions stand in the nav by their numbers"
    assert "var __index" in (tmp_path / "search" / "search_index.js").read_text(encoding="utf-8")
