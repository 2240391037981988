"""The hospitals as the coordinator reaches them: frames out, and frames back as they arrive, by a deadline.

``Fleet`` is all that rounds, audits and signatures know of the transport. ``FlowerFleet`` is the real one; tests use
one that calls agents directly.

One message at a time is on its way to a hospital: who has not answered the last one is sent the next when that one
comes back. So a hospital that was hung for ten rounds has one of them to catch up with, and not ten.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from sonoshare_server.federation.flower import Array, ArrayRecord, ConfigRecord, Grid, Message, RecordDict
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.frame_parts import (
    DOCUMENT,
    FIELD,
    PAYLOAD,
    QUERY,
    RECORD_BYTES,
    WHOLE_BYTES,
    frame_parts,
    joined_frame,
)

POLL_SECONDS: Final = 0.5
LONGEST_POLL_SECONDS: Final = 2.0
LATE_SHARE: Final = 0.1
"""An answer is noticed late by so much of the time that was waited for it."""
MESSAGE_TYPE: Final = f"query.{QUERY}"

Arrived = Mapping[str, bytes | None]
"""What came back since the last look, by hospital: a frame, or None where the message came back with an error."""
Parts = tuple[bytes, bytes]
"""A frame's document and its payload."""


class Frames(Mapping[str, bytes]):
    """Frames of hospitals that get the same payload: it is held once, and a frame is put together when it is taken.

    Args:
        documents: a frame without its payload for each hospital.
        payload: of all of them.
    """

    def __init__(self, documents: Mapping[str, bytes], payload: bytes) -> None:
        self._documents, self._payload = documents, payload

    def __getitem__(self, hospital: str) -> bytes:
        return self._documents[hospital] + self._payload

    def __iter__(self) -> Iterator[str]:
        return iter(self._documents)

    def __len__(self) -> int:
        return len(self._documents)

    def parts(self) -> dict[str, Parts]:
        """Document and payload of each; the payload is the same object in all."""
        return {hospital: (document, self._payload) for hospital, document in self._documents.items()}

    def of(self, hospitals: Iterable[str]) -> "Frames":
        """Those of some of the hospitals."""
        return Frames({hospital: self._documents[hospital] for hospital in hospitals}, self._payload)


class Fleet(Protocol):
    """Hospitals that answer frames."""

    def ask(self, requests: Mapping[str, bytes], deadline_seconds: float) -> Iterator[Arrived]:
        """Send one frame to each named hospital; every look gives what has arrived since, which may be nothing.

        It ends when everybody has answered, and at the deadline. Whoever looks may stop before.
        """


def answers_of(looks: Iterator[Arrived]) -> dict[str, bytes]:
    """All frames that come back by the deadline."""
    return {hospital: frame for arrived in looks for hospital, frame in arrived.items() if frame is not None}


