"""Talking to a catalogue: where it may be, and its small JSON answers, all of bounded size.

Only https is spoken, or http to this very machine; redirects are not followed, so a token never reaches another
host. Nothing that a catalogue says is believed because it says so: ``release.verify`` decides.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sonoshare_shared.errors import FederationError, InputError, RefusedError
from sonoshare_shared.protocol.documents.base import HexDigest, Identifier
from sonoshare_shared.protocol.release.evidence import LogView

MAX_ANSWER_BYTES: Final = 256 << 20
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
_IDENTIFIER: Final = TypeAdapter(Identifier)


class ListedFile(BaseModel):
    """A file of a release as the catalogue lists it; fields we do not know are ignored."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: HexDigest


class FileListing(BaseModel):
    """Every file of a release, the manifest and signatures included."""

    model_config = ConfigDict(frozen=True)

    release: Identifier
    files: Annotated[tuple[ListedFile, ...], Field(min_length=1)]


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


def list_files(client: httpx.Client, release: str) -> FileListing:
    """Every file of a release."""
    try:
        identifier = _IDENTIFIER.validate_python(release)
    except ValidationError as error:
        raise InputError(f"{release[:80]!r} is no release id", remedy="list them with: sonoshare releases") from error
    try:
        listing = FileListing.model_validate(_json(client, f"/api/v1/releases/{identifier}/files"))
    except ValidationError as error:
        raise FederationError(
            "the catalogue's list of files is not valid", remedy="check the server address"
        ) from error
    if listing.release != identifier:
        raise FederationError("the catalogue lists the files of another release", remedy="tell its operator")
    return listing


def fresh_log(client: httpx.Client) -> LogView:
    """The catalogue's copy of the transparency log, not yet verified."""
    return LogView.model_validate(_json(client, "/api/v1/log"))


def file_url(release: str, path: str) -> str:
    """Address of a file, relative to the server."""
    return f"/api/v1/releases/{release}/files/{quote(path)}"


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
