"""Pages of a role for its own staff: who gets in, from where, and by which forms."""

import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from sonoshare_shared.errors import InputError
from sonoshare_shared.local_pages.door import LINK_SECONDS, SESSION_SECONDS, Door
from sonoshare_shared.local_pages.guard import FORM_WORD, MAX_BODY_BYTES, form_of
from sonoshare_shared.local_pages.pages import LocalPages, local_app
from sonoshare_shared.local_pages.serving import listening

PORT = 4321
HOSTILE = "<script>alert(1)</script>\"'"


@dataclass
class Console:
    door: Door
    client: TestClient
    time: list[float]
    changed: list[str]

    def enter(self) -> Any:
        return self.client.get(self.door.link.partition(str(PORT))[2])

    def get(self, path: str) -> Any:
        return self.client.get(f"{self.door.root}{path}")

    def post(self, path: str, fields: dict[str, str], site: str | None = None) -> Any:
        headers = {} if site is None else {"sec-fetch-site": site}
        return self.client.post(f"{self.door.root}{path}", data=fields, follow_redirects=False, headers=headers)


@pytest.fixture
def console() -> Iterator[Console]:
    time, changed = [0.0], list[str]()
    door = Door(PORT, lambda: time[0])
    pages = LocalPages("The title", "sonoshare_shared.local_pages", (("/", "Overview"),), "The foot.")

    def start(request: Request) -> Response:
        return pages.page(request, "failed", words=HOSTILE, remedy="", posted=False)

    def change(request: Request) -> Response:
        changed.append(form_of(request)["name"])
        return pages.done("/", f"changed to {changed[-1]}")

    def wrong(_request: Request) -> Response:
        raise InputError(f"no {HOSTILE}", remedy="give another")

    def broken(_request: Request) -> Response:
        raise ValueError("patient Erika Mustermann")

    routes = [
        Route("/", start),
        Route("/change", change, methods=["POST"]),
        Route("/wrong", wrong),
        Route("/broken", broken),
    ]
    client = TestClient(local_app(pages, routes, door), base_url=f"http://127.0.0.1:{PORT}")
    yield Console(door, client, time, changed)
    client.close()


def test_nothing_is_shown_before_the_link_was_opened(console: Console) -> None:
    for path in ("/", f"{console.door.root}/", f"{console.door.root}/nothing", "/static/../pages.py", "/static/no.css"):
        answer = console.client.get(path)
        assert answer.status_code in {403, 404}
        assert console.door.form_word not in answer.text
        assert console.door.root not in answer.text
    assert console.post("/change", {FORM_WORD: console.door.form_word, "name": "x"}).status_code == 403
    assert not console.changed


def test_the_link_lets_one_browser_in_once(console: Console) -> None:
    link = console.door.link
    entered = console.enter()
    assert entered.status_code == 200
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith(f"sonoshare-console-{PORT}=")
    for part in ("HttpOnly", "SameSite=strict", f"Path={console.door.root}"):
        assert part in cookie
    assert console.get("/").status_code == 200
    assert console.client.get(link, headers={"cookie": ""}).status_code == 403
    assert console.client.get("/enter?secret=used").status_code == 403
    console.client.cookies.clear()
    assert console.get("/").status_code == 403


def test_a_link_grows_old_and_so_does_a_session(console: Console) -> None:
    console.time[0] = LINK_SECONDS - 1
    assert console.enter().status_code == 200
    console.time[0] += SESSION_SECONDS - 1
    assert console.get("/").status_code == 200
    console.time[0] += 2
    assert console.get("/").status_code == 403
    late = Door(PORT, lambda: console.time[0])
    secret = late.link.partition("secret=")[2]
    console.time[0] += LINK_SECONDS + 1
    assert late.enter(secret) is None


def test_asking_for_the_head_of_the_link_does_not_use_it_up(console: Console) -> None:
    assert console.client.head(console.door.link.partition(str(PORT))[2]).status_code == 403
    assert console.enter().status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:80", "[::1]:4321", ""]
)
def test_another_host_is_refused_before_anything_else(console: Console, host: str) -> None:
    console.enter()
    for path in (f"{console.door.root}/", "/static/style.css", "/enter?secret=x"):
        assert console.client.get(path, headers={"host": host}).status_code == 421


