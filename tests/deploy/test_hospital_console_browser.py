"""The hospital's console in a browser: the link opens it, a keyboard is enough, and everybody can read it."""

import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.asked_hospital import propose, rules_of_persons, with_charges
from tests.deploy.in_process import STUDY, World, copied

from sonoshare_client.node.approvals import decision_about
from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.hospital_console.app import NAVIGATION, hospital_console
from sonoshare_shared.local_pages import serving
from sonoshare_shared.local_pages.door import Door
from sonoshare_shared.science.device import CPU

CHROMIUM = shutil.which("chromium")
PHONE = {"width": 390, "height": 800}
DESK = {"width": 1200, "height": 900}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the console was not seen in a browser")


@dataclass
class Browser:
    page: Any
    axe: Any
    home: NodeHome
    link: str
    complaints: list[str]

    def serious(self) -> list[tuple[str, str]]:
        found = self.axe.run(self.page, options={"resultTypes": ["violations"]}).response["violations"]
        return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}]


@pytest.fixture
def browser(pristine: World, tmp_path: Path) -> Iterator[Browser]:
    sync = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    world = copied(pristine, tmp_path / "world")
    home = rules_of_persons(world)
    propose(world)
    with_charges(home)
    with serving.listening(0) as listener, sync.sync_playwright() as playwright:
        door = Door(listener.getsockname()[1])
        server = serving.server_of(hospital_console(home, CPU, door))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport=DESK)
        seen = Browser(page, axe.Axe(), home, door.link, [])
        page.on("console", lambda message: seen.complaints.append(message.text))
        yield seen
        chromium.close()
        server.should_exit = True
        thread.join(20)


def test_the_console_is_used_with_the_keyboard_and_read_by_everybody(browser: Browser) -> None:
    page = browser.page
    page.goto(browser.link)
    page.wait_for_selector("nav[aria-label=Pages]")
    root = re.match(r"http://[^/]+/[^/]+", page.url)[0]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    for path in (*(path for path, _ in NAVIGATION), f"/studies/{STUDY}"):
        page.goto(f"{root}{path}")
        assert browser.serious() == [], path
        page.set_viewport_size(PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
        page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="dark")
    assert browser.serious() == []

    page.focus("text=Approve this plan")
    page.keyboard.press("Enter")
    page.wait_for_selector("p[role=status]")
    assert decision_about(browser.home, STUDY).decision == "approved"
    assert browser.complaints == []
    page.goto(browser.link)
    assert "This link was used" in page.inner_text("main")
