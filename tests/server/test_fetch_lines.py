"""Bad lines: a busy catalogue, pages of a list, answers that are not what was asked for, a proxy, a full disk."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.deploy.command import sonoshare
from tests.server.fetching import fetch_from
from tests.server.proxy import proxied_catalogue
from tests.shared.consortium import RELEASE
from tests.shared.memory_source import MemorySource

from sonoshare_shared.errors import FederationError, InputError, RefusedError, SonoShareError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.release import fetch as fetching
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.fetch import fetch_release
from sonoshare_shared.protocol.release.patience import LONGEST_SECONDS, Patience, retry_after
from sonoshare_shared.protocol.release.refusals import require_success
from sonoshare_shared.protocol.release.remote import HttpSource, connected, get_log, list_releases
from sonoshare_shared.protocol.release.sources import FileListing, ListedFile, TransferCutError

DATA = bytes(range(256)) * 40
FILE = ListedFile(path="data.bin", size=len(DATA), sha256=sha256_hex(DATA))
Handler = Callable[[httpx.Request], httpx.Response]


def source(handler: Handler, token: str | None = None) -> Any:
    return connected("https://example.org", token, httpx.MockTransport(handler))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    said: list[float] = []
    monkeypatch.setattr("sonoshare_shared.protocol.release.remote.time.sleep", said.append)
    return said


class Ways(httpx.BaseTransport):
    """Answers one after the other; the last for ever."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.asked = list(answers), list[httpx.Request]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


LIST = httpx.Response(200, json={"releases": []})


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_catalogue_is_asked_again_when_it_says(waits: list[float], status: int) -> None:
    busy = httpx.Response(status, headers={"Retry-After": "7"})
    ways = Ways(busy, httpx.ReadError("cut"), httpx.Response(200, json={"releases": []}))
    with connected("https://example.org", transport=ways) as client:
        assert list_releases(client) == []
    assert waits[0] == 7.0
    assert 0.5 <= waits[1] <= 1.0


def test_patience_ends_and_a_catalogue_that_says_tomorrow_is_left_alone(waits: list[float]) -> None:
    always = Ways(httpx.Response(503))
    with connected("https://example.org", transport=always) as client, pytest.raises(TransferCutError, match="503"):
        list_releases(client)
    assert len(waits) == 5
    assert waits == sorted(waits)
    waits.clear()
    tomorrow = httpx.Response(503, headers={"Retry-After": str(int(LONGEST_SECONDS) + 1)})
    with connected("https://example.org", transport=Ways(tomorrow)) as client, pytest.raises(TransferCutError):
        list_releases(client)
    assert waits == []


def test_nobody_there_is_told_at_once(waits: list[float]) -> None:
    with connected("http://127.0.0.1:9") as client, pytest.raises(FederationError, match="cannot reach"):
        list_releases(client)
    assert waits == []


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert retry_after("120") == 120.0
    assert retry_after("Sun, 22 Nov 2026 12:00:30 GMT", now) == 30.0
    assert retry_after("Sun, 22 Nov 2026 11:00:00 GMT", now) == 0.0
    assert [retry_after(text) for text in (None, "", "soon", "-1", "1e9")] == [None] * 5


def test_a_long_wait_is_told_and_progress_begins_anew() -> None:
    told: list[str] = []
    waited: list[float] = []
    patience = Patience(waited.append, told.append)
    for _ in range(9):
        patience.progressed()
        patience.wait(TransferCutError("busy", after=8))
    assert waited == [8.0] * 9
    assert told[0] == "busy: asking again in 8 s"


def test_a_stop_ends_a_wait_of_another_file(tmp_path: Path) -> None:
    """One file's catalogue says to wait five minutes, another's is refused: nobody waits."""
    files = tuple(ListedFile(path=name, size=1, sha256="0" * 64) for name in ("a", "b"))
    waiting = threading.Event()

    class Source:
        def listing(self, release: str) -> FileListing:
            return FileListing(release=release, files=files)

        def reading(self, _release: str, file: ListedFile, _start: int) -> Any:
            if file.path == "a":
                waiting.set()
                raise TransferCutError("busy", after=LONGEST_SECONDS)
            waiting.wait(5)
            raise RefusedError("no")

    with pytest.raises(RefusedError):
        fetch_release(Source(), "r1", tmp_path / "out", lambda _: None)


