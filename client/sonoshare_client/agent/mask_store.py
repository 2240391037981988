"""Updates that were trained and wait to be masked, each with its key: secret, durable, and gone as soon as can be.

    state/masking/<digest>   one line of JSON (study, round, digest of what was signed, key), then the encoded update

A file is on the disk before the hospital says that it is ready, so the same request gets the same bytes after any
crash. It is removed when its masked numbers are stored, and when the log shows that its round is closed. Whoever reads
it learns an update that is private by itself; together with what travelled, an update is all that can be learned.

Not promised: that a removed file leaves no trace on the disk. Keep the node's folder on an encrypted one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from sonoshare_privacy.masking.agreement import EphemeralKey
from sonoshare_privacy.masking.fixed_point import Words
from sonoshare_privacy.masking.pair_masks import WORD_BYTES, from_bytes, to_bytes
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.log_index import LogIndex, model_entry

_PRIVATE: Final = 0o600


@dataclass(frozen=True)
class Waiting:
    """An update of a round that waits.

    Attributes:
        ready: digest of what the hospital signed when it was ready.
        key: its key of this round.
        words: the encoded update.
    """

    ready: str
    key: EphemeralKey
    words: Words


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    round: int
    ready: str
    key: str


class MaskStore:
    """Waiting updates in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, study: str, number: int, waiting: Waiting) -> None:
        """Make the update of a round durable; one that was trained before (a crash) gives way."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        header = _Header(study=study, round=number, ready=waiting.ready, key=waiting.key.secret.hex())
        data = header.model_dump_json().encode() + b"\n" + to_bytes(waiting.words)
        write_atomically(self._path(study, number), data, mode=_PRIVATE)

    def find(self, study: str, number: int) -> Waiting | None:
        """The update of a round; None if none waits.

        Raises:
            IntegrityError: its file is damaged.
        """
        path = self._path(study, number)
        if not path.exists():
            return None
        line, _, data = path.read_bytes().partition(b"\n")
        header = _header(line)
        words = from_bytes(data, len(data) // WORD_BYTES)
        return Waiting(header.ready, EphemeralKey.from_secret(bytes.fromhex(header.key)), words)

    def forget(self, study: str, number: int) -> None:
        """Remove the update and key of a round, if they are there."""
        self._path(study, number).unlink(missing_ok=True)

    def forget_closed(self, log: LogIndex) -> None:
        """Remove those of every round after which the log shows a model.

        Raises:
            IntegrityError: a file is damaged.
        """
        for header in list(self._headers()):
            if log.place(model_entry(header.study, header.round + 1, "")) is not None:
                self.forget(header.study, header.round)

    def _headers(self) -> Iterator[_Header]:
        for path in self._folder.glob("*.waiting"):
            with path.open("rb") as file:
                yield _header(file.readline().rstrip(b"\n"))

    def _path(self, study: str, number: int) -> Path:
        return self._folder / f"{sha256_hex(f'{study}/{number}'.encode())}.waiting"


def _header(line: bytes) -> _Header:
    try:
        return _Header.model_validate_json(line)
    except ValidationError as error:
        raise IntegrityError(
            "an update that waits to be masked is damaged", remedy="remove state/masking: its round goes on without it"
        ) from error
