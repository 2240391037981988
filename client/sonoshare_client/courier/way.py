"""A test of the way to the coordinator, step by step: the first step that fails is the cause, and has a remedy.

    address   host:port and nothing else
    reach     the name resolves and the port takes connections (through the site's proxy, where one is set)
    tls       the server's certificate is of the pinned authority, for this host name, and valid today
    server    what answers is a coordinator's fleet listener
    clock     this machine's clock agrees with the server's: Flower refuses signatures that are older or younger
    admitted  the coordinator knows this node key

Uses the node key and the network, as the courier does, and no other secret; sends nothing but the public node key and
a signature over the time that cannot pass for one of Flower's. A proxy is taken from ``HTTPS_PROXY`` and ``NO_PROXY``
as Flower's own client takes it, so what is tested is the way that the courier goes.

Not promised: that messages flow. A SuperNode may hang although the way is open; the coordinator sees that.
"""

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sonoshare_client.courier.proxy import connected, proxy_for
from sonoshare_shared.errors import FederationError, InputError, SonoShareError
from sonoshare_shared.protocol.link import HEALTH_PATH, LINK_PATH, MOST_ANSWER_BYTES, LinkAnswer, link_request

STEPS: Final = ("address", "reach", "tls", "server", "clock", "admitted")
AHEAD_SECONDS: Final = 5.0
"""Flower refuses a signature from further in the future, and one that is older than the next figure."""
BEHIND_SECONDS: Final = 300.0
DATE_SECONDS: Final = 2.0
_NO_TIME_CHECK: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME
_VALIDITY: Final = {9: "is not valid yet", 10: "has expired"}
_NAME_MISMATCH: Final = frozenset({62, 64})
_MINUTES_FROM: Final = 120.0
_HTTP_OK: Final = 200
_HTTP_NOT_FOUND: Final = 404

Link = Literal["connected", "turned-away", "down"]


@dataclass(frozen=True)
class Way:
    """What is tested.

    Attributes:
        superlink: ``host:port`` of the coordinator's fleet listener.
        root_certificate: PEM file of the authority that the hospital trusts.
        node_key: the courier's private key.
    """

    superlink: str
    root_certificate: Path
    node_key: Path


@dataclass(frozen=True)
class Step:
    """One step: what was found, or why it failed and what helps."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a test.

    Attributes:
        steps: those that were tried; the last one failed, or all of `STEPS` are there and succeeded.
        roster_version: of the coordinator's newest roster; None if it did not say.
    """

    steps: tuple[Step, ...]
    roster_version: int | None = None

    @property
    def failed(self) -> Step | None:
        """The step that failed."""
        return next((step for step in self.steps if not step.ok), None)

    @property
    def link(self) -> Link:
        """``down`` where nobody of the consortium answers, ``turned-away`` where the coordinator says no."""
        failed = self.failed
        if failed is None:
            return "connected"
        return "turned-away" if failed.name in {"clock", "admitted"} else "down"


