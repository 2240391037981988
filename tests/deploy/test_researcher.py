"""A researcher's commands against a served catalogue: login, list, fetch, verify, and what each says when it cannot."""

import io
import json
import stat
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tests.deploy.command import Run, sonoshare
from tests.deploy.umasks import umask
from tests.server.catalogue_fixture import OTHER, Site, site
from tests.shared.consortium import NOW, RELEASE, Consortium

from sonoshare_deploy.addresses import free_ports
from sonoshare_deploy.cli import fetch as fetch_command
from sonoshare_deploy.cli import releases as releases_command
from sonoshare_deploy.cli import verify as verify_command
from sonoshare_deploy.researcher import obtaining
from sonoshare_deploy.researcher.places import FILE, Place, read_known, write_known
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.release import evidence, layout
from sonoshare_shared.protocol.release.fetch import fetch_release
from sonoshare_shared.protocol.release.freshness import KnownHead


class _StoppedClock(datetime):
    days = 0

    @classmethod
    def now(cls, _: Any = None) -> Any:
        return NOW + timedelta(days=cls.days)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def served(running: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The catalogue as it was made, a stopped clock, and an empty folder of settings."""
    for module in (obtaining, verify_command, fetch_command):
        monkeypatch.setattr(module, "datetime", _StoppedClock)
    monkeypatch.setattr(_StoppedClock, "days", 0)
    monkeypatch.setenv("SONOSHARE_CONFIG", str(tmp_path / "config"))
    for name in ("SONOSHARE_TOKEN", "SONOSHARE_SERVER"):
        monkeypatch.delenv(name, raising=False)
    entries, log, root = (running.consortium.folder / "log.jsonl"), running.settings.log, running.consortium.root
    before = entries.read_bytes()
    yield running
    entries.write_bytes(before)
    object.__setattr__(running.settings, "log", log)
    running.consortium.root, running.clock.now = root, NOW


def last(run: Run) -> dict[str, Any]:
    return json.loads(run.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def login(served: Site, *options: object, stdin: str = "") -> Run:
    return sonoshare("login", served.url, "--json", *options, stdin=stdin)


def revoke(served: Site) -> None:
    served.consortium.revoke(sha256_file(served.bundle() / layout.MANIFEST))


def test_after_a_login_by_hand_every_command_means_that_catalogue_and_that_root(served: Site, tmp_path: Path) -> None:
    root = served.consortium.root.public
    run = login(served, "--token", "-", "--root", root.hex, stdin=served.token() + "\n")
    said = last(run)
    assert (run.returncode, said["root_pinned"], said["root"], said["tokens"]) == (0, "by-hand", root.hex, ["*"])
    assert "first use" not in run.stderr
    listed = last(sonoshare("releases", "--json"))
    assert {release["release"] for release in listed["releases"]} == {RELEASE, OTHER}
    fetched = sonoshare("fetch", RELEASE, "--out", tmp_path / "out", "--json")
    assert (last(fetched)["trust"], last(fetched)["roster_pinned"]) == ("by-hand", True)
    assert last(fetched)["revocations_known_until"] is not None
    assert fetched.stderr == ""
    verified = last(sonoshare("verify", tmp_path / "out", "--json"))
    assert (verified["verified"], verified["revocations_known_until"]) == (True, None)


def test_the_first_login_says_that_it_trusts_the_catalogue_and_a_later_one_notices_another_root(served: Site) -> None:
    first = login(served)
    assert last(first)["root_pinned"] == "first-use"
    assert "first use" in first.stderr
    assert served.consortium.root.public.fingerprint in sonoshare("login", served.url).stdout
    assert "first use" not in login(served).stderr
    served.consortium.root = SigningKey.generate()
    other = login(served)
    assert (other.returncode, len(other.errors)) == (1, 1)
    assert "another root key than the pinned one" in other.errors[0]
    assert "--root KEY" in other.errors[0]
    by_hand = login(served, "--root", served.consortium.root.public.hex)
    assert last(by_hand)["root_pinned"] == "by-hand"


def test_a_root_or_roster_given_by_hand_is_held_against_what_the_catalogue_shows(served: Site, tmp_path: Path) -> None:
    stranger = Consortium(tmp_path / "stranger")
    (tmp_path / "roster").write_bytes(stranger.signed_roster().to_bytes())
    for options in (("--root", stranger.root.public.hex), ("--roster", tmp_path / "roster")):
        run = login(served, *options)
        assert run.returncode == 1
        assert run.errors[0].startswith("error: roster: ")
    assert read_known().places == {}


def test_a_root_trusted_on_first_use_is_told_at_every_fetch(served: Site, tmp_path: Path) -> None:
    login(served, "--token", served.token())
    run = sonoshare("fetch", RELEASE, "--out", tmp_path / "out", "--json")
    assert (last(run)["trust"], last(run)["roster_pinned"]) == ("first-use", False)
    assert "first login" in run.stderr


def test_a_file_of_tokens_is_closed_whatever_the_umask_and_closed_again_where_it_was_opened(
    served: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with umask(0):
        path = Path(last(login(served, "--token", "sonoshare_planted"))["config"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for mode in (0o644, 0o620, 0o604):
        path.chmod(mode)
        assert read_known().at(served.url).token(RELEASE) == "sonoshare_planted"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "get new tokens" in caplog.text
        assert "planted" not in caplog.text
        caplog.clear()
    read_known()
    assert not caplog.text


def test_settings_are_their_owners_alone_and_logout_forgets_tokens_and_keeps_the_pin(served: Site) -> None:
    token = served.token()
    login(served, "--token", token, "--release", RELEASE)
    login(served, "--token", "sonoshare_other")
    path = Path(last(login(served))["config"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    place = read_known().at(served.url)
    assert (place.token(RELEASE), place.token(OTHER)) == (token, "sonoshare_other")
    assert token not in repr(read_known())
    assert sonoshare("logout").returncode == 0
    assert token.encode() not in path.read_bytes()
    assert read_known().server is None
    assert read_known().at(served.url).pin is not None
    assert sonoshare("logout", served.url, "--forget").returncode == 0
    assert sonoshare("logout", served.url).errors == [
        "error: you are not logged in there (log in: sonoshare login URL)"
    ]


def test_a_token_goes_only_to_the_catalogue_that_it_was_kept_for(served: Site, tmp_path: Path) -> None:
    login(served, "--token", served.token())
    elsewhere = served.url.replace("127.0.0.1", "localhost")
    run = sonoshare("fetch", RELEASE, "--server", elsewhere, "--out", tmp_path / "out")
    assert run.returncode == 1
    assert "wants a valid token" in run.errors[0]


def test_damaged_settings_are_one_line(served: Site, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / FILE).write_bytes(b"{")
    with pytest.raises(IntegrityError, match="damaged"):
        read_known()
    for command in (("releases",), ("fetch", RELEASE, "--out", tmp_path / "x"), ("login", served.url)):
        run = sonoshare(*command)
        assert (run.returncode, len(run.errors)) == (1, 1)
        assert "log in again" in run.errors[0]


def test_verify_without_roster_and_login_is_a_usage_error(served: Site, tmp_path: Path) -> None:
    run = sonoshare("verify", tmp_path)
    assert run.returncode == 2
    assert "--roster FILE" in run.stderr


def test_a_revoked_release_is_refused_with_its_reason_before_a_byte_comes(served: Site, tmp_path: Path) -> None:
    login(served, "--token", served.token())
    revoke(served)  # the log says so, and the catalogue still gives it out
    run = sonoshare("fetch", RELEASE, "--out", tmp_path / "out", "--json")
    assert (run.returncode, last(run)["cause"]) == (1, "revoked")
    assert "by 'south': consent withdrawn" in run.errors[0]
    assert not (tmp_path / "out.part").exists()
    anyway = sonoshare("fetch", RELEASE, "--out", tmp_path / "out", "--json", "--revoked-too")
    assert anyway.returncode == 0
    assert "consent withdrawn" in last(anyway)["revoked"]
    assert "was revoked" in anyway.stderr
    again = sonoshare("fetch", RELEASE, "--out", tmp_path / "out", "--json")
    assert last(again)["cause"] == "revoked"  # what stands there already is no way around


def test_a_release_that_is_revoked_while_it_comes_does_not_appear(
    served: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(source: Any, release: str, out: Path, check: Any, **options: Any) -> Any:
        def late(folder: Path) -> Any:
            revoke(served)
            return check(folder)

        return fetch_release(source, release, out, late, **options)

    monkeypatch.setattr(obtaining, "fetch_release", slow)
    run = sonoshare("fetch", RELEASE, "--server", served.url, "--token", served.token(), "--out", tmp_path / "out")
    assert run.errors[0].startswith("error: revoked: ")
    assert not (tmp_path / "out").exists()


def test_case_60_an_older_log_than_before_is_warned_of(served: Site, tmp_path: Path) -> None:
    login(served, "--token", served.token())
    old = evidence.view(served.consortium.log())
    revoke(served)
    with_newer = read_known()
    newest = KnownHead.of(evidence.view(served.consortium.log()))
    place = with_newer.at(served.url)
    write_known(with_newer.having(served.url, Place(place.tokens, place.pin, place.roster, newest)))
    object.__setattr__(served.settings, "log", SimpleNamespace(view=lambda: old))
    run = sonoshare("fetch", RELEASE, "--out", tmp_path / "out", "--json")
    assert run.returncode == 0
    assert "older log than it showed before" in run.stderr
    assert read_known().at(served.url).head == newest  # and it stays known


def test_case_61_another_log_than_before_is_refused_and_a_longer_one_remembered(served: Site, tmp_path: Path) -> None:
    login(served, "--token", served.token())
    assert sonoshare("fetch", RELEASE, "--out", tmp_path / "out").returncode == 0
    known = read_known()
    place = known.at(served.url)
    assert place.head == KnownHead.of(evidence.view(served.consortium.log()))
    forked = Place(place.tokens, place.pin, place.roster, KnownHead(place.head.size, "0" * 64))
    write_known(known.having(served.url, forked))
    run = sonoshare("fetch", RELEASE, "--out", tmp_path / "other")
    assert run.errors[0].startswith("error: log-proof: ")
    assert "forked" in run.errors[0]


def test_a_catalogue_without_a_log_is_told_and_a_log_of_long_ago_too(served: Site, tmp_path: Path) -> None:
    login(served, "--token", served.token())
    log = served.settings.log
    object.__setattr__(served.settings, "log", None)
    run = sonoshare("fetch", RELEASE, "--out", tmp_path / "a", "--json")
    assert last(run)["revocations_known_until"] is None
    assert "shows no log" in run.stderr
    object.__setattr__(served.settings, "log", log)
    _StoppedClock.days = 9
    assert "the catalogue's log is of 2026-11-22" in sonoshare("fetch", RELEASE, "--out", tmp_path / "b").stderr


def test_a_finished_folder_is_verified_and_not_downloaded_again(served: Site, tmp_path: Path) -> None:
    login(served, "--token", served.token())
    out = tmp_path / "out"
    assert sonoshare("fetch", RELEASE, "--out", out).returncode == 0
    sonoshare("logout")
    assert sonoshare("fetch", RELEASE, "--server", served.url, "--out", out).returncode == 0  # needs no token
    assert "holds another release" in sonoshare("fetch", OTHER, "--server", served.url, "--out", out).errors[0]
    (out / layout.LICENCE).write_bytes(b"")
    spoilt = sonoshare("fetch", RELEASE, "--server", served.url, "--out", out)
    assert spoilt.errors[0].startswith("error: file-size: ")


def test_an_expired_token_is_told_and_where_to_get_another_and_no_token_is_ever_printed(
    served: Site, tmp_path: Path
) -> None:
    token = served.token()
    served.clock.now = NOW + timedelta(days=31)
    run = sonoshare("fetch", RELEASE, "--server", served.url, "--token", token, "--out", tmp_path / "out", "--json")
    assert run.returncode == 1
    assert "expired" in run.errors[0]
    assert f"sonoshare login {served.url}" in run.errors[0]
    without = sonoshare("fetch", RELEASE, "--server", served.url, "--out", tmp_path / "out")
    assert "wants a valid token" in without.errors[0]
    bad = sonoshare("fetch", RELEASE, "--server", served.url, "--token", "two words", "--out", tmp_path / "out")
    for each in (run, without, bad):
        assert token not in each.stdout + each.stderr
        assert "two words" not in each.stderr


def test_nothing_moves_on_stderr_where_nobody_looks(
    served: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login(served, "--token", served.token(), "--root", served.consortium.root.public.hex)
    assert sonoshare("fetch", RELEASE, "--out", tmp_path / "a").stderr == ""
    with fetch_command._shown(hidden=False) as nothing:
        assert nothing is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with fetch_command._shown(hidden=True) as quiet:
        assert quiet is None
    with fetch_command._shown(hidden=False) as progress:
        progress(1, 2)


def test_releases_says_what_can_be_copied_in_a_narrow_window_what_was_revoked_and_whom_to_ask() -> None:
    console = Console(width=50, record=True, file=io.StringIO())
    told: dict[str, Any] = {
        "state": "published",
        "images": 600,
        "image_size": 256,
        "size_bytes": 41_300_000,
        "contact": "x@example.org",
    }
    releases: list[dict[str, Any]] = [
        told | {"release": "a-rather-long-name-of-a-release-1", "privacy": {"epsilon": 7.9, "delta": 1e-4}},
        {"release": "r2", "state": "revoked", "reason": "south: \x1b[31mconsent withdrawn", "privacy": "none"},
    ]
    releases_command._show(console, "https://example.org", releases)
    said = console.export_text()
    assert "a-rather-long-name-of-a-release-1" in said
    assert "r2 was revoked by south: [31mconsent withdrawn" in said
    assert "contact: x@example.org" in said
    assert "sonoshare fetch RELEASE --server" in said
    wide = Console(width=160, record=True, file=io.StringIO())
    releases_command._show(wide, "https://example.org", releases)
    assert "256x256" in (text := wide.export_text())
    assert "41.3 MB" in text


@pytest.mark.parametrize("command", [("releases",), ("fetch", "r1", "--out", "out")])
def test_where_no_catalogue_was_named_and_none_is_here_it_is_said_how_to_name_one(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SONOSHARE_CONFIG", str(tmp_path))
    monkeypatch.delenv("SONOSHARE_SERVER", raising=False)
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setattr("sonoshare_deploy.cli.releases.DEFAULT_SERVER", nobody)
    monkeypatch.chdir(tmp_path)
    (line,) = sonoshare(*command).errors
    assert line.startswith(f"error: no catalogue was named, and at {nobody} there is none: ")
    assert line.endswith("(name yours: sonoshare login URL; or give --server URL)")
    (line,) = sonoshare(*command, "--server", nobody).errors
    assert "login" not in line
