"""The hospital's own rules on where pictures may come from by network: nothing listens and nothing is asked by default.

    [intake.sources]
    title = "SONOSHARE"
    port = 11112
    callers = ["PACS_SEND@10.1.2.3", "*@10.1.2.4"]
    peers = ["PACS@10.1.2.3:104"]
    dicomweb = ["https://pacs.hospital.example:8443", "http://10.1.2.3:8042"]

Whom a PACS calls itself when it sends (``callers``) is often another title than the one that it answers on (``peers``):
the two lists know nothing of each other. ``dicomweb`` names exact origins. A PACS lies on a private address, so private
addresses are not refused as such; whatever is not written here is. A host that goes by a name must be reached by TLS,
so that a name that suddenly leads elsewhere finds no certificate there.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ANY_TITLE: Final = "*"
_TITLE: Final = r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,15}"
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:(?P<port>[0-9]{1,5}))?(?P<path>/[!-~]*)?"
)
_PORT_OF: Final = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Caller:
    """Who may send.

    Attributes:
        title: what it calls itself; ``*`` for any title.
        address: its IP address.
    """

    title: str
    address: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Read ``TITLE@ADDRESS``; ValueError where it is none."""
        title, at, address = text.rpartition("@")
        if not at or (title != ANY_TITLE and not re.fullmatch(_TITLE, title)):
            raise ValueError(f"'{text}' is not TITLE@ADDRESS, such as PACS@10.1.2.3 or *@10.1.2.3")
        return cls(title, str(ipaddress.ip_address(address)))


@dataclass(frozen=True)
class Peer:
    """Who is asked, by C-FIND and C-MOVE.

    Attributes:
        title: that it answers on.
        address: its IP address.
        port: its port.
    """

    title: str
    address: str
    port: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Read ``TITLE@ADDRESS:PORT``; ValueError where it is none."""
        title, at, place = text.rpartition("@")
        address, colon, port = place.rpartition(":")
        if not (at and colon and port.isdecimal() and re.fullmatch(_TITLE, title) and 0 < int(port) < 1 << 16):
            raise ValueError(f"'{text}' is not TITLE@ADDRESS:PORT, such as PACS@10.1.2.3:104")
        return cls(title, str(ipaddress.ip_address(address.strip("[]"))), int(port))


@dataclass(frozen=True)
class Origin:
    """A DICOMweb server.

    Attributes:
        scheme: ``https``, or ``http`` for a host that is written as an address.
        host: its name or address.
        port: its port.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Read the origin of a URL; ValueError where it has none."""
        parts = _URL.fullmatch(text)
        if parts is None:
            raise ValueError(f"'{text}' is not https://HOST:PORT")
        host = parts["host"].strip("[]").lower()
        return cls(parts["scheme"], host, int(parts["port"] or _PORT_OF[parts["scheme"]]))

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host's address where it is written as one."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


def _caller(text: str) -> str:
    Caller.of(text)
    return text


def _peer(text: str) -> str:
    Peer.of(text)
    return text


def _origin(text: str) -> str:
    origin = Origin.of(text)
    if text.count("/") > len("//"):
        raise ValueError("name the host alone, without a path; the query file says which path")
    if origin.address is None and origin.scheme != "https":
        raise ValueError("a host that goes by a name needs https; or write its address")
    if origin.address is not None and not may_be_reached(origin.address):
        raise ValueError("no picture comes from a link-local, multicast or unspecified address")
    return text


def may_be_reached(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a hospital's archive can be at such an address at all, if its policy names it.

    Link-local addresses are where clouds keep the credentials of a machine (169.254.169.254).
    """
    mapped = getattr(address, "ipv4_mapped", None) or address
    return not (mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified)


def _listening_address(text: str) -> str:
    return str(ipaddress.ip_address(text))


class SourceRules(BaseModel):
    """Where pictures may come from by network.

    Attributes:
        title: this node's own application entity title.
        address: that the receiver listens on.
        port: that it listens on; 0: it does not.
        callers: who may send, ``TITLE@ADDRESS`` each; ``*`` for any title.
        peers: who may be asked by C-FIND and C-MOVE, ``TITLE@ADDRESS:PORT`` each.
        dicomweb: which DICOMweb servers may be asked, ``https://HOST:PORT`` each.
        maximum_object_mib: largest object that is received or fetched, in MiB.
        maximum_inbox_mib: most MiB that wait in the inbox.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Annotated[str, Field(pattern=rf"^{_TITLE}$")] = "SONOSHARE"
    address: Annotated[str, AfterValidator(_listening_address)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=1 << 16)] = 0
    callers: tuple[Annotated[str, AfterValidator(_caller)], ...] = ()
    peers: tuple[Annotated[str, AfterValidator(_peer)], ...] = ()
    dicomweb: tuple[Annotated[str, AfterValidator(_origin)], ...] = ()
    maximum_object_mib: Annotated[int, Field(ge=1, le=256)] = 256
    maximum_inbox_mib: Annotated[int, Field(ge=1, le=1 << 24)] = 20480
