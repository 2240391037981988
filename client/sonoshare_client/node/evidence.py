"""Evidence of misconduct that this hospital holds; while there is any, it does nothing more for the server.

    state/evidence/<sha256>.json   one file each, as ``sonoshare verify FILE --roster ROSTER`` checks it

Only a person takes a file away, after talking to the other hospitals: moving it out of the folder is enough, and it
should be kept. Evidence is on the disk before the request that brought it is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import MisconductError, RefusedError
from sonoshare_shared.protocol.canonical import sha256_hex


class EvidenceFolder:
    """The evidence in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def standing(self) -> str | None:
        """Digest of evidence that a person has not taken away yet; None if there is none."""
        found = sorted(self._folder.glob("*.json"))
        return found[0].stem if found else None

    def require_none(self) -> None:
        """Refuse to go on while evidence stands.

        Raises:
            RefusedError: it does.
        """
        if (digest := self.standing()) is not None:
            raise RefusedError(
                f"this hospital holds evidence of misconduct ({digest[:12]}) and does nothing more for this server",
                remedy="a person must look at state/evidence at the hospital: see docs/witness.md",
            )

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep what a check finds, before its refusal goes on."""
        try:
            yield
        except MisconductError as error:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._folder / f"{sha256_hex(error.evidence)}.json", error.evidence)
            raise