def test_cookies_of_other_servers_on_this_machine_shut_nobody_out(console: Console) -> None:
    """Cookies know no ports: any server on 127.0.0.1 may set one of this name for all paths, or one that is none."""
    console.enter()
    mine = f"{console.door.cookie_name}={console.client.cookies[console.door.cookie_name]}"
    tossed = f"{console.door.cookie_name}=tossed"
    for cookies in (f"{mine}; {tossed}", f"{tossed}; {mine}", f'other={{"a": [1, 2]}}; {mine}', f"a=\x7f(; =; ;{mine}"):
        answer = console.client.get(f"{console.door.root}/", headers={"cookie": cookies})
        assert answer.status_code == 200, cookies
    assert console.client.get(f"{console.door.root}/", headers={"cookie": tossed}).status_code == 403


def test_who_has_no_session_is_not_told_whose_console_it_is(console: Console) -> None:
    for path, headers in (("/", {}), ("/", {"host": "evil.example"}), ("/static/no.css", {}), ("/enter?secret=x", {})):
        answer = console.client.get(path, headers=headers)
        assert answer.status_code in {403, 404, 421}
        assert "A console of SonoShare" in answer.text or not answer.text.startswith("<")
        assert "The title" not in answer.text


def test_only_on_the_usual_port_a_host_has_none() -> None:
    assert Door(80).hosts == {"127.0.0.1:80", "127.0.0.1", "localhost:80", "localhost"}
    assert Door(PORT).hosts == {f"127.0.0.1:{PORT}", f"localhost:{PORT}"}


def test_a_form_needs_the_word_of_its_session(console: Console) -> None:
    console.enter()
    good = {FORM_WORD: console.door.form_word, "name": "x"}
    for fields in ({"name": "x"}, {**good, FORM_WORD: "guessed"}, {**good, FORM_WORD: "é"}):
        assert console.post("/change", fields).status_code == 403
    for site in ("cross-site", "same-site", "none"):
        assert console.post("/change", good, site).status_code == 403
    json = {"content-type": "application/json"}
    assert console.client.post(f"{console.door.root}/change", content=b"{}", headers=json).status_code == 415
    assert console.post("/change", {**good, "more": "x" * MAX_BODY_BYTES}).status_code == 413
    assert console.client.put(f"{console.door.root}/change").status_code == 405
    assert console.get("/change").status_code == 405
    assert not console.changed
    done = console.post("/change", good, "same-origin")
    assert (done.status_code, done.headers["location"]) == (303, f"{console.door.root}/")
    assert console.changed == ["x"]


def test_what_was_done_is_said_once_and_escaped(console: Console) -> None:
    console.enter()
    console.post("/change", {FORM_WORD: console.door.form_word, "name": HOSTILE})
    page = console.get("/")
    assert "changed to &lt;script&gt;" in page.text
    assert "<script" not in page.text
    assert "changed to" not in console.get("/").text


def test_errors_are_pages_with_their_remedy(console: Console) -> None:
    console.enter()
    page = console.get("/wrong")
    assert page.status_code == 409
    assert "no &lt;script&gt;" in page.text
    assert "give another" in page.text
    assert console.get("/nothing").status_code == 404


def test_a_fault_shows_and_logs_nothing_of_its_words(console: Console, caplog: pytest.LogCaptureFixture) -> None:
    console.enter()
    with caplog.at_level(logging.DEBUG):
        page = console.get("/broken")
    assert page.status_code == 500
    assert "its kind and place are in the terminal" in page.text
    assert "ValueError at" in caplog.text
    assert "Mustermann" not in page.text + caplog.text


def test_every_answer_has_strict_headers(console: Console) -> None:
    refused, entered = console.client.get("/"), console.enter()
    for answer in (refused, entered, console.get("/"), console.client.get("/static/console.css")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
    for page in (entered, console.get("/")):
        assert " style=" not in page.text


def test_who_leaves_is_out(console: Console) -> None:
    console.enter()
    assert "You have left" in console.post("/leave", {FORM_WORD: console.door.form_word}).text
    assert console.get("/").status_code == 403


def test_a_port_that_cannot_be_had_is_one_line() -> None:
    with listening(0) as taken:
        assert taken.getsockname()[0] == "127.0.0.1"
        with pytest.raises(InputError, match="cannot listen on"), listening(taken.getsockname()[1]):
            pass


SERVED = """
from starlette.responses import PlainTextResponse
from sonoshare_shared.local_pages.serving import serve
serve(lambda door: PlainTextResponse(door.root), 0, lambda link: print(link, flush=True))
print("ended", flush=True)
"""


def test_an_interrupt_ends_it_cleanly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        link = process.stdout.readline().strip()
        assert link.startswith("http://127.0.0.1:")
        assert httpx.get(link, trust_env=False).status_code == 200
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, errors) == (0, "ended\n", "")