class FlowerFleet:
    """Hospitals behind a Flower grid.

    Args:
        grid: the grid of the running ServerApp.
        nodes: gives the Flower node ids of each hospital, the newest first, from the coordinator's own records and
            never from replies; asked each time, because a hospital may be changing its node key.
        look: called at every look for answers; what it raises ends the wait (nobody wants them any more).
    """

    def __init__(
        self, grid: Grid, nodes: Callable[[], Mapping[str, Sequence[int]]], look: Callable[[], None] = lambda: None
    ) -> None:
        self._grid, self._nodes, self._look = grid, nodes, look
        self._unanswered: dict[str, str] = {}

    def wait_for(self, hospitals: set[str], deadline_seconds: float, *, enough: int, grace_seconds: float) -> set[str]:
        """Wait until hospitals are online; returns those that are.

        Args:
            hospitals: to wait for.
            deadline_seconds: after which nobody is waited for.
            enough: once so many are online, the others are waited for no longer than ``grace_seconds``.
            grace_seconds: couriers that lost a restarted server find it again in a few seconds.
        """
        start = time.monotonic()
        while True:
            self._look()
            online = set(self._grid.get_node_ids())
            nodes = self._nodes()
            present = {hospital for hospital in hospitals if online.intersection(nodes.get(hospital, ()))}
            waited = time.monotonic() - start
            patience = grace_seconds if len(present) >= enough else deadline_seconds
            if present == hospitals or waited >= min(patience, deadline_seconds):
                return present
            time.sleep(POLL_SECONDS)

    def ask(self, requests: Mapping[str, bytes], deadline_seconds: float) -> Iterator[Arrived]:
        """Send frames and give what comes back; nothing is ever raised for a hospital's error or silence."""
        end = time.monotonic() + deadline_seconds
        parts = requests.parts() if isinstance(requests, Frames) else {h: frame_parts(f) for h, f in requests.items()}
        held = {hospital: parts.pop(hospital) for hospital in requests if hospital in self._unanswered}
        waiting = self._push(parts)
        unreached = {h: None for h in requests if h not in held and h not in waiting.values()}
        return self._looks(waiting, held, unreached, end)

    def _looks(
        self, waiting: dict[str, str], held: dict[str, Parts], unreached: Arrived, end: float
    ) -> Iterator[Arrived]:
        yield unreached
        quiet_since = time.monotonic()
        while True:
            self._look()
            waiting |= self._push(self._free_again(held))
            arrived = {waiting.pop(message): frame for message, frame in self._pull(list(waiting)).items()}
            for hospital in arrived:
                self._unanswered.pop(hospital, None)
            yield arrived
            if arrived:
                quiet_since = time.monotonic()
            if not (waiting or held) or time.monotonic() >= end:
                return
            time.sleep(_pause(time.monotonic() - quiet_since))

    def _push(self, requests: Mapping[str, Parts]) -> dict[str, str]:
        """Send frames; hospitals by the id of their message. Hospitals without a node are left out."""
        nodes = self._nodes()
        hospitals = [hospital for hospital in requests if nodes.get(hospital)]
        if not hospitals:
            return {}
        several = any(len(nodes[hospital]) > 1 for hospital in hospitals)
        online = set(self._grid.get_node_ids()) if several else set[int]()
        payloads: dict[bytes, ArrayRecord | ConfigRecord] = {}  # one that goes to several is held, cut and sent once
        messages = [
            Message(
                _content(requests[hospital], payloads),
                dst_node_id=next((node for node in nodes[hospital] if node in online), nodes[hospital][0]),
                message_type=MESSAGE_TYPE,
            )
            for hospital in hospitals
        ]
        pushed = dict(zip(hospitals, self._grid.push_messages(messages), strict=True))
        self._unanswered |= {hospital: message for hospital, message in pushed.items() if message}
        return {message: hospital for hospital, message in pushed.items() if message}

    def _pull(self, messages: list[str]) -> dict[str, bytes | None]:
        """What came back, by the message that it answers: an error reply names a wrong source node."""
        replies = self._grid.pull_messages(messages) if messages else ()
        by_message = {reply.metadata.reply_to_message_id: reply for reply in replies}
        return {
            message: None if reply.has_error() else _frame_of(reply)
            for message, reply in by_message.items()
            if message in messages
        }

    def _free_again(self, held: dict[str, Parts]) -> dict[str, Parts]:
        """Frames whose hospitals have answered the message of before; they are held no more."""
        before = {self._unanswered[hospital]: hospital for hospital in held if hospital in self._unanswered}
        for message in self._pull(list(before)):
            self._unanswered.pop(before[message], None)
        return {hospital: held.pop(hospital) for hospital in tuple(held) if hospital not in self._unanswered}


def _pause(quiet: float) -> float:
    """Seconds until the next look after so many without an answer: a look costs the SuperLink as much as a message."""
    return min(LONGEST_POLL_SECONDS, max(POLL_SECONDS, LATE_SHARE * quiet))


def _frame_of(reply: Message) -> bytes | None:
    document = reply.content.config_records.get(DOCUMENT, ConfigRecord()).get(FIELD)
    payload = reply.content.array_records.get(PAYLOAD, ArrayRecord()).get(FIELD)
    try:
        return joined_frame(document, b"" if payload is None else payload.data)
    except IntegrityError:
        return None


def _content(parts: Parts, payloads: dict[bytes, ArrayRecord | ConfigRecord]) -> RecordDict:
    """What a message holds of a frame: its document, and its payload beside it, taken from ``payloads`` if there."""
    document, payload = parts
    if len(payload) <= WHOLE_BYTES:
        return RecordDict({DOCUMENT: ConfigRecord({FIELD: document + payload})})
    if payload not in payloads:
        payloads[payload] = _record(payload)
    return RecordDict({DOCUMENT: ConfigRecord({FIELD: document}), PAYLOAD: payloads[payload]})


def _record(payload: bytes) -> ArrayRecord | ConfigRecord:
    """A payload as one part, or as an array, which is cut into pieces."""
    if len(payload) <= RECORD_BYTES:
        return ConfigRecord({FIELD: payload})
    return ArrayRecord({FIELD: Array("uint8", (len(payload),), FIELD, payload)})
