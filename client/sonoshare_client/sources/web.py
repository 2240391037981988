"""Fetching pictures by DICOMweb: from the one server that the hospital's policy names, and from nowhere else.

| what could lead elsewhere | why it does not |
|---|---|
| a redirect | is never followed |
| the environment's proxy, or its passwords | are not looked at |
| a name that resolves to another address now than before | the address is looked at once the connection stands |
| a name that resolves to this machine, or to a cloud's 169.254.169.254 | the same look, before a byte is sent |
| a name that resolves to another machine of the hospital | has no certificate for that name: names need TLS |
| UIDs of the answer, which become part of the next address | are digits and dots, or are refused |

An answer is bounded in bytes and in time, whatever it says of itself. Objects are kept as they came, unread.
"""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import requests
from dicomweb_client.web import DICOMwebClient
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from sonoshare_client.node.source_rules import Origin, may_be_reached
from sonoshare_client.sources.inbox import Inbox
from sonoshare_client.sources.query import MOST_STUDIES, Match
from sonoshare_shared.errors import FederationError, InputError

_UID: Final = re.compile(r"[0-9.]{1,64}")
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_MOST_OF_A_STUDY: Final = 10_000
_ANSWER_SECONDS: Final = 300.0
_SILENCE_SECONDS: Final = 30.0
_READ_BYTES: Final = 1 << 16
_AS_STORED: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@dataclass(frozen=True)
class Fetched:
    """What came.

    Attributes:
        studies: that were found.
        objects: that are in the inbox now.
        failed: that could not be had.
    """

    studies: int
    objects: int
    failed: int


def require_reachable(origin: Origin, address: str) -> None:
    """Check where a connection has led.

    Args:
        origin: the server that was meant.
        address: of the other end.

    Raises:
        InputError: it may not be there.
    """
    found = ip_address(address.partition("%")[0])
    if origin.address is not None:
        right = found == origin.address
    else:
        right = may_be_reached(found) and not (getattr(found, "ipv4_mapped", None) or found).is_loopback
    if not right:
        raise InputError(
            f"{origin.host} leads to {found}, where no archive may be",
            remedy="see who answers for this name; a server on this machine is named by its address in policy.toml",
        )


def checked_session(origin: Origin, most_bytes: int) -> requests.Session:
    """A session that talks to one server, and takes bounded answers.

    Args:
        origin: the server.
        most_bytes: of an answer.
    """
    session = _Session(origin, most_bytes)
    session.trust_env = False
    session.mount("http://", _Adapter(origin))
    session.mount("https://", _Adapter(origin))
    return session


def fetch(url: str, session: requests.Session, matches: Sequence[Match], inbox: Inbox) -> Fetched:
    """Fetch the ultrasound series of all studies that fit.

    Args:
        url: of the server, with its path.
        session: made by `checked_session`.
        matches: one after the other.
        inbox: where objects go.

    Raises:
        FederationError: the server is not there, or does not answer as it should.
        InputError: it leads elsewhere, too many studies fit, or the inbox is full.
    """
    client = DICOMwebClient(url.rstrip("/"), session=session, timeout=_SILENCE_SECONDS)
    client.set_http_retry_params(retry=False)  # it would ask five times what was refused for good
    try:
        studies = sorted({uid for match in matches for uid in _studies(client, match)})
        objects = failed = 0
        for place in (place for study in studies for place in _instances(client, study)):
            data = _object(client, session, place)
            if data is None:
                failed += 1
            else:
                inbox.put(data)
                objects += 1
    except requests.RequestException as error:
        raise FederationError(
            f"the DICOMweb server does not answer as it should: {type(error).__name__}",
            remedy="check its address, certificate and password",
        ) from error
    return Fetched(len(studies), objects, failed)


def _studies(client: DICOMwebClient, match: Match) -> list[str]:
    found = client.search_for_studies(limit=MOST_STUDIES + 1, search_filters=match.keys)
    if len(found) > MOST_STUDIES:
        raise InputError(f"a match finds more than {MOST_STUDIES} studies", remedy="ask for less at a time")
    return [_uid(study, _STUDY) for study in found]


def _instances(client: DICOMwebClient, study: str) -> Iterator[str]:
    """Paths of the ultrasound objects of a study."""
    for series in client.search_for_series(study, limit=_MOST_OF_A_STUDY, search_filters={"Modality": "US"}):
        uid = _uid(series, _SERIES)
        for instance in client.search_for_instances(study, uid, limit=_MOST_OF_A_STUDY):
            yield f"studies/{study}/series/{uid}/instances/{_uid(instance, _INSTANCE)}"


def _object(client: DICOMwebClient, session: requests.Session, place: str) -> bytes | None:
    """One object as the server has it; None where it has none to give."""
    answer = session.get(f"{client.base_url}/{place}", headers={"Accept": _AS_STORED}, timeout=_SILENCE_SECONDS)
    if not answer.ok:
        return None
    try:
        parts = list(client._decode_multipart_message(answer, stream=False))  # noqa: SLF001 - its public form decodes
    except (KeyError, ValueError):
        return None
    return bytes(parts[0]) if len(parts) == 1 else None


def _uid(found: dict[str, Any], tag: str) -> str:
    try:
        uid = str(found[tag]["Value"][0])
    except (KeyError, IndexError, TypeError) as error:
        raise FederationError("the DICOMweb server names something without its UID") from error
    if not _UID.fullmatch(uid):
        raise FederationError("the DICOMweb server names something by what is no UID")
    return uid


class _Session(requests.Session):
    def __init__(self, origin: Origin, most_bytes: int) -> None:
        super().__init__()
        self._origin, self._most_bytes = origin, most_bytes

    def send(self, request: Any, **how: Any) -> requests.Response:
        """Send one request and read its bounded answer; nothing is followed."""
        if Origin.of(request.url) != self._origin:
            raise InputError("another server than the policy's would be asked", remedy="correct the query's source")
        answer = super().send(request, **(how | {"stream": True, "allow_redirects": False}))
        if answer.is_redirect:
            answer.close()
            raise InputError("the DICOMweb server sends elsewhere, which is not followed", remedy="name where it leads")
        answer._content = self._content_of(answer)  # noqa: SLF001 - read here, and not by whoever asks for it
        answer._content_consumed = True  # noqa: SLF001 - as above
        return answer

    def _content_of(self, answer: requests.Response) -> bytes:
        content, deadline = bytearray(), time.monotonic() + _ANSWER_SECONDS
        with answer:
            for part in answer.iter_content(_READ_BYTES):
                content += part
                if len(content) > self._most_bytes or time.monotonic() > deadline:
                    raise requests.ConnectionError("more than is read, or too slow")
        return bytes(content)


class _Adapter(HTTPAdapter):
    """Looks where each connection has led before it is used."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        """Make connections of our own kind."""
        super().init_poolmanager(*arguments, **more)
        origin = self._origin

        class Plain(HTTPConnection):
            def _new_conn(self) -> Any:
                return _looked_at(super()._new_conn(), origin)

        class Secure(HTTPSConnection):
            def _new_conn(self) -> Any:
                return _looked_at(super()._new_conn(), origin)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


def _looked_at(connection: Any, origin: Origin) -> Any:
    try:
        require_reachable(origin, connection.getpeername()[0])
    except InputError:
        connection.close()
        raise
    return connection
