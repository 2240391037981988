"""The coordinator's console in use: progress is told as it happens, and its pages read well in a real browser."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, sync_playwright
from tests.deploy.console_world import HOSTILE, STUDY, CoordinatorWorld, coordinator_world, served
from tests.server.test_browser import CHROMIUM

from sonoshare_deploy.coordinator_console.app import NAVIGATION
from sonoshare_deploy.coordinator_console.live import MOST_LISTENERS, Live
from sonoshare_server.queue.actions import begun
from sonoshare_shared.local_pages.door import Door
from sonoshare_shared.local_pages.guard import FORM_WORD


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> CoordinatorWorld:
    made = coordinator_world(tmp_path_factory.mktemp("live"))
    made.audited("open", made.candidate("open"), "north", verdict="INCONCLUSIVE", reasons=(HOSTILE,))
    made.sealed("r1")
    return made


@pytest.fixture
def live() -> Live:
    return Live()


@pytest.fixture
def door(world: CoordinatorWorld, live: Live) -> Iterator[Door]:
    with served(world.home, live) as door:
        yield door


@contextmanager
def entered(door: Door) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{door.port}", trust_env=False, timeout=10) as client:
        assert client.get(door.link).status_code == 200
        yield client


def told(stream: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in stream.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def wait_for_none(live: Live) -> None:
    end = time.monotonic() + 10
    while live.listeners and time.monotonic() < end:
        time.sleep(0.05)
    assert live.listeners == 0


def test_progress_is_told_when_it_happens_and_who_leaves_is_let_go(
    world: CoordinatorWorld, live: Live, door: Door
) -> None:
    study = world.home.study("second")
    with entered(door) as client, client.stream("GET", f"{door.root}/studies/second/live") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        events = told(stream)
        first = next(events)
        assert first["text"]["second-done"] == "1 of 2 rounds"
        assert live.listeners == 1
        with begun(study, "train") as action:
            world.home.study("second", action.run).event("waiting", awaited=["west"], answered=["north"], until="")
            now = next(events)
        assert now["text"]["second-awaited"] == "west"
        assert now["text"]["second-answered"] == "north"
        assert now["rows"]["events"][0][1:] == ["waiting for answers", "awaited west; answered north"]
        assert "\u202e" not in json.dumps(now, ensure_ascii=False)
    wait_for_none(live)


def test_so_many_listen_and_no_more_and_none_without_the_session(live: Live, door: Door) -> None:
    with entered(door) as client, ExitStack() as open_streams:
        for _ in range(MOST_LISTENERS):
            stream = open_streams.enter_context(client.stream("GET", f"{door.root}/live"))
            assert stream.status_code == 200
        assert client.get(f"{door.root}/live").status_code == 503
        left = client.post(f"{door.root}/leave", data={FORM_WORD: door.form_word})
        assert left.status_code in {303, 403}
        for _line in stream.iter_lines():  # it ends by itself: the session is over
            pass
        wait_for_none(live)
        assert client.get(f"{door.root}/live").status_code == 403


@pytest.mark.skipif(CHROMIUM is None, reason="SKIPPED LOUDLY: no Chromium here, so no page was seen in a browser")
def test_pages_read_well_in_a_browser_light_and_dark_and_follow_what_happens(
    world: CoordinatorWorld, door: Door
) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(color_scheme="dark", viewport={"width": 390, "height": 844}).new_page()
        wrong = list[str]()
        page.on("console", lambda said: wrong.append(said.text) if is_ours(said) else None)
        page.goto(door.link)
        page.wait_for_url(f"**{door.root}/")
        paths = [path for path, _ in NAVIGATION] + [f"/studies/{STUDY}", "/releases/open", "/releases/r1"]
        for scheme, shown in (("dark", paths), ("light", ["/", "/releases/open"])):
            page.emulate_media(color_scheme=scheme)
            for path in shown:
                page.goto(f"http://127.0.0.1:{door.port}{door.root}{path}")
                assert serious(page) == [], path
                wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                assert wide <= 0, f"{path} is wider than a telephone"
        page.goto(f"http://127.0.0.1:{door.port}{door.root}/studies/second")
        page.get_by_text("This page follows what happens.").wait_for()
        world.home.study("second").event("void", round=2, reason=HOSTILE)
        page.locator("td", has_text="round void").wait_for()
        page.get_by_role("button", name="Retire it").click()
        assert serious(page) == []
        assert wrong == [], "a page asks for something that its Content-Security-Policy forbids, or lacks a file"
        browser.close()


def is_ours(said: ConsoleMessage) -> bool:
    """Whether something went wrong on a page; a browser asks for an icon by itself, without the session."""
    return said.type == "error" and not said.location["url"].endswith("/favicon.ico")


def serious(page: Page) -> list[tuple[str, str]]:
    """What axe finds that keeps somebody from reading a page."""
    found = Axe().run(page).response["violations"]
    grave = [one for one in found if one["impact"] in {"serious", "critical"}]
    return [(one["id"], one["nodes"][0]["html"]) for one in grave]
