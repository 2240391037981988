"""Download over real HTTP on loopback: whole, cut and resumed, refused, and never visible before it is verified."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from tests.server.catalogue_fixture import OTHER, UNPUBLISHED, Site, site
from tests.server.fetching import fetch_from
from tests.shared.consortium import NOW, RELEASE
from tests.shared.memory_source import MemorySource

from sonoshare_deploy.cli import fetch as fetch_command
from sonoshare_deploy.cli import releases as releases_command
from sonoshare_deploy.cli import verify as verify_command
from sonoshare_shared.errors import FederationError, InputError, IntegrityError, RefusedError, VerificationError
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.fetch import fetch_release
from sonoshare_shared.protocol.release.remote import HttpSource, connected, list_releases, require_server
from sonoshare_shared.protocol.release.sources import FolderSource
from sonoshare_shared.protocol.release.verify import Verified


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("catalogue")) as running:
        yield running


class Cut(httpx.SyncByteStream):
    """A body that breaks off after some bytes."""

    def __init__(self, stream: httpx.SyncByteStream, limit: int) -> None:
        self._stream, self._limit = stream, limit

    def __iter__(self) -> Iterator[bytes]:
        for block in self._stream:
            if len(block) > self._limit:
                yield block[: self._limit]
                raise httpx.ReadError("cut")
            self._limit -= len(block)
            yield block

    def close(self) -> None:
        self._stream.close()


class Wire(httpx.BaseTransport):
    """The real transport, with a fault in the answers for one path.

    Args:
        path: end of the path that is struck.
        cuts: bytes after which each answer breaks off; when they are used up, answers are whole.
        change: edits the body of the answers.
    """

    def __init__(
        self, path: str = "", cuts: list[Any] | tuple[()] = (), change: Callable[[bytes], bytes] | None = None
    ) -> None:
        self._inner = httpx.HTTPTransport()
        self._path, self._cuts, self._change = path, list(cuts), change
        self.ranges: list[str | None] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._inner.handle_request(request)
        if not request.url.path.endswith(self._path):
            return answer
        self.ranges.append(request.headers.get("range"))
        if self._change is not None:
            body = self._change(answer.read())
            headers = {k: v for k, v in answer.headers.items() if k not in {"content-length", "content-encoding"}}
            return httpx.Response(answer.status_code, headers=headers, stream=httpx.ByteStream(body))
        if self._cuts:
            cut = Cut(answer.stream, self._cuts.pop(0))  # type: ignore[arg-type]
            return httpx.Response(answer.status_code, headers=answer.headers, stream=cut)
        return answer

    def close(self) -> None:
        self._inner.close()


def fetch(served: Site, out: Path, *, transport: Wire | None = None, **options: Any) -> Verified:
    token = options.pop("token", served.token())
    with connected(served.url, token, transport) as client:
        return fetch_from(HttpSource(client), served, out, **options)


def test_fetch_brings_the_very_files(served: Site, tmp_path: Path) -> None:
    seen = []
    verified = fetch(served, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert verified.manifest.release == RELEASE
    original = {p.relative_to(served.bundle()): p.read_bytes() for p in served.bundle().rglob("*") if p.is_file()}
    fetched = {p.relative_to(tmp_path / "out"): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert fetched == original
    assert seen[-1][0] == seen[-1][1] == sum(map(len, original.values()))
    assert not (tmp_path / "out.part").exists()


@pytest.mark.parametrize("tenth", range(10))
def test_case_29_cut_at_every_tenth_and_resumed(served: Site, tmp_path: Path, tenth: Any) -> None:
    size = (served.bundle() / layout.PRIVACY_HTML).stat().st_size
    wire = Wire(layout.PRIVACY_HTML, cuts=[size * tenth // 10])
    fetch(served, tmp_path / "out", transport=wire)
    assert (tmp_path / "out" / layout.PRIVACY_HTML).read_bytes() == (served.bundle() / layout.PRIVACY_HTML).read_bytes()
    assert len(wire.ranges) == 2
    assert wire.ranges[1] == (f"bytes={size * tenth // 10}-" if tenth else None)


def test_case_29_given_up_and_resumed_by_another_run(served: Site, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FederationError, match="connection was lost"):
        fetch(served, out, transport=Wire(layout.PRIVACY_HTML, cuts=[1000, 0, 0, 0, 0, 0]))
    assert not out.exists()
    part = tmp_path / "out.part" / f"{layout.PRIVACY_HTML}.part"
    assert part.stat().st_size == 1000
    wire = Wire(layout.PRIVACY_HTML)
    fetch(served, out, transport=wire)
    assert wire.ranges == ["bytes=1000-"]


def test_files_that_are_there_are_not_fetched_again(served: Site, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FederationError):
        fetch(served, out, transport=Wire(layout.SHA256SUMS, cuts=[0] * 9))
    wire = Wire("")
    have = len([p for p in (tmp_path / "out.part").rglob("*") if p.is_file() and p.suffix != ".part"])
    fetch(served, out, transport=wire)
    total = len([p for p in served.bundle().rglob("*") if p.is_file()])
    assert len(wire.ranges) == total - have + 1  # and the listing


def test_part_of_another_content_is_given_up(served: Site, tmp_path: Path) -> None:
    part = tmp_path / "out.part" / f"{layout.DATASHEET}.part"
    part.parent.mkdir()
    part.write_bytes(b"something else" * 10)
    fetch(served, tmp_path / "out")
    assert (tmp_path / "out" / layout.DATASHEET).read_bytes() == (served.bundle() / layout.DATASHEET).read_bytes()


def test_what_an_earlier_fetch_left_is_cleared(served: Site, tmp_path: Path) -> None:
    folder = tmp_path / "out.part"
    (folder / "images").mkdir(parents=True)
    (folder / "images/stranger.png").write_bytes(b"x")
    (folder / "masks").symlink_to(tmp_path)
    fetch(served, tmp_path / "out")
    assert not (tmp_path / "out/images/stranger.png").exists()
    assert not (tmp_path / "out/masks").is_symlink()


def changed(served: Site, path: str, data: Callable[..., Any]) -> MemorySource:
    source = MemorySource.of(served.bundle())
    listing = source.listing(RELEASE)
    source.releases[RELEASE][path] = data(source.releases[RELEASE][path])
    source.change = lambda _: listing
    return source


@pytest.mark.parametrize("change", [lambda body: body[:-1] + b"~", lambda body: body + b"more"])
def test_changed_file_is_refused(served: Site, tmp_path: Path, change: Callable[..., Any]) -> None:
    with pytest.raises(IntegrityError):
        fetch_from(changed(served, layout.DATASHEET, change), served, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_ends_early_every_time_is_given_up(served: Site, tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="ended early"):
        fetch_from(changed(served, layout.DATASHEET, lambda body: body[:-1]), served, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_a_release_is_fetched_from_any_source(served: Site, tmp_path: Path, kind: str) -> None:
    folder = served.consortium.folder
    source = FolderSource(folder) if kind == "folder" else MemorySource.of(served.bundle())
    assert fetch_from(source, served, tmp_path / "out").manifest.release == RELEASE


@pytest.mark.parametrize("cut", range(0, 8001, 500))
def test_case_29_cut_anywhere_and_resumed_where_it_stopped(served: Site, tmp_path: Path, cut: Any) -> None:
    source = MemorySource.of(served.bundle())
    source.cuts[layout.PRIVACY_HTML] = [cut]
    fetch_from(source, served, tmp_path / "out")
    assert [start for path, start in source.asked if path == layout.PRIVACY_HTML] == [0, cut]


def _with_first(listing: Any, **changes: Any) -> Any:
    first, *others = listing.files
    return listing.model_copy(update={"files": (first.model_copy(update=changes), *others)})


def _with_clash(listing: Any) -> Any:
    twin = listing.files[0].model_copy(update={"path": "manifest.JSON"})
    return listing.model_copy(update={"files": (*listing.files, twin)})


DISHONEST_LISTINGS = {
    "path outside": (lambda listing: _with_first(listing, path="../../evil"), VerificationError),
    "absolute path": (lambda listing: _with_first(listing, path="/evil"), VerificationError),
    "clash of case": (_with_clash, VerificationError),
    "more than any disk holds": (lambda listing: _with_first(listing, size=1 << 62), InputError),
}


@pytest.mark.parametrize("name", DISHONEST_LISTINGS)
def test_case_20_dishonest_listing_is_refused(served: Site, tmp_path: Path, name: str) -> None:
    change, error = DISHONEST_LISTINGS[name]
    source = MemorySource.of(served.bundle())
    source.change = change
    with pytest.raises(error):
        fetch_from(source, served, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path.parent / "evil").exists()


def _listing(edit: Callable[..., Any]) -> Callable[[bytes], bytes]:
    def change(body: bytes) -> bytes:
        value = json.loads(body)
        edit(value)
        return json.dumps(value).encode()

    return change


@pytest.mark.parametrize(
    "edit",
    [
        lambda v: v.update(release="other"),
        lambda v: v.update(files=[]),
        lambda v: v["files"][0].update(size=-1),
        lambda v: v["files"][0].update(sha256="x"),
        lambda v: v.pop("files"),
    ],
)
def test_a_listing_that_is_none_is_refused(served: Site, tmp_path: Path, edit: Callable[..., Any]) -> None:
    with pytest.raises(FederationError):
        fetch(served, tmp_path / "out", transport=Wire("/files", change=_listing(edit)))
    assert not (tmp_path / "out").exists()


def test_a_file_that_the_listing_leaves_out_does_not_verify(served: Site, tmp_path: Path) -> None:
    source = MemorySource.of(served.bundle())
    source.change = lambda listing: listing.model_copy(
        update={"files": tuple(file for file in listing.files if file.path != layout.DATASHEET)}
    )
    with pytest.raises(VerificationError) as caught:
        fetch_from(source, served, tmp_path / "out")
    assert caught.value.cause == "file-missing"
    assert not (tmp_path / "out").exists()


def test_refusals_are_clear(served: Site, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="token"):
        fetch(served, tmp_path / "out", token=None)
    with pytest.raises(RefusedError, match="token"):
        fetch(served, tmp_path / "out", token="wrong")
    with connected(served.url) as client, pytest.raises(InputError):
        fetch_release(HttpSource(client), UNPUBLISHED, tmp_path / "out", lambda _: None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_bytes(b"")
    with pytest.raises(InputError, match="exists"):
        fetch(served, tmp_path / "full")
    with connected("http://127.0.0.1:9") as client, pytest.raises(FederationError, match="reach"):
        fetch_release(HttpSource(client), RELEASE, tmp_path / "out", lambda _: None)


@pytest.mark.parametrize(
    "server",
    [
        "http://example.org",
        "ftp://127.0.0.1",
        "127.0.0.1:80",
        "https://user:x@example.org",
        "http://127.0.0.1@evil.org",
        "",
    ],
)
def test_only_https_or_this_machine(server: str) -> None:
    with pytest.raises(InputError):
        require_server(server)


def test_https_and_loopback_are_accepted() -> None:
    for server in ("https://example.org/", "http://127.0.0.1:80", "http://localhost:1", "http://[::1]:5"):
        assert require_server(server) == server.rstrip("/")


def test_redirects_are_not_followed(tmp_path: Path) -> None:
    wire = httpx.MockTransport(lambda _: httpx.Response(302, headers={"Location": "http://169.254.169.254/"}))
    with connected("https://example.org", "t", wire) as client, pytest.raises(FederationError, match="302"):
        fetch_release(HttpSource(client), RELEASE, tmp_path / "out", lambda _: None)


def test_the_list_of_a_catalogues_releases(served: Site) -> None:
    with connected(served.url) as client:
        assert {release["release"] for release in list_releases(client)} == {RELEASE, OTHER}


def test_answers_that_are_no_lists() -> None:
    for body in (b"[]", b"{", b'{"releases": 3}', b'{"releases": [3]}'):
        wire = httpx.MockTransport(lambda _, body=body: httpx.Response(200, content=body))
        with connected("https://example.org", transport=wire) as client, pytest.raises(FederationError):
            list_releases(client)


def test_commands_from_list_to_verify(served: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_command, "datetime", _StoppedClock)
    roster = tmp_path / "roster.dsse.json"
    roster.write_bytes(served.settings.roster().to_bytes())
    runner = CliRunner()
    listed = runner.invoke(releases_command.command, ["--server", served.url, "--json"])
    assert {release["release"] for release in _last_line(listed)["releases"]} == {RELEASE, OTHER}
    assert RELEASE in runner.invoke(releases_command.command, ["--server", served.url]).stdout
    out = str(tmp_path / "out")
    options = ["--server", served.url, "--token", served.token(), "--out", out, "--roster", str(roster), "--json"]
    fetched = _last_line(runner.invoke(fetch_command.command, [RELEASE, *options]))
    assert (fetched["verified"], fetched["cause"], fetched["roster_pinned"]) == (True, None, True)
    sent = str(tmp_path / "sent")
    copied = ["--server", str(served.consortium.folder), "--out", sent, "--roster", str(roster), "--json"]
    assert _last_line(runner.invoke(fetch_command.command, [RELEASE, *copied]))["verified"] is True
    log = tmp_path / "log.json"
    log.write_bytes(served.client.get("/api/v1/log").content)
    arguments = [out, "--roster", str(roster), "--log-head", str(log)]
    verified = _last_line(runner.invoke(verify_command.command, [*arguments, "--json"]))
    assert (verified["verified"], verified["cause"]) == (True, None)
    assert "signed by north, south, west" in runner.invoke(verify_command.command, arguments).stdout
    monkeypatch.setattr(_StoppedClock, "now", lambda _: NOW + timedelta(days=8))
    assert "older than 7 days" in runner.invoke(verify_command.command, arguments).stderr  # case 60
    (tmp_path / "out" / layout.LICENCE).write_bytes(b"")
    broken = runner.invoke(verify_command.command, [*arguments, "--json"])
    assert _last_line(broken)["cause"] == "file-size"
    assert isinstance(broken.exception, VerificationError)
    log.write_bytes(b"junk")
    assert _last_line(runner.invoke(verify_command.command, [*arguments, "--json"]))["cause"] == "log-proof"


class _StoppedClock(datetime):
    @classmethod
    def now(cls, _: Any = None) -> datetime:  # type: ignore[override]
        return NOW


def _last_line(result: Result) -> dict[str, Any]:
    return json.loads(result.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_command_exit_status_names_the_cause(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sonoshare_deploy.cli.main",
            "verify",
            str(tmp_path),
            "--roster",
            str(tmp_path / "r"),
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["cause"] == "roster"
    assert done.stderr.startswith("error: roster: ")
