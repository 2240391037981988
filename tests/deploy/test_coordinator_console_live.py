"""The coordinator's console in use: progress is told as it happens, and its pages read well in a real browser."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from tests.deploy.console_world import HOSTILE, STUDY, CoordinatorWorld, coordinator_world, served
from tests.server.chromium import chromium, needs_chromium

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
        assert left.status_code == 200
        for _line in stream.iter_lines():  # it ends by itself: the session is over
            pass
        wait_for_none(live)
        assert client.get(f"{door.root}/live").status_code == 403


def test_who_ends_the_console_ends_its_streams_in_order(
    world: CoordinatorWorld, live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as console:
        door = console.enter_context(served(world.home, live))
        with entered(door) as client, client.stream("GET", f"{door.root}/live") as stream:
            events = told(stream)
            next(events)
            console.close()
            assert list(events) == []
    assert live.listeners == 0
    assert "Cancel" not in caplog.text


@needs_chromium
def test_pages_read_well_in_a_browser_and_follow_what_happens(world: CoordinatorWorld, door: Door) -> None:
    with chromium() as eyes:
        page = eyes.page
        page.goto(door.link)
        page.wait_for_url(f"**{door.root}/")
        root = f"http://127.0.0.1:{door.port}{door.root}"
        for path in [*(path for path, _ in NAVIGATION), f"/studies/{STUDY}", "/releases/open", "/releases/r1"]:
            page.goto(f"{root}{path}")
            assert eyes.found() == [], path
            assert eyes.contrast_found() == [], path
            assert eyes.overflow(390) == 0, path
        page.goto(f"{root}/studies/second")
        page.get_by_text("This page follows what happens.").wait_for()
        world.home.study("second").event("void", round=2, reason=HOSTILE)
        page.locator("td", has_text="round void").wait_for()
        page.focus("text=Retire it")
        page.keyboard.press("Enter")
        page.get_by_text("Retire study second?").wait_for()
        assert eyes.found() == []
        assert eyes.said == [], "a page asks for something that its Content-Security-Policy forbids, or lacks a file"
