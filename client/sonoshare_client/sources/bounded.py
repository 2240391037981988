"""A DICOM listener whose peers are bounded: by address before a byte is read, by size and time with every byte.

| a peer that | meets |
|---|---|
| is on no list of callers | a closed connection, before anything is read |
| calls itself by another title than its address may | A-ASSOCIATE-RJ: calling title not recognised |
| calls another title than ours | A-ASSOCIATE-RJ: called title not recognised |
| opens many connections | at most `MOST_OF_ONE_ADDRESS` at a time, `MOST_ASSOCIATIONS` of all together |
| announces a PDU of 4 GiB | a closed connection, when its length is read |
| sends a byte now and then | a closed connection, after `PDU_SECONDS` for a PDU and `MESSAGE_SECONDS` for a message |
| sends an object without an end | a closed connection, at the bound of an object |
| sends large objects on many associations | the same, at the bound of all together |

Each peer's bound leaves room for others: one address cannot take all places.
"""

import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler

from sonoshare_client.node.source_rules import ANY_TITLE, Caller

PDU_BYTES: Final = 128 << 10
"""Largest PDU that we ask for; peers have to keep to it."""
MOST_PDU_BYTES: Final = 2 * PDU_BYTES
"""Largest that is read; an association request has no agreed bound yet."""
PDU_SECONDS: Final = 20.0
MESSAGE_SECONDS: Final = 600.0
MOST_ASSOCIATIONS: Final = 24
MOST_OF_ONE_ADDRESS: Final = 8
_READ_BYTES: Final = 64 << 10
_REJECTED_PERMANENT, _BY_USER, _CALLING_TITLE = 0x01, 0x01, 0x03


@dataclass
class InFlight:
    """Bytes of messages that are not yet complete or not yet kept, of all associations.

    Attributes:
        most_bytes: of one message.
        most_in_all: of all together.
    """

    most_bytes: int
    most_in_all: int
    _held: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def take(self, length: int, of_this: int) -> None:
        """Take so many bytes more for a message that has ``of_this`` already.

        Raises:
            ConnectionAbortedError: a bound is passed.
        """
        with self._lock:
            if of_this + length > self.most_bytes or self._held + length > self.most_in_all:
                raise ConnectionAbortedError("more than may be held")
            self._held += length

    def give_back(self, length: int) -> None:
        """Forget so many."""
        with self._lock:
            self._held -= length


class BoundedSocket(AssociationSocket):
    """A connection whose peer is bounded in size and time."""

    in_flight: InFlight

    def __init__(self, assoc: Association, client_socket: socket.socket, in_flight: InFlight) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self.in_flight, self._held, self._since = in_flight, 0, 0.0

    def recv(self, nr_bytes: int) -> bytearray:
        """Exactly so many bytes of a PDU, or fewer where the connection ends.

        Raises:
            OSError: more than a PDU may have, or too slow.
        """
        if nr_bytes > MOST_PDU_BYTES:
            raise ConnectionAbortedError("a PDU that is longer than agreed")
        deadline = time.monotonic() + PDU_SECONDS
        if not self._held:
            self._since = time.monotonic()
        elif time.monotonic() - self._since > MESSAGE_SECONDS:
            raise TimeoutError("a message that takes too long")
        self.in_flight.take(nr_bytes, self._held)
        self._held += nr_bytes
        return self._received(nr_bytes, deadline)

    def _received(self, length: int, deadline: float) -> bytearray:
        connection, data = self.socket, bytearray()
        while connection is not None and len(data) < length:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("a PDU that takes too long")
            connection.settimeout(remaining)
            part = connection.recv(min(_READ_BYTES, length - len(data)))
            if not part:
                break
            data += part
        return data

    def forget(self) -> None:
        """What was received is kept, or of no more use."""
        held, self._held = self._held, 0
        self.in_flight.give_back(held)

    def close(self) -> None:
        """Close the connection."""
        super().close()
        self.forget()


class _CheckedACSE(ACSE):
    """Negotiates with callers whose title fits their address."""

    def _negotiate_as_acceptor(self) -> None:
        asked, server = self.requestor.primitive, self.assoc._server  # noqa: SLF001 - the library's own way to it
        if not isinstance(server, BoundedServer) or asked is None:
            raise TypeError("an association that nobody bounds")
        if server.permits(self.requestor.address, asked.calling_ae_title.strip()):
            super()._negotiate_as_acceptor()
            return
        self.send_reject(_REJECTED_PERMANENT, _BY_USER, _CALLING_TITLE)
        evt.trigger(self.assoc, evt.EVT_REJECTED, {})
        self.assoc.kill()


class _Handler(RequestHandler):
    server: "BoundedServer"

    def _create_association(self) -> Association:
        association = super()._create_association()
        # The library's own socket has already announced the connection: a second announcement would break it off.
        association.dul.socket = BoundedSocket(association, self.request, self.server.in_flight)
        association.dul.event_queue.get_nowait()
        association.acse = _CheckedACSE(association)
        return association


class BoundedServer(AssociationServer):
    """Listens for callers of a list. Connections are taken one after the other, so that counts are true.

    Args:
        callers: who may call.
        in_flight: bound of what is held.
        arguments: of the library's server.
    """

    request_queue_size = 64

    def __init__(self, *arguments: Any, callers: tuple[Caller, ...], in_flight: InFlight, **more: Any) -> None:
        self._callers, self.in_flight = callers, in_flight
        super().__init__(*arguments, **(more | {"request_handler": _Handler}))

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the base class's signature
        """Whether a connection is taken at all."""
        address = str(client_address[0])
        if not any(caller.address == address for caller in self._callers):
            return False
        held = [association.requestor.address for association in self.active_associations]
        return len(held) < MOST_ASSOCIATIONS and held.count(address) < MOST_OF_ONE_ADDRESS

    def permits(self, address: str, title: str) -> bool:
        """Whether somebody at this address may call itself so."""
        return any(caller.address == address and caller.title in {ANY_TITLE, title} for caller in self._callers)
