"""What was released, stored: the same request gets the same result, never a second training.

A slot is one thing that may happen once: a round of a study, the audit of a candidate, the votes of a plan. An identity
says what was asked of it. Asking a taken slot for something else is refused, so a replayed or altered request can
never make a hospital train or audit twice (CASES 31, 35, 40).

What is stored is the *result*, a signed document and its payload, and never the reply around it: each reply says anew
what the hospital has seen (``agent.witnessing``), while the result that patients paid for is given again byte by byte.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import IntegrityError, RefusedError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import Reply, decode_frame, encode_frame
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey


@dataclass(frozen=True)
class Result:
    """What was released: a signed document, and bytes that it names by their digest."""

    envelope: Envelope
    payload: bytes = b""


def resigned(envelope: Envelope, key: SigningKey) -> Envelope:
    """What this hospital signed before, signed by the identity key that it has now; the very bytes are the same."""
    if [signature.keyid for signature in envelope.signatures] == [key.public.hex]:
        return envelope
    return Envelope.sign(envelope.payloadType, envelope.decoded(), key)


def train_slot(study: str, number: int) -> str:
    """Slot of a round of a study."""
    return f"train/{study}/{number}"


def reveal_slot(study: str, number: int) -> str:
    """Slot of a hospital's numbers in a masked round of a study."""
    return f"reveal/{study}/{number}"


def vote_slot(study: str) -> str:
    """Slot of the votes of a study."""
    return f"calibrate/{study}"


class ReplyStore:
    """Stored results in a folder, each written durably before it is given."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def find(self, slot: str, identity: str) -> Result | None:
        """The result stored for this slot, or None if the slot is free.

        Raises:
            RefusedError: the slot was used for another request.
        """
        path = self._path(slot)
        if not path.exists():
            return None
        taken_by, result = _read(path)
        if taken_by != identity:
            raise RefusedError(
                f"{slot} was already answered for another request", remedy="resume the study instead of repeating it"
            )
        return result

    def holds(self, slot: str) -> bool:
        """Whether this slot was answered."""
        return self._path(slot).exists()

    def store(self, slot: str, identity: str, result: Result) -> None:
        """Store a result durably."""
        line = json.dumps({"slot": slot, "identity": identity}).encode()
        frame = encode_frame(Reply(envelope=result.envelope), result.payload)
        write_atomically(self._path(slot), line + b"\n" + frame)

    def results(self) -> Iterator[Result]:
        """All stored results."""
        for path in sorted(self._folder.glob("*.reply")):
            yield _read(path)[1]

    def __len__(self) -> int:
        return sum(1 for _ in self._folder.glob("*.reply"))

    def _path(self, slot: str) -> Path:
        return self._folder / f"{sha256_hex(slot.encode())}.reply"


def _read(path: Path) -> tuple[str, Result]:
    """Identity and result of a stored file."""
    line, _, frame = path.read_bytes().partition(b"\n")
    try:
        identity = str(json.loads(line)["identity"])
        header, payload = decode_frame(frame)
        envelope = Reply.from_bytes(header).envelope
    except (ValueError, KeyError, IntegrityError) as error:
        raise IntegrityError("a stored reply is damaged", remedy="bring back the newest copy of state/") from error
    if envelope is None:
        raise IntegrityError("a stored reply is empty", remedy="bring back the newest copy of state/")
    return identity, Result(envelope, payload)