class _FailedError(Exception):
    """A step failed: says what was found, and the remedy."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found, self.remedy = found, remedy


def superlink_address(text: str) -> tuple[str, int]:
    """Split ``host:port``.

    Raises:
        InputError: it is not of that form; says what is wrong with it.
    """
    if "://" in text:
        rest = text.split("://", 1)[1].rstrip("/")
        raise InputError(f"'{text}' begins with a scheme", remedy=f"write host and port alone: {rest}")
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(f"'{text}' is not host:port", remedy="write it like fed.example.org:9092")
    return host.strip("[]"), int(port)


def try_way(way: Way, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Outcome:
    """Try every step until one fails. Never raises for what a network or a server can do."""
    attempt = _Attempt(way, now)
    steps: list[Step] = []
    try:
        for name, step in attempt.steps():
            try:
                steps.append(Step(name, ok=True, found=step()))
            except _FailedError as failed:
                steps.append(Step(name, ok=False, found=failed.found, remedy=failed.remedy))
                break
            except SonoShareError as error:
                steps.append(Step(name, ok=False, found=error.message, remedy=error.remedy))
                break
    finally:
        attempt.close()
    return Outcome(tuple(steps), attempt.roster_version)


class _Attempt:
    def __init__(self, way: Way, now: Callable[[], datetime]) -> None:
        self._way, self._now = way, now
        self._connection: HTTPConnection | None = None
        self._host, self._port, self._offset = "", 0, 0.0
        self.roster_version: int | None = None

    def steps(self) -> Iterator[tuple[str, Callable[[], str]]]:
        return zip(
            STEPS, (self._address, self._reach, self._tls, self._server, self._clock, self._admitted), strict=True
        )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _address(self) -> str:
        self._host, self._port = superlink_address(self._way.superlink)
        return self._way.superlink

    def _reach(self) -> str:
        proxy = proxy_for(self._host)
        place = f"the proxy {proxy.place}" if proxy else self._way.superlink
        try:
            self._connection = connected(self._host, self._port, proxy)
        except socket.gaierror as error:
            name = proxy.host if proxy else self._host
            raise _FailedError(f"the name {name} is not known here", "check the name, and this site's DNS") from error
        except ConnectionRefusedError as error:
            raise _FailedError(
                f"nothing listens at {place}",
                "the coordinator is down, or the port is another: ask the coordinator",
            ) from error
        except TimeoutError as error:
            raise _FailedError(
                f"{place} does not answer",
                "a firewall on the way may drop it: let this machine connect out to that port",
            ) from error
        except OSError as error:
            raise _FailedError(
                f"no way to {place}: {error}", "check the network, and the proxy if one is set"
            ) from error
        return f"through {place}" if proxy else "the port takes connections"

    def _tls(self) -> str:
        connection = _open(self._connection)
        try:
            context = _context(self._way.root_certificate)
            wrapped = context.wrap_socket(connection.sock, server_hostname=self._host)
        except ssl.SSLCertVerificationError as error:
            raise self._distrusted(error) from error
        except (ssl.SSLError, OSError) as error:
            raise _FailedError(
                f"what listens at {self._way.superlink} does not speak TLS",
                "check the port: the fleet listener's, not the catalogue's; a proxy must pass TLS through unopened",
            ) from error
        connection.sock = wrapped
        return f"certificate valid until {_valid_until(wrapped)}"

    def _distrusted(self, error: ssl.SSLCertVerificationError) -> _FailedError:
        if error.verify_code in _NAME_MISMATCH:
            return _FailedError(
                f"the server's certificate is not for {self._host}",
                f"use a name that it is for, or the coordinator runs: sonoshare coordinator renew --host {self._host}",
            )
        if error.verify_code in _VALIDITY:
            return self._out_of_date(_VALIDITY[error.verify_code])
        return _FailedError(
            f"the server's certificate is not of the authority in {self._way.root_certificate.name}",
            "get ca.crt from the coordinator again; a proxy that opens TLS must leave this host alone",
        )

    def _out_of_date(self, words: str) -> _FailedError:
        """A certificate outside of its time: whose clock is it? Its holder is asked for the time."""
        try:
            offset = self._offset_ignoring_validity()
        except (OSError, HTTPException, _FailedError):
            offset = 0.0
        if abs(offset) > BEHIND_SECONDS:
            return _FailedError(
                f"the server's certificate {words} by this machine's clock, which is {_off(offset)}",
                "set this machine's clock (NTP)",
            )
        return _FailedError(f"the server's certificate {words}", "the coordinator runs: sonoshare coordinator renew")

    def _offset_ignoring_validity(self) -> float:
        context = _context(self._way.root_certificate)
        context.verify_flags |= ssl.VerifyFlags(_NO_TIME_CHECK)
        connection = connected(self._host, self._port, proxy_for(self._host))
        try:
            connection.sock = context.wrap_socket(connection.sock, server_hostname=self._host)
            before = self._now()
            connection.request("GET", HEALTH_PATH)
            return _offset(connection.getresponse().getheader("Date"), before, self._now())
        finally:
            connection.close()

    def _server(self) -> str:
        connection, before = _open(self._connection), self._now()
        try:
            connection.request("GET", HEALTH_PATH)
            response = connection.getresponse()
            response.read(MOST_ANSWER_BYTES)
        except (OSError, HTTPException) as error:
            raise _FailedError(
                f"what listens at {self._way.superlink} gives no answer", "the coordinator may be starting: try again"
            ) from error
        if response.status != _HTTP_OK:
            raise _FailedError(
                f"what listens at {self._way.superlink} is no fleet listener (status {response.status})",
                "check host and port with the coordinator",
            )
        self._offset = _offset(response.getheader("Date"), before, self._now())
        return "a fleet listener answers"

    def _clock(self) -> str:
        if not -AHEAD_SECONDS <= -self._offset <= BEHIND_SECONDS:
            raise _FailedError(
                f"this machine's clock is {_off(self._offset)}, and the server refuses what is signed at another time",
                "set this machine's clock (NTP); if it is right, the coordinator's is wrong",
            )
        return f"agrees with the server's, to {max(1.0, abs(self._offset)):.0f} s"

    def _admitted(self) -> str:
        connection = _open(self._connection)
        key = node_key(self._way.node_key)
        try:
            body = link_request(key, self._now())
            connection.request("POST", LINK_PATH, body=body, headers={"Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read(MOST_ANSWER_BYTES)
        except (OSError, HTTPException) as error:
            raise _FailedError(
                "the server broke the connection off", "if it happens again, ask the coordinator"
            ) from error
        if response.status == _HTTP_NOT_FOUND:
            return "an older server does not say; the courier will"
        if response.status != _HTTP_OK:
            raise _FailedError(f"the server answers with status {response.status}", "see the coordinator's log")
        answer = LinkAnswer.from_bytes(data)
        self.roster_version = answer.roster_version
        if not answer.admitted:
            raise _FailedError(
                "the coordinator does not know this node's key",
                "send the keys that 'sonoshare hospital keys' shows, and ask to be admitted: "
                "sonoshare coordinator admit",
            )
        return f"roster version {answer.roster_version}"


def node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the courier's private key.

    Raises:
        InputError: it cannot be read, or is no key of an elliptic curve.
    """
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{path.name} cannot be read",
            remedy="bring it back, or make a new one: sonoshare hospital keys rotate --node",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path.name} is no node key", remedy="bring back the node's own")
    return key


