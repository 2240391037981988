"""The candidate that is about to be audited: it comes in batches, lies in one file, and is one at a time.

    state/inbox/<digest>.candidate     the stream (``sonoshare_shared.protocol.release.transfer``), owner only

Every file of the candidate is checked against its digest before it is kept, and again whenever it is read: what is
audited is what the digest in the log stands for, whatever becomes of the disk in between. What is answered is on the
disk; after a kill a file is read through once and cut back to its last checked part.

The disk is bounded: one candidate, of at most what the policy says. Another one takes its place, an audit takes it
away, and so does the next start once it has lain for ``KEPT_DAYS``. Nothing is named but by a digest.

Nothing here depends on a patient. Who asks for a batch to be held has been checked before (``agent.holding``).
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sonoshare_shared.durable import append_at, create
from sonoshare_shared.errors import IntegrityError, NotHeldError, PolicyError, SonoShareError
from sonoshare_shared.protocol.documents.holding import MOST_BATCH_BYTES
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.transfer import CandidateFiles, StreamCheck, candidate_in

KEPT_DAYS: Final = 7
_HELD_LISTING_BYTES: Final = 1 << 31
"""Of a listing that is on the disk: it was within its terms when it came."""
_DAY_SECONDS: Final = 86_400
_SUFFIX: Final = ".candidate"
_NAME: Final = re.compile(r"[0-9a-f]{64}\.candidate")
_PRIVATE: Final = 0o600
_BLOCK_BYTES: Final = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """What may be held.

    Attributes:
        accept: refuses a listing that is not of its plan, before anything else is kept.
        most_listing_bytes: of ``candidate.json``.
        most_bytes: of everything.
    """

    accept: Callable[[Candidate], None]
    most_listing_bytes: int
    most_bytes: int


class Inbox:
    """A folder with at most one candidate.

    Args:
        folder: the inbox; made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digest, self._check = "", StreamCheck("", most_listing_bytes=0)

    def take(self, digest: str, offset: int, batch: bytes, terms: Terms) -> StreamCheck:
        """Keep what is new of a batch, durably.

        Args:
            digest: address of the candidate.
            offset: byte of its stream at which the batch begins; one behind the end of what is held keeps nothing.
            batch: bytes of the stream.
            terms: what may be held.

        Returns:
            What is held: its ``size``, and whether it is ``whole``.

        Raises:
            IntegrityError: a file is not the one that is listed, the batch is too large, or the listing is refused.
                Nothing is held of this candidate any more.
            PolicyError: the candidate is larger than the policy permits; what was held before is.
            OSError: the disk is full; what was held before is.
        """
        if len(batch) > MOST_BATCH_BYTES:
            raise IntegrityError(f"a batch of more than {MOST_BATCH_BYTES >> 20} MiB was sent", remedy="send less")
        check = self._found(digest, terms)
        new = memoryview(batch)[max(0, check.size - offset) :]
        if check.whole or offset > check.size or not new:
            return check
        if check.size + len(new) > terms.most_bytes:
            raise PolicyError(
                f"the candidate has more than the {terms.most_bytes >> 20} MiB that the policy permits",
                remedy="raise audit.maximum_candidate_mib, or ask for fewer images",
            )
        self._keep(check, new)
        return check

    @contextmanager
    def opened(self, digest: str) -> Iterator[CandidateFiles]:
        """Give the files of a candidate that is held whole; each is checked as it is read.

        Raises:
            NotHeldError: it is not; or a file was found changed when the block read it, and nothing is held of it now.
        """
        check = self._found(digest, Terms(lambda _candidate: None, _HELD_LISTING_BYTES, 0))
        if not check.whole:
            self._digest = ""  # what comes next of it is checked by its own terms
            raise NotHeldError("the candidate is not held here", remedy="send it, then ask again")
        try:
            yield candidate_in(self._path(digest), check, digest)
        except NotHeldError:
            self.drop(digest)
            raise

    def drop(self, digest: str) -> None:
        """Hold nothing of a candidate any more."""
        if digest == self._digest:
            self._digest = ""
        self._path(digest).unlink(missing_ok=True)

    def tidy(self, finished: Callable[[str], bool]) -> None:
        """Remove what is of no use any more; to be called when a node is opened.

        Args:
            finished: whether a candidate, by its digest, was audited.
        """
        held = sorted(self._folder.glob("*"), key=lambda path: path.lstat().st_mtime)
        oldest = time.time() - KEPT_DAYS * _DAY_SECONDS
        for path in held:
            left = path != held[-1] or path.lstat().st_mtime < oldest
            if left or not _NAME.fullmatch(path.name) or finished(path.stem):
                path.unlink()

    def _found(self, digest: str, terms: Terms) -> StreamCheck:
        """What is held of a candidate; after a restart it is read through."""
        path = self._path(digest)
        if digest != self._digest or (self._check.size > 0) != path.exists():
            check = StreamCheck(digest, most_listing_bytes=terms.most_listing_bytes, accept=terms.accept)
            if path.exists():
                _read_through(path, check)
            self._digest, self._check = digest, check
        return self._check

    def _keep(self, check: StreamCheck, new: memoryview) -> None:
        digest, held, path = self._digest, check.size, self._path(self._digest)
        try:
            check.feed(new)  # before a byte of it is on the disk
        except SonoShareError:
            self.drop(digest)
            raise
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for other in self._folder.iterdir():
                if other != path:
                    other.unlink()
            if not path.exists():
                create(path, b"", mode=_PRIVATE)
            append_at(path, held, new)
        except OSError as error:
            self._digest = ""  # to be read through: the check is ahead of the disk
            _log.warning("a candidate cannot be held: %s", error.strerror)
            raise

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}{_SUFFIX}"


def _read_through(path: Path, check: StreamCheck) -> None:
    """Have a file checked, and leave the check at its last part that is whole and sound."""
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                check.feed(block)
    except SonoShareError as error:
        _log.warning("a candidate is held up to byte %d only: %s", check.sound, error.message)
    check.cut()
