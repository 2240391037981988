"""A headless Chromium for tests of pages: does a page break its own rules, and can everybody read it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
SECONDS = 60

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="SKIPPED LOUDLY: no Chromium here, so no page was seen in a browser (apt install chromium)"
)


@dataclass
class Eyes:
    """A page in the browser.

    Attributes:
        page: Playwright's.
        said: what its console said: requests that its policy forbids, files that are not there.
    """

    page: Any
    axe: Any
    said: list[str] = field(default_factory=list)

    def heard(self, kind: str, text: str) -> None:
        """Remember what matters of what a console says."""
        if kind in {"error", "warning"}:
            self.said.append(text)

    def found(self) -> list[tuple[str, str, str]]:
        """What axe-core has to say against the page as it stands: rule, impact, and the first place."""
        told = self.axe.run(self.page, options={"resultTypes": ["violations"]}).response
        return [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in told["violations"]]

    def contrast_found(self) -> list[tuple[str, str]]:
        """The same of colours alone, in the other colour scheme."""
        self.page.emulate_media(color_scheme="dark")
        options = {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}
        told = self.axe.run(self.page, options=options).response
        self.page.emulate_media(color_scheme="light")
        return [(one["id"], one["nodes"][0]["html"]) for one in told["violations"]]

    def overflow(self, width: int) -> int:
        """How many pixels a page is wider than a window of this width."""
        before = self.page.viewport_size
        self.page.set_viewport_size({"width": width, "height": 800})
        wide = int(self.page.evaluate("document.documentElement.scrollWidth"))
        self.page.set_viewport_size(before)
        return max(0, wide - width)


@contextmanager
def chromium() -> Iterator[Eyes]:
    """One browser with one page."""
    sync = pytest.importorskip("playwright.sync_api", reason="SKIPPED LOUDLY: no playwright (make setup)")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="SKIPPED LOUDLY: no axe (make setup)")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme="light")
        page.set_default_timeout(SECONDS * 1000)
        eyes = Eyes(page, axe.Axe())
        page.on("console", lambda message: eyes.heard(message.type, message.text))
        page.on("pageerror", lambda error: eyes.said.append(str(error)))
        yield eyes
        browser.close()
