"""The receiver: a process of its own that answers C-ECHO and C-STORE, and puts what comes into the inbox.

    python -P -m sonoshare_client.sources.listener SETTINGS

It has the network and one folder. It has no key and no vault, and decodes nothing: of a message only the command is
parsed, its data set is kept as the bytes that came. It bounds its own memory for good; where that does not suffice it
ends, and is started again.

| status | when |
|---|---|
| 0000 | bytes and name are on the disk |
| A700 | the disk or the inbox is full |
| 0110 | the disk failed otherwise |

Storage commitment is not offered: a sender might delete its own copy, and this node keeps no pictures for anybody.
Says nothing of what was sent: addresses, titles and numbers of objects go to its log.
"""

import errno
import json
import logging
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any, Final

from pynetdicom import AE, evt

from sonoshare_client.node.source_rules import Caller
from sonoshare_client.sources.bounded import MOST_ASSOCIATIONS, PDU_BYTES, BoundedServer, BoundedSocket, InFlight
from sonoshare_client.sources.inbox import MIB, Inbox
from sonoshare_client.sources.kinds import SYNTAXES, ULTRASOUND, VERIFICATION
from sonoshare_client.sources.settings import Settings
from sonoshare_shared.printable import printable

MEMORY_BYTES: Final = 4096 * MIB
"""Address space: threads' stacks, the library, and three times what is held of messages."""
_OBJECTS_AT_ONCE: Final = 2
_SUCCESS, _NO_ROOM, _FAILED = 0x0000, 0xA700, 0x0110
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MEMORY_STATUS: Final = 70
_ASSOCIATION_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 60.0
WRITER: Final = "receive"
_log = logging.getLogger(__name__)


class Receiver:
    """Answers messages of permitted callers.

    Args:
        settings: what it is told.
    """

    def __init__(self, settings: Settings) -> None:
        self._inbox = Inbox(Path(settings.inbox), settings.inbox_bytes, WRITER)
        self._inbox.remove_parts()
        entity = AE(ae_title=settings.title)
        entity.require_called_aet = True
        entity.maximum_associations = MOST_ASSOCIATIONS
        entity.maximum_pdu_size = PDU_BYTES
        entity.acse_timeout = _ASSOCIATION_SECONDS
        entity.network_timeout = entity.dimse_timeout = _IDLE_SECONDS
        entity.add_supported_context(VERIFICATION)
        for kind in ULTRASOUND:
            entity.add_supported_context(kind, list(SYNTAXES))
        self.server = entity.make_server(
            (settings.address, settings.port),
            server_class=BoundedServer,
            evt_handlers=[
                (evt.EVT_C_STORE, self._stored),
                (evt.EVT_DIMSE_RECV, _message_is_whole),
                (evt.EVT_ACCEPTED, _say, ["accepted"]),
                (evt.EVT_REJECTED, _say, ["refused"]),
                (evt.EVT_ABORTED, _say, ["broken off"]),
            ],
            callers=tuple(Caller.of(text) for text in settings.callers),
            in_flight=InFlight(settings.object_bytes, _OBJECTS_AT_ONCE * settings.object_bytes),
        )

    def _stored(self, event: evt.Event) -> int:
        try:
            self._inbox.put(event.encoded_dataset())
        except OSError as error:
            _log.error("an object is not kept: %s", error.strerror)
            return _NO_ROOM if error.errno in _FULL else _FAILED
        finally:
            _socket_of(event).forget()
        return _SUCCESS


def _socket_of(event: evt.Event) -> BoundedSocket:
    connection = event.assoc.dul.socket
    if not isinstance(connection, BoundedSocket):
        raise TypeError("a connection that nobody bounds")
    return connection


def _message_is_whole(event: evt.Event) -> None:
    """Messages without a data set of their own are done with; one to be stored is held until it is kept."""
    if type(event.message).__name__ != "C_STORE_RQ" and event.assoc.dul.socket is not None:
        _socket_of(event).forget()


def _say(event: evt.Event, what: str) -> None:
    peer = event.assoc.requestor
    _log.info("%s: %s at %s", what, printable(peer.ae_title.strip()), peer.address)


def _end_without_memory(failed: Any) -> None:
    """A thread that had no memory left half a message behind: end, and be started again."""
    _log.error("a thread ended: %s", failed.exc_type.__name__)  # its message might quote what was sent
    if issubclass(failed.exc_type, MemoryError):
        os._exit(_MEMORY_STATUS)


def main() -> None:
    """Receive until ended."""
    settings = Settings(**json.loads(sys.argv[1]))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # it quotes data sets
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.excepthook = _end_without_memory
    try:
        receiver = Receiver(settings)
    except OSError as error:
        sys.exit(f"error: {settings.address}:{settings.port}: {error.strerror or error}")
    _log.info("receiving as %s on %s:%d", settings.title, settings.address, settings.port)
    try:
        receiver.server.serve_forever()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
