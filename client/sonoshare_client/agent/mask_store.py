"""Updates that were trained and wait to be masked, each with its key: sealed, durable, and gone as soon as can be.

    state/masking/<digest>.waiting   a line of JSON (study, round), then sealed: digest of what was signed, key, update

A file is on the disk before the hospital says that it is ready, so the same request gets the same bytes after any
crash. It is removed when its masked numbers are stored, and when the log shows that its round is closed. It is sealed
under the vault's key, for the place that it is of: whoever copies the disk without that key learns which rounds wait.
Where noise is pooled it is a share, which has less noise than an update (``sonoshare_privacy.pooled_release``).

Not promised: that a removed file leaves no trace on the disk for whoever has the vault's key.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from sonoshare_client.node.sealed import VaultKeys, read_key_file
from sonoshare_privacy.masking.agreement import PRIVATE_KEY_BYTES, EphemeralKey
from sonoshare_privacy.masking.fixed_point import Words
from sonoshare_privacy.masking.pair_masks import WORD_BYTES, from_bytes, to_bytes
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.closed_rounds import ClosedRound
from sonoshare_shared.protocol.log_index import LogIndex, model_entry

_PRIVATE: Final = 0o600
_DIGEST_BYTES: Final = 32


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


class _Round(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    round: int


class MaskStore:
    """Waiting updates in a folder.

    Args:
        folder: theirs.
        vault_key_path: file of the key that seals them.
    """

    def __init__(self, folder: Path, vault_key_path: Path) -> None:
        self._folder, self._vault_key_path = folder, vault_key_path

    def keep(self, study: str, number: int, waiting: Waiting) -> None:
        """Make the update of a round durable; one that was trained before (a crash) gives way.

        Raises:
            InputError: the vault's key cannot be read.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        plain = bytes.fromhex(waiting.ready) + waiting.key.secret + to_bytes(waiting.words)
        sealed = self._keys().seal(plain, _place(study, number))
        header = _Round(study=study, round=number).model_dump_json().encode()
        write_atomically(self._path(study, number), header + b"\n" + sealed, mode=_PRIVATE)

    def find(self, study: str, number: int) -> Waiting | None:
        """The update of a round; None if none waits.

        Raises:
            InputError: the vault's key cannot be read.
            IntegrityError: its file is damaged.
        """
        path = self._path(study, number)
        if not path.exists():
            return None
        sealed = path.read_bytes().partition(b"\n")[2]
        plain = self._keys().open(sealed, _place(study, number))
        start = _DIGEST_BYTES + PRIVATE_KEY_BYTES
        return Waiting(
            ready=plain[:_DIGEST_BYTES].hex(),
            key=EphemeralKey.from_secret(plain[_DIGEST_BYTES:start]),
            words=from_bytes(plain[start:], (len(plain) - start) // WORD_BYTES),
        )

    def forget(self, study: str, number: int) -> None:
        """Remove the update and key of a round, if they are there."""
        self._path(study, number).unlink(missing_ok=True)

    def forget_closed(self, log: LogIndex) -> None:
        """Remove those of every round that the log has closed, or after which it shows a model.

        Raises:
            IntegrityError: a file is damaged.
        """
        for waiting in list(self._rounds()):
            # The last round has no model after it; what a slot's entry says does not matter here.
            closed = ClosedRound(study=waiting.study, round=waiting.round, hospitals=(), adapter="0" * 64).entry
            following = model_entry(waiting.study, waiting.round + 1, "")
            if any(log.place(entry) is not None for entry in (closed, following)):
                self.forget(waiting.study, waiting.round)

    def _rounds(self) -> Iterator[_Round]:
        for path in self._folder.glob("*.waiting"):
            with path.open("rb") as file:
                line = file.readline()
            try:
                yield _Round.model_validate_json(line)
            except ValidationError as error:
                raise IntegrityError(
                    "an update that waits to be masked is damaged",
                    remedy="remove state/masking: its round goes on without this hospital",
                ) from error

    def _keys(self) -> VaultKeys:
        return VaultKeys(read_key_file(self._vault_key_path))

    def _path(self, study: str, number: int) -> Path:
        return self._folder / f"{sha256_hex(_place(study, number).encode())}.waiting"


def _place(study: str, number: int) -> str:
    return f"masked update of {study}, round {number}"
