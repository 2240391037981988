"""Talking to a catalogue: where it may be, and its small JSON answers, all of bounded size.

Only https is spoken, or http to this very machine; redirects are not followed, so a token never reaches another
host. Nothing that a catalogue says is believed because it says so: ``release.verify`` decides.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from sonoshare_shared.errors import FederationError, InputError, RefusedError
from sonoshare_shared.protocol.release.sources import (
    FileListing,
    ListedFile,
    Reading,
    TransferCutError,
    require_release_id,
)

MAX_ANSWER_BYTES: Final = 256 << 20
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0


def require_server(server: str) -> str:
    """Return the catalogue's address without a trailing slash.

    Raises:
        InputError: not https, and not http to a loopback address.
    """
    parts = urlsplit(server)
    usable = parts.hostname and not (parts.username or parts.password or parts.query or parts.fragment)
    if usable and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))):
        return server.rstrip("/")
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
    """A client of one catalogue. Proxies of the environment are used for https only."""
    address = require_server(server)
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token.strip()}"} if token else {})
    try:
        client = httpx.Client(
            base_url=address,
            headers=headers,
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            follow_redirects=False,
            transport=transport,
            trust_env=address.startswith("https:"),
        )
    except ValueError as error:  # a token with a line break or beyond ASCII
        raise InputError("the token cannot be sent", remedy="copy the token again") from error
    with client:
        yield client


def list_releases(client: httpx.Client) -> list[dict[str, Any]]:
    """The releases that the catalogue lists, as it describes them."""
    answer = _json(client, "/api/v1/releases")
    releases = answer.get("releases") if isinstance(answer, dict) else None
    if not isinstance(releases, list) or not all(isinstance(release, dict) for release in releases):
        raise FederationError("the catalogue's answer is not a list of releases", remedy="check the server address")
    return releases


class HttpSource:
    """The releases of a catalogue.

    Args:
        client: connected to it, see `connected`.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def listing(self, release: str) -> FileListing:
        """Every file of a release."""
        identifier = require_release_id(release)
        try:
            listing = FileListing.model_validate(_json(self._client, f"/api/v1/releases/{identifier}/files"))
        except ValidationError as error:
            raise FederationError(
                "the catalogue's list of files is not valid", remedy="check the server address"
            ) from error
        if listing.release != identifier:
            raise FederationError("the catalogue lists the files of another release", remedy="tell its operator")
        return listing

    @contextmanager
    def reading(self, release: str, file: ListedFile, start: int) -> Iterator[Reading]:
        """Bytes of a file from ``start`` on, or all of it where it is not the one that was listed."""
        headers = {"Range": f"bytes={start}-", "If-Range": f'"{file.sha256}"'} if start else {}
        url = f"/api/v1/releases/{release}/files/{quote(file.path)}"
        with _cut(file), self._client.stream("GET", url, headers=headers) as response:
            require_success(response, f"{release}/{file.path}")
            wanted = f"bytes {start}-{file.size - 1}/{file.size}"
            goes_on = bool(start) and response.headers.get("Content-Range") == wanted
            yield Reading(start if goes_on else 0, _blocks(response, file))


@contextmanager
def _cut(file: ListedFile) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise TransferCutError(
            f"the connection was lost at {file.path}: {error}", remedy="run the same command again to go on"
        ) from error


def _blocks(response: httpx.Response, file: ListedFile) -> Iterator[bytes]:
    # Without a block size, which would hold bytes back and lose them when the connection is cut.
    with _cut(file):
        yield from response.iter_raw()


def require_success(response: httpx.Response, what: str) -> None:
    """Turn a refusal into an error that says what to do."""
    status = response.status_code
    if status in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
        return
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise RefusedError(
            f"the catalogue wants a valid token for {what}",
            remedy="accept the data-use agreement on the release's page",
        )
    if status == httpx.codes.GONE:
        raise RefusedError(f"the catalogue gives out {what} no more: it was revoked", remedy="do not use this release")
    if status == httpx.codes.NOT_FOUND:
        raise InputError(f"the catalogue has no {what}", remedy="list its releases with: sonoshare releases")
    raise FederationError(f"the catalogue answered {status} for {what}", remedy="try again later")


def _json(client: httpx.Client, url: str) -> Any:
    try:
        with client.stream("GET", url) as response:
            require_success(response, url.removeprefix("/api/v1/"))
            data = bytearray()
            for block in response.iter_bytes():
                data += block
                if len(data) > MAX_ANSWER_BYTES:
                    raise FederationError("the catalogue's answer is too large", remedy="check the server address")
        return TypeAdapter(Any).validate_json(bytes(data))
    except httpx.HTTPError as error:
        raise FederationError(f"cannot reach the catalogue: {error}", remedy="check address and network") from error
    except ValidationError as error:
        raise FederationError("the catalogue's answer is not JSON", remedy="check the server address") from error
