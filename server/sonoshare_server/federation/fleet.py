"""The hospitals as the coordinator reaches them: frames out, frames back, by a deadline.

``Fleet`` is all that rounds, audits and signatures know of the transport. ``FlowerFleet`` is the real one; tests use
one that calls agents directly.
"""

import time
from collections.abc import Mapping
from typing import Final, Protocol

from sonoshare_server.federation.flower import ConfigRecord, Grid, Message, RecordDict

POLL_SECONDS: Final = 0.3
RECORD: Final = "frame"
FIELD: Final = "bytes"
MESSAGE_TYPE: Final = "query.sonoshare"


class Fleet(Protocol):
    """Hospitals that answer frames."""

    def ask(self, requests: Mapping[str, bytes], deadline_seconds: float) -> dict[str, bytes]:
        """Send one frame to each named hospital; return the frames that came back by the deadline."""


class FlowerFleet:
    """Hospitals behind a Flower grid.

    Args:
        grid: the grid of the running ServerApp.
        nodes: Flower node id of each hospital, from the coordinator's own records, never from replies.
    """

    def __init__(self, grid: Grid, nodes: Mapping[str, int]) -> None:
        self._grid, self._nodes = grid, dict(nodes)

    def wait_for(self, hospitals: set[str], deadline_seconds: float) -> set[str]:
        """Wait until the named hospitals are online, or the deadline; return those that are."""
        end = time.monotonic() + deadline_seconds
        while True:
            online = set(self._grid.get_node_ids())
            present = {hospital for hospital in hospitals if self._nodes[hospital] in online}
            if present == hospitals or time.monotonic() >= end:
                return present
            time.sleep(POLL_SECONDS)

    def ask(self, requests: Mapping[str, bytes], deadline_seconds: float) -> dict[str, bytes]:
        """Send frames and collect replies; errors, silence and hospitals without a node are left out, never raised."""
        end = time.monotonic() + deadline_seconds
        hospitals = [hospital for hospital in requests if hospital in self._nodes]
        if not hospitals:
            return {}
        messages = [
            Message(
                RecordDict({RECORD: ConfigRecord({FIELD: requests[hospital]})}),
                dst_node_id=self._nodes[hospital],
                message_type=MESSAGE_TYPE,
            )
            for hospital in hospitals
        ]
        pushed = list(self._grid.push_messages(messages))
        # An error reply names a wrong source node, so replies are matched by the message that they answer.
        waiting = {message_id: hospital for message_id, hospital in zip(pushed, hospitals, strict=True) if message_id}
        frames: dict[str, bytes] = {}
        while waiting and time.monotonic() < end:
            for reply in self._grid.pull_messages(list(waiting)):
                hospital = waiting.pop(reply.metadata.reply_to_message_id, None)
                if hospital is not None and not reply.has_error():
                    frames.update(_frame_of(hospital, reply))
            if waiting:
                time.sleep(POLL_SECONDS)
        return frames


def _frame_of(hospital: str, reply: Message) -> dict[str, bytes]:
    record = reply.content.config_records.get(RECORD)
    frame = record.get(FIELD) if record is not None else None
    return {hospital: frame} if isinstance(frame, bytes) else {}
