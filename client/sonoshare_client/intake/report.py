"""What became of the files of an intake; names paths relative to the source folder, and no patient."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quarantined:
    """A file that was set aside.

    Attributes:
        source: its path relative to the source folder.
        reason: why, without any of its content, and what to do.
        line: of the table of labels that names it, or None.
    """

    source: str
    reason: str
    line: int | None = None

    @property
    def where(self) -> str:
        """File and row."""
        return self.source if self.line is None else f"{self.source} (line {self.line})"


@dataclass(frozen=True)
class LikelyTwin:
    """Two patients of the vault who look like one person; stays in the hospital.

    Attributes:
        pair: its number, for ``sonoshare hospital twins``.
        sources: a picture of each, the later patient's second: the path in this folder, or ``earlier intake``.
        score: how alike, at most 1.
    """

    pair: int
    sources: tuple[str, str]
    score: float


@dataclass(frozen=True)
class IngestReport:
    """What became of a folder.

    Attributes:
        accepted: pictures that are new in the vault.
        quarantined: files that were set aside.
        patients: patients among the accepted and the duplicates.
        duplicates: pictures that the vault had already.
        conflicts: how many of the quarantined contradict what the vault holds (other patient, class or picture).
        unlisted: picture files in the folder that no row names, by their paths relative to it.
        flagged: pictures that were taken in and look odd, with what is odd and what to do.
        twins: undecided pairs of patients who look like one person; who of them is held back: vault/hold_back.py.
        uncompared: pictures that were not fully compared with those of other patients: theirs join no study yet.
        classified: pictures among the duplicates that had no class before, and have one now.
        waiting: pictures among the accepted and the duplicates that have no class: they take no part in any task.
    """

    accepted: int
    quarantined: tuple[Quarantined, ...]
    patients: int
    duplicates: int
    conflicts: int
    unlisted: tuple[str, ...] = ()
    flagged: tuple[Quarantined, ...] = ()
    twins: tuple[LikelyTwin, ...] = ()
    uncompared: int = 0
    classified: int = 0
    waiting: int = 0