def _open(connection: HTTPConnection | None) -> HTTPConnection:
    if connection is None:
        raise FederationError("the steps of a test go in order")
    return connection


def _context(root_certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=root_certificate.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError, ssl.SSLError) as error:
        raise _FailedError(
            f"{root_certificate.name} is no certificate", "give the coordinator's ca.crt (PEM)"
        ) from error
    return context


def _valid_until(wrapped: ssl.SSLSocket) -> str:
    certificate = wrapped.getpeercert() or {}
    until = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return datetime.fromtimestamp(until, UTC).date().isoformat()


def _offset(date: str | None, before: datetime, after: datetime) -> float:
    """Seconds that this machine's clock is ahead of a server's for certain, from its Date header; negative: behind.

    The server wrote the header, which is up to two seconds old, between the two moments.
    """
    try:
        said = None if date is None else parsedate_to_datetime(date)
    except (ValueError, TypeError):
        said = None
    if said is None:
        return 0.0
    ahead, behind = (before - said).total_seconds() - DATE_SECONDS, (said - after).total_seconds()
    return ahead if ahead > 0 else -behind if behind > 0 else 0.0


def _off(offset: float) -> str:
    seconds, way = abs(offset), "ahead" if offset > 0 else "behind"
    return f"{seconds / 60:.0f} min {way}" if seconds >= _MINUTES_FROM else f"{seconds:.0f} s {way}"


def as_json(tested: Outcome) -> str:
    """One line, for another process."""
    steps = [{"step": s.name, "ok": s.ok, "found": s.found, "remedy": s.remedy} for s in tested.steps]
    return json.dumps({"steps": steps, "roster_version": tested.roster_version})


def from_json(line: str) -> Outcome:
    """What `as_json` wrote.

    Raises:
        FederationError: it is something else.
    """
    try:
        said = json.loads(line)
        steps = tuple(Step(str(s["step"]), bool(s["ok"]), str(s["found"]), str(s["remedy"])) for s in said["steps"])
        version = said["roster_version"]
        return Outcome(steps, None if version is None else int(version))
    except (ValueError, KeyError, TypeError) as error:
        raise FederationError("the connection test said something else", remedy="see the node's log") from error