@pytest.mark.parametrize(
    "following",
    ["abc+/=", "/api/v1/releases?cursor=abc", "?cursor=abc", "https://example.org/api/v1/releases?cursor=abc"],
)
def test_all_pages_of_a_list_are_read(following: str) -> None:
    pages = [
        httpx.Response(200, json={"releases": [{"release": "r1"}], "next": following}),
        httpx.Response(200, json={"releases": [{"release": "r2"}], "next": None}),
    ]
    ways = Ways(*pages)
    with connected("https://example.org", transport=ways) as client:
        assert [release["release"] for release in list_releases(client)] == ["r1", "r2"]
    assert ways.asked[1].url.host == "example.org"
    assert ways.asked[1].url.params["cursor"] == ("abc+/=" if following == "abc+/=" else "abc")


def test_a_next_page_elsewhere_is_asked_for_here_and_one_without_an_end_is_refused() -> None:
    ways = Ways(
        httpx.Response(200, json={"releases": [], "next": "https://evil.example/api/v1/releases?cursor=1"}), LIST
    )
    with connected("https://example.org", "secret", transport=ways) as client:
        list_releases(client)
    assert ways.asked[1].url.host == "example.org"
    again = httpx.Response(200, json={"releases": [], "next": "again"})
    with source(lambda _: again) as client, pytest.raises(FederationError, match="does not end"):
        list_releases(client)


def read(handler: Handler, start: int) -> tuple[int, bytes]:
    with source(handler) as client, HttpSource(client).reading(RELEASE, FILE, start) as reading:
        return reading.start, b"".join(reading.blocks)


def _part(request: httpx.Request, first: int, **headers: str) -> httpx.Response:
    if "range" not in request.headers:
        return httpx.Response(200, stream=httpx.ByteStream(DATA))
    said = {"Content-Range": f"bytes {first}-{len(DATA) - 1}/{len(DATA)}", "ETag": f'"{FILE.sha256}"'} | headers
    return httpx.Response(206, headers=said, stream=httpx.ByteStream(DATA[first:]))


NOT_THE_PART: dict[str, Handler] = {
    "another byte": lambda request: _part(request, 99),
    "another content": lambda request: _part(request, 100, ETag='"0"'),
    "beyond the end": lambda request: httpx.Response(416) if "range" in request.headers else _part(request, 0),
}


@pytest.mark.parametrize("name", NOT_THE_PART)
def test_case_29_a_part_that_is_not_the_one_asked_for_is_not_joined(name: str) -> None:
    assert read(NOT_THE_PART[name], 100) == (0, DATA)


def test_case_29_the_very_part_goes_on_and_asks_for_the_very_content() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return _part(request, 100)

    assert read(answer, 100) == (100, DATA[100:])
    assert asked[0].headers["if-range"] == f'"{FILE.sha256}"'


def test_a_proxy_that_packs_files_is_named() -> None:
    with pytest.raises(FederationError, match="compressed"):
        read(lambda _: httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"x")), 0)


PROBLEMS: list[Any] = [
    (401, {"error": "token-expired", "message": "m"}, {}, RefusedError, "has expired"),
    (401, {"type": "https://x/token", "detail": "The token has expired."}, {}, RefusedError, "has expired"),
    (
        401,
        {},
        {"WWW-Authenticate": 'Bearer error="invalid_token", error_description="The access token expired"'},
        RefusedError,
        "has expired",
    ),
    (401, {"error": "token", "message": "no"}, {}, RefusedError, "not valid"),
    (403, {"detail": "this token secret-token reads nothing"}, {}, RefusedError, r"this token \.\.\. reads nothing"),
    (404, {}, {}, InputError, "has no"),
    (410, {}, {}, RefusedError, "revoked"),
    (422, {"detail": "\x1b[31mred"}, {}, FederationError, r"422 for it: \?\[31mred"),
    (503, {"title": "resting"}, {"Retry-After": "3"}, TransferCutError, "resting"),
]


