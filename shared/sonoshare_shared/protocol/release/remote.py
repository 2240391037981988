"""Talking to a catalogue: where it may be, its lists, roster and log, and the bytes of its files, all of bounded size.

Only https is spoken, or http to this very machine; redirects are not followed, so a token never reaches another
host. What is busy or cut is asked again with patience. Nothing that a catalogue says is believed because it says so:
``release.verify`` decides.
"""

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from sonoshare_shared.errors import FederationError, InputError, IntegrityError, VerificationError
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release.evidence import LogView
from sonoshare_shared.protocol.release.patience import Patience
from sonoshare_shared.protocol.release.refusals import require_success
from sonoshare_shared.protocol.release.sources import (
    FileListing,
    ListedFile,
    Reading,
    TransferCutError,
    require_release_id,
)

MAX_ANSWER_BYTES: Final = 256 << 20
MAX_PAGES: Final = 10_000
MOST_CONNECTIONS: Final = 64
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
_API: Final = "/api/v1"


def require_server(server: str) -> str:
    """Return the catalogue's address without a trailing slash.

    Raises:
        InputError: not https, and not http to a loopback address.
    """
    parts = urlsplit(server)
    usable = parts.hostname and not (parts.username or parts.password or parts.query or parts.fragment)
    if usable and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))):
        return server.rstrip("/")
    if parts.username or parts.password:  # which is not repeated
        raise InputError("a server address holds no name and no password", remedy="give https://HOST")
    raise InputError(
        f"cannot use the server address {server[:120]!r}", remedy="give https://HOST, or http://127.0.0.1:PORT"
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine by its very name; nothing is resolved."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def connected(
    server: str, token: str | None = None, transport: httpx.BaseTransport | None = None
) -> Iterator[httpx.Client]:
    """A client of one catalogue. Proxies of the environment (HTTPS_PROXY, NO_PROXY) are used for https only.

    Raises:
        InputError: address, token or proxy cannot be used.
    """
    address = require_server(server)
    word = (token or "").strip()
    if not (word.isascii() and word.isprintable()) or " " in word:
        raise InputError("the token cannot be sent", remedy="copy the token again")
    try:
        client = httpx.Client(
            base_url=address,
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {word}"} if word else {}),
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS),
            follow_redirects=False,
            transport=transport,
            trust_env=address.startswith("https:"),
        )
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        # The proxy's address is not repeated: it may hold a password.
        raise InputError(
            "the proxy that the environment names cannot be used",
            remedy="set HTTPS_PROXY to http://HOST:PORT, or unset it and ALL_PROXY",
        ) from error
    with client:
        yield client


def list_releases(client: httpx.Client) -> list[dict[str, Any]]:
    """The releases that the catalogue lists, as it describes them; all pages of them."""
    found: list[dict[str, Any]] = []
    for answer in _pages(client, f"{_API}/releases"):
        releases = answer.get("releases")
        if not isinstance(releases, list) or not all(isinstance(release, dict) for release in releases):
            raise FederationError("the catalogue's answer is not a list of releases", remedy="check the server address")
        found += releases
    return found


def get_roster(client: httpx.Client) -> Envelope:
    """The roster that the catalogue shows; its signature is not checked here.

    Raises:
        FederationError: it shows none, or cannot be reached.
    """
    try:
        return Envelope.from_bytes(_bytes(client, f"{_API}/roster"))
    except (VerificationError, InputError) as error:
        raise FederationError("the catalogue shows no signed roster", remedy="check the server address") from error


def get_log(client: httpx.Client) -> LogView | None:
    """The whole transparency log that the catalogue shows now, or None where it shows none; nothing is checked here.

    Raises:
        FederationError: it cannot be reached, or what it shows is no log.
    """
    try:
        data = _bytes(client, f"{_API}/log")
    except InputError:
        return None
    try:
        return LogView.from_bytes(data)
    except IntegrityError as error:
        raise FederationError(f"the catalogue's log cannot be read: {error.message}", remedy=error.remedy) from error


