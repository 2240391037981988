"""Whether a log that is shown today goes on from the one that was shown before: nothing was taken out, or held back.

A reader remembers of each catalogue how long its log was and which root it had (``KnownHead``), and compares.

    remembered 120 entries, shown 131 of the same beginning:  extends
    remembered 120 entries, shown 118:                        older: what came since, a revocation perhaps, is kept back
    remembered 120 entries, shown 131 of another beginning:   forked: refused

Not promised: that the newest log was shown, where none was seen before; see the time of its head.
"""

from dataclasses import dataclass
from typing import Literal

from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.release.evidence import LogView

Course = Literal["first", "same", "extends", "older"]


@dataclass(frozen=True)
class KnownHead:
    """A log that was seen.

    Attributes:
        size: its entries.
        root: its root (hex).
    """

    size: int
    root: str

    @classmethod
    def of(cls, view: LogView) -> "KnownHead":
        """What to remember of a log."""
        return cls(len(view.entries), merkle.root([entry.encode() for entry in view.entries]).hex())


def course_of(view: LogView, known: KnownHead | None) -> Course:
    """How a log stands to the one that was seen before.

    Args:
        view: what is shown now.
        known: what was seen.

    Raises:
        VerificationError: cause ``log-proof``: it is another log.
    """
    if known is None:
        return "first"
    if len(view.entries) < known.size:
        return "older"
    before = merkle.root([entry.encode() for entry in view.entries[: known.size]]).hex()
    if before != known.root:
        raise VerificationError(
            "log-proof",
            "the catalogue shows another log than it showed before: it was forked",
            remedy="tell the consortium's hospitals, and use nothing that was fetched since",
        )
    return "same" if len(view.entries) == known.size else "extends"