@pytest.mark.parametrize(("status", "body", "headers", "error", "words"), PROBLEMS)
def test_refusals_say_why_and_never_repeat_the_token(
    status: int, body: dict[str, Any], headers: dict[str, str], error: type[SonoShareError], words: str
) -> None:
    answer = httpx.Response(status, json=body, headers=headers)
    with (
        source(lambda _: answer, "secret-token") as client,
        client.stream("GET", "/") as response,
        pytest.raises(error, match=words) as caught,
    ):
        require_success(response, "it")
    assert "secret-token" not in str(caught.value)


def test_a_catalogue_without_a_log_has_none_and_junk_is_none() -> None:
    with source(lambda _: httpx.Response(404)) as client:
        assert get_log(client) is None
    with source(lambda _: httpx.Response(200, content=b"[]")) as client, pytest.raises(FederationError, match="log"):
        get_log(client)


def test_case_69_a_full_disk_is_one_line_and_the_same_command_goes_on(
    served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, room = fetching._Part.append, [20_000]

    def until_full(part: Any, block: bytes) -> None:
        room[0] -= len(block)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(part, block)

    monkeypatch.setenv("SONOSHARE_CONFIG", str(tmp_path / "config"))
    with monkeypatch.context() as full:
        full.setattr(fetching._Part, "append", until_full)
        folder = served.consortium.folder
        run = sonoshare("fetch", RELEASE, "--server", folder, "--out", tmp_path / "out")
    assert run.errors == ["error: No space left on device (make room, then run the same command again)"]
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert not (tmp_path / "out").exists()
    memory = MemorySource.of(served.bundle())
    fetch_from(memory, served, tmp_path / "out")
    assert len({path for path, _ in memory.asked}) < len(memory.releases[RELEASE])  # the rest was there


@pytest.mark.parametrize("large", [1, 1 << 40])
def test_case_29_a_file_that_a_thread_writes_is_cut_and_goes_on_like_any_other(
    served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(fetching, "_LARGE_BYTES", large)
    monkeypatch.setattr(fetching, "_BLOCK_BYTES", 300)
    source = MemorySource.of(served.bundle())
    source.cuts[layout.PRIVACY_HTML] = [1234, 10, 2001]
    fetch_from(source, served, tmp_path / "out")
    starts = [start for path, start in source.asked if path == layout.PRIVACY_HTML]
    assert starts == [0, 1234, 1244, 3245]
    assert (tmp_path / "out" / layout.PRIVACY_HTML).read_bytes() == source.releases[RELEASE][layout.PRIVACY_HTML]


def test_case_69_a_thread_that_cannot_write_leaves_no_gap_and_its_error_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a write has failed, what was handed on behind it is not written either."""
    monkeypatch.setattr(fetching, "_BLOCK_BYTES", 4)
    job: Any = type("Job", (), {"advance": lambda *_: None})()

    class Failing:
        def __init__(self, stream: Any) -> None:
            self.stream, self.writes = stream, 0

        def write(self, data: bytes) -> None:
            self.writes += 1
            if self.writes == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.stream.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

    with fetching._Part(tmp_path / "part", job, large=True) as part:
        part._stream = Failing(part._stream)  # type: ignore[assignment]
        for block in (b"aaaa", b"bbbb", b"cccc"):
            part.append(block)
        with pytest.raises(OSError, match="No space"):
            part.flush()
    assert (tmp_path / "part").read_bytes() == b"aaaa"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.server.catalogue_fixture import site  # noqa: PLC0415

    with site(tmp_path_factory.mktemp("catalogue")) as running:
        yield running


def test_a_catalogue_is_reached_through_a_proxy_and_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with proxied_catalogue(tmp_path) as (catalogue, proxy, tunnels):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with connected(catalogue, "secret-token") as client:
            assert list_releases(client) == [{"release": "r1"}]
        host = catalogue.removeprefix("https://")
        assert [line for line, _ in tunnels] == [f"CONNECT {host} HTTP/1.1"]
        assert all(b"secret-token" not in head for _, head in tunnels)  # the proxy sees no token
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with connected(catalogue) as client:
            assert list_releases(client) == [{"release": "r1"}]
        assert len(tunnels) == 1


@pytest.mark.parametrize("proxy", ["nonsense", "socks5://127.0.0.1:1", "ftp://user:geheim@127.0.0.1"])
def test_a_proxy_that_is_none_is_one_line_without_its_password(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises((InputError, FederationError)) as caught, connected("https://example.org") as client:
        list_releases(client)
    assert "geheim" not in str(caught.value)
