"""Behind a reverse proxy limits count the client, and nobody becomes somebody else by a header."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.catalogue_fixture import OTHER, Site, site
from tests.shared.consortium import RELEASE

from sonoshare_server.catalogue.browsing import asked
from sonoshare_server.catalogue.limits import peer_of
from sonoshare_server.catalogue.proxies import Proxies, networks_of
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.release import layout

ADDRESS = "/api/v1/agreement"
DATA = f"/api/v1/releases/{RELEASE}/files/{layout.METADATA}"


def seen(peer: str, *trusted: str, forwarded: tuple[str, ...] = (), proto: str | None = None) -> tuple[str, str]:
    """Client and scheme as the application sees them."""
    scopes: list[Any] = []

    async def application(scope: Any, _receive: object, _send: object) -> None:
        scopes.append(scope)

    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    headers += [] if proto is None else [(b"x-forwarded-proto", proto.encode())]
    scope = {"type": "http", "scheme": "http", "client": (peer, 1), "headers": headers}
    coroutine = Proxies(application, trusted)(scope, None, None)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    (found,) = scopes
    return str(found["client"][0]), str(found["scheme"])


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (("203.0.113.9",), "203.0.113.9"),
        (("1.2.3.4, 203.0.113.9",), "203.0.113.9"),
        (("1.2.3.4", "203.0.113.9"), "203.0.113.9"),
        (("203.0.113.9, 10.0.8.1, 10.0.8.2",), "203.0.113.9"),
        (("203.0.113.9:4711",), "203.0.113.9"),
        (("[2001:db8::1]:443",), "2001:db8::1"),
        (("::ffff:203.0.113.9",), "203.0.113.9"),
        (("1.2.3.4, nonsense",), "10.0.8.7"),
        (("1.2.3.4, nonsense, 10.0.8.1",), "10.0.8.1"),
        (("",), "10.0.8.7"),
        ((), "10.0.8.7"),
        (("1.2.3.4, 203.0.113.9" + ", 10.0.8.1" * 50,), "10.0.8.1"),
    ],
)
def test_the_last_address_that_is_no_trusted_proxy_is_the_client(forwarded: tuple[str, ...], client: str) -> None:
    assert seen("10.0.8.7", "10.0.8.0/24", forwarded=forwarded) == (client, "http")
    assert seen("198.51.100.1", "10.0.8.0/24", forwarded=forwarded, proto="https") == ("198.51.100.1", "http")


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [("https", "https"), ("HTTPS", "https"), ("http, https", "https"), ("gopher", "http"), ("", "http")],
)
def test_the_scheme_is_what_the_nearest_proxy_says(proto: str, scheme: str) -> None:
    assert seen("10.0.8.7", "10.0.8.7", proto=proto) == ("10.0.8.7", scheme)


@pytest.mark.parametrize("word", ["proxy.example.org", "10.0.8.1/24", "*", ""])
def test_a_proxy_that_is_no_address_is_one_line(word: str) -> None:
    with pytest.raises(InputError, match="trusted proxy"):
        networks_of([word])


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, requests_per_minute=60, trusted_proxies=("127.0.0.1",)) as running:
        yield running


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::a:b:c:d", True),
        ("2001:db8:0:0:1::", "2001:db8::2", True),
        ("2001:db8:0:5::1", "2001:db8:0:6::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_a_network_of_64_bits_is_one_peer_however_its_addresses_are_written(one: str, other: str, same: bool) -> None:
    assert (peer_of({"client": (one, 1)}) == peer_of({"client": (other, 1)})) is same


def test_only_so_many_words_are_looked_for() -> None:
    found = asked({"q": " ".join(f"w{number}" for number in range(50))})
    assert len(found.wanted.words.split()) == 12
    assert "At most 12 words" in found.problems[0]
    assert asked({"q": "a a a breast " * 5}).problems == ()


def test_each_client_behind_a_proxy_has_its_own_limit_and_downloads_under_a_token_have_none(behind: Site) -> None:
    def asked(client: str, path: str = ADDRESS, **headers: str) -> httpx.Response:
        return behind.client.get(path, headers={"X-Forwarded-For": client} | headers)

    assert [asked("203.0.113.1").status_code for _ in range(11)] == [200] * 10 + [429]
    assert asked("203.0.113.2").status_code == 200
    assert asked("6.6.6.6, 203.0.113.1").status_code == 429, "a client wrote this itself"
    assert asked("203.0.113.1", DATA).status_code == 429
    bearer = {"Authorization": f"Bearer {behind.token()}"}
    assert {asked("203.0.113.1", DATA, **bearer).status_code for _ in range(30)} == {200}
    # What a token opens for nobody counts where it comes from, and so do public files under any token.
    wrong = [asked("203.0.113.3", DATA.replace(RELEASE, OTHER), **bearer).status_code for _ in range(150)]
    assert wrong[:60] == [401] * 60
    assert 429 in wrong
    public = DATA.replace(layout.METADATA, layout.MANIFEST)
    answers = [asked("203.0.113.4", public, **bearer).status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]


def test_addresses_in_answers_are_those_of_the_proxy(behind: Site) -> None:
    headers = {"Host": "catalogue.example.org", "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.5"}
    said = behind.client.get("/ga4gh/drs/v1/service-info", headers=headers).json()
    assert said["organization"]["url"] == "https://catalogue.example.org"