class HttpSource:
    """The releases of a catalogue.

    Args:
        client: connected to it, see `connected`.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def listing(self, release: str) -> FileListing:
        """Every file of a release; all pages of them."""
        identifier = require_release_id(release)
        files: list[ListedFile] = []
        try:
            for answer in _pages(self._client, f"{_API}/releases/{identifier}/files"):
                page = FileListing.model_validate(answer)
                if page.release != identifier:
                    raise FederationError(
                        "the catalogue lists the files of another release", remedy="tell its operator"
                    )
                files += page.files
        except ValidationError as error:
            raise FederationError(
                "the catalogue's list of files is not valid", remedy="check the server address"
            ) from error
        return FileListing(release=identifier, files=tuple(files))

    @contextmanager
    def reading(self, release: str, file: ListedFile, start: int) -> Iterator[Reading]:
        """Bytes of a file from ``start`` on, or all of it where it is not the one that was listed."""
        with self._asked(release, file, start) as response:
            if not start or response.status_code == httpx.codes.OK:
                yield Reading(0, _blocks(response, file))
                return
            if _goes_on(response, file, start):
                yield Reading(start, _blocks(response, file))
                return
        # A part of something else, or none: all of it is asked for.
        with self._asked(release, file, 0) as response:
            yield Reading(0, _blocks(response, file))

    @contextmanager
    def _asked(self, release: str, file: ListedFile, start: int) -> Iterator[httpx.Response]:
        headers = {"Range": f"bytes={start}-", "If-Range": f'"{file.sha256}"'} if start else {}
        url = f"{_API}/releases/{release}/files/{quote(file.path)}"
        with _cut(file), self._client.stream("GET", url, headers=headers) as response:
            if not (start and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
                require_success(response, f"{release}/{file.path}")
            yield response


def _goes_on(response: httpx.Response, file: ListedFile, start: int) -> bool:
    """Whether an answer is what was asked for: from this byte to the end, of the very content that is listed."""
    wanted = f"bytes {start}-{file.size - 1}/{file.size}"
    etag = response.headers.get("ETag")
    return response.headers.get("Content-Range") == wanted and etag in {None, f'"{file.sha256}"'}


@contextmanager
def _cut(file: ListedFile) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise TransferCutError(
            f"the connection was lost at {file.path}: {error}", remedy="run the same command again to go on"
        ) from error


def _blocks(response: httpx.Response, file: ListedFile) -> Iterator[bytes]:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise FederationError(
            f"{file.path} came compressed, which was not asked for", remedy="a proxy changes files: go around it"
        )
    # Without a block size, which would hold bytes back and lose them when the connection is cut.
    with _cut(file):
        yield from response.iter_raw()


def _pages(client: httpx.Client, url: str) -> Iterator[dict[str, Any]]:
    """Answers of a list, from page to page; where the next one is, the answer's ``next`` says: an address or a cursor.

    Raises:
        FederationError: an answer is no JSON object, or the pages do not end.
    """
    here, seen = url, {url}
    for _ in range(MAX_PAGES):
        answer = _json(client, here)
        if not isinstance(answer, dict):
            raise FederationError("the catalogue's answer is not a list", remedy="check the server address")
        yield answer
        following = answer.get("next")
        if following is None:
            return
        here = _next_page(url, str(following))
        if here in seen:
            break
        seen.add(here)
    raise FederationError("the catalogue's list does not end", remedy="tell its operator")


def _next_page(url: str, following: str) -> str:
    """Address of the next page on the same server: of another one nothing is asked, least of all with a token."""
    if not following.startswith(("/", "?", "http:", "https:")):
        return f"{url}?cursor={quote(following, safe='')}"
    parts = urlsplit(urljoin(url, following))
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _json(client: httpx.Client, url: str) -> Any:
    try:
        return TypeAdapter(Any).validate_json(_bytes(client, url))
    except ValidationError as error:
        raise FederationError("the catalogue's answer is not JSON", remedy="check the server address") from error


def _bytes(client: httpx.Client, url: str) -> bytes:
    """Body of an answer; asked again while the catalogue is busy, or the answer is cut.

    Raises:
        RefusedError, InputError, FederationError: as `require_success`; it cannot be reached; it is too large.
    """
    patience = Patience(time.sleep)
    while True:
        try:
            return _body(client, url)
        except TransferCutError as error:
            patience.wait(error)


def _body(client: httpx.Client, url: str) -> bytes:
    try:
        with client.stream("GET", url) as response:
            require_success(response, urlsplit(url).path.removeprefix(f"{_API}/"))
            data = bytearray()
            for block in response.iter_bytes():
                data += block
                if len(data) > MAX_ANSWER_BYTES:
                    raise FederationError("the catalogue's answer is too large", remedy="check the server address")
        return bytes(data)
    except (httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout) as error:
        raise TransferCutError(f"the catalogue's answer was cut: {error}", remedy="check the network") from error
    except httpx.HTTPError as error:
        asked = client.base_url.join(url)  # what is asked for is a path below the catalogue's address
        place = f"{asked.scheme}://{asked.netloc.decode()}"  # without a name and password that stand before the host
        raise FederationError(
            f"cannot reach the catalogue at {place}: {error}", remedy="check the address and the network"
        ) from error
