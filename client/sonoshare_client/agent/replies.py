"""Replies that were given: the same request gets the same stored bytes, never a second training.

A slot is one thing that may happen once: a round of a study, the audit of a candidate, the signature of a release.
An identity says what was asked of it. Asking a taken slot for something else is refused, so a replayed or altered
request can never make a hospital train, audit or sign twice (CASES 31, 35, 40).
"""

import json
from pathlib import Path

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import RefusedError
from sonoshare_shared.protocol.canonical import sha256_hex


class ReplyStore:
    """Stored replies in a folder, each written durably before it is given."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def find(self, slot: str, identity: str) -> bytes | None:
        """The reply stored for this slot, or None if the slot is free.

        Raises:
            RefusedError: the slot was used for another request.
        """
        path = self._path(slot)
        if not path.exists():
            return None
        line, _, reply = path.read_bytes().partition(b"\n")
        if json.loads(line)["identity"] != identity:
            raise RefusedError(
                f"{slot} was already answered for another request", remedy="resume the study instead of repeating it"
            )
        return reply

    def store(self, slot: str, identity: str, reply: bytes) -> None:
        """Store a reply durably."""
        line = json.dumps({"slot": slot, "identity": identity}).encode()
        write_atomically(self._path(slot), line + b"\n" + reply)

    def __len__(self) -> int:
        return sum(1 for _ in self._folder.glob("*.reply"))

    def _path(self, slot: str) -> Path:
        return self._folder / f"{sha256_hex(slot.encode())}.reply"
