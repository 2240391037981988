"""The vault: de-identified images, sealed, found by keyed pseudonyms only.

- A patient is a keyed pseudonym (HMAC-SHA256); the hospital's own string is never stored, sealed or not.
- Each image is one sealed blob under a random name, and one row of an SQLite index. Blobs are on the disk before the
  rows that name them are: whatever dies in between leaves blobs that nobody names, which the next writer removes.
- The index holds no class, no device, no size, no date: pseudonym, blob name, two keyed fingerprints, the rules that an
  image was taken under, which images look like one person under two pseudonyms, and sealed records of what was set
  aside (quarantine.py).
- Train or held out is a keyed coin of the pseudonym with a public probability, fixed with the first image.
- Two patients who look like one person are *held back*: among neither the trained nor the held-out, until a person has
  decided (hold_back.py says who exactly, and how far one patient's coming reaches).
- Who takes part in a study is settled once (``enrolled``) and kept, sealed: later arrivals do not join, the forgotten
  leave (docs/decisions/0075-who-takes-part.md).
- Every change of images or pairs, by whatever process, raises the vault's *generation*: what was read under an older
  one must not be used.

One writer at a time (a lock file, vault/writer.py); any number of readers.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.sealed import VaultKeys, read_key_file
from sonoshare_client.vault.blobs import BlobFolder, place_of
from sonoshare_client.vault.enrolment import opened_enrolment, sealed_enrolment
from sonoshare_client.vault.hold_back import waiting
from sonoshare_client.vault.index_versions import INDEX_VERSIONS
from sonoshare_client.vault.quarantine import Quarantine
from sonoshare_client.vault.rules import RuleCounts, Rules
from sonoshare_client.vault.stored_image import StoredImage, attributes_of, from_bytes
from sonoshare_client.vault.writer import VaultWriter
from sonoshare_shared.database import bring_up
from sonoshare_shared.errors import InputError, NewerVersionError
from sonoshare_shared.locks import locked

_INDEX: Final = "index.db"
_WAIT_SECONDS: Final = 30.0
_ENROLMENT_WAIT_SECONDS: Final = 600.0
"""An intake holds the index for as long as a batch of images takes it."""


@dataclass(frozen=True)
class ImageRef:
    """Names one image of the vault.

    Attributes:
        blob: random name of its blob.
        pseudonym: whose image it is.
    """

    blob: str
    pseudonym: str


@dataclass(frozen=True)
class PatientRecord:
    """A patient of the vault.

    Attributes:
        pseudonym: keyed pseudonym, 64 hexadecimal characters.
        held_out: never trained on.
        images: the patient's images, in the order of intake.
    """

    pseudonym: str
    held_out: bool
    images: tuple[ImageRef, ...]


@dataclass(frozen=True)
class TwinRecord:
    """Two images of different patients that look like one person.

    Attributes:
        number: names the pair.
        first: image of the patient who came first.
        second: image of the other.
        score: of the copy detector.
        two_people: a person has looked and said that they are two.
    """

    number: int
    first: ImageRef
    second: ImageRef
    score: float
    two_people: bool


def generation_of(home: NodeHome) -> int | None:
    """The generation of a node's vault, read without its key; None where it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{(home.vault_path / _INDEX).as_uri()}?mode=ro", uri=True, timeout=0)) as index:
            return _generation(index)
    except sqlite3.Error:
        return None


def rule_counts(home: NodeHome, now: Rules) -> RuleCounts | None:
    """What a node's vault holds under rules other than today's, read without its key; None where it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{(home.vault_path / _INDEX).as_uri()}?mode=ro", uri=True, timeout=0)) as index:
            (waiting,) = index.execute("SELECT count(*) FROM quarantine WHERE waiting").fetchone()
            older, other = index.execute(
                "SELECT count(*) FILTER (WHERE coalesce(rules, 0) < ?), count(*) FILTER (WHERE policy <> ?) FROM image",
                (now.number, now.policy),
            ).fetchone()
            return RuleCounts(waiting, older, other)
    except sqlite3.Error:
        return None


def _generation(index: sqlite3.Connection) -> int:
    (number,) = index.execute("SELECT coalesce(max(number), 0) FROM generation").fetchone()
    return int(number)


class Vault:
    """The images of one hospital. Close it, or use it in a ``with`` block.

    Args:
        home: the node folder; its key file must be readable, its policy says which fraction is held out.

    Raises:
        InputError: no key, no room, a damaged index, or the policy's held-out fraction is not the one the vault was
            made with.
        NewerVersionError: the index was written by a newer version of SonoShare.
    """

    def __init__(self, home: NodeHome) -> None:
        self._keys = VaultKeys(read_key_file(home.vault_key_path))
        self._folder = home.vault_path
        self._lock = threading.RLock()
        try:
            self._blobs = BlobFolder(home.vault_path / "blobs")
            self._db = sqlite3.connect(
                self._folder / _INDEX, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            # FULL: a committed row outlives a power cut. secure_delete: a forgotten row leaves no bytes.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA secure_delete = ON")
            bring_up(self._db, INDEX_VERSIONS, "the vault's index")
        except NewerVersionError:
            self._db.close()
            raise
        except (OSError, sqlite3.OperationalError) as error:
            raise InputError(
                "the vault cannot be opened", remedy="check free space, and that this user owns the folder"
            ) from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                "the vault's index is damaged",
                remedy="put back a copy, or delete the folder 'vault' and ingest again with the same vault key",
            ) from error
        self.quarantine = Quarantine(self._db, self._lock, self._keys, self._blobs)
        """What was set aside; changed within ``writing`` only."""
        try:
            self.held_out_fraction = self._fixed_fraction(home.policy().cohort.held_out_fraction)
        except InputError:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the index."""
        with self._lock:
            self._db.close()

    def patients(self) -> tuple[PatientRecord, ...]:
        """All patients but those held back, sorted by pseudonym."""
        held_back = self.held_back()
        return tuple(patient for patient in self._everybody() if patient.pseudonym not in held_back)

    def held_back(self) -> frozenset[str]:
        """Pseudonyms of the patients who wait for a decision about an undecided pair."""
        undecided = (twin for twin in self.twins() if not twin.two_people)
        return waiting((twin.first.pseudonym, twin.second.pseudonym, twin.score) for twin in undecided)

    def enrolled(self, study: str, *, settle: bool = True) -> tuple[PatientRecord, ...]:
        """Patients who take part in a study, sorted by pseudonym.

        Asked for the first time, it is settled who: everybody but those held back and those with a picture that was
        never compared. From then on nobody joins; who is forgotten leaves, and does not come back into this study.

        Args:
            study: identifier of the study.
            settle: False only looks at who would take part, and keeps nothing.

        Raises:
            IntegrityError: the kept list does not open.
            InputError: another process kept the index busy for too long.
        """
        with self._lock:
            sealed = self._sealed_enrolment(study)
            if sealed is None and not settle:
                chosen = self._eligible()
            elif sealed is None:
                chosen = self._settle(study)
            else:
                chosen = opened_enrolment(self._keys, study, sealed)
            return tuple(patient for patient in self._everybody() if patient.pseudonym in chosen)

    def generation(self) -> int:
        """A number that grows with every change of an image or pair."""
        with self._lock:
            return _generation(self._db)

    def _everybody(self) -> tuple[PatientRecord, ...]:
        images: dict[str, list[ImageRef]] = {}
        for ref in sorted(self.images(), key=lambda ref: ref.pseudonym):
            images.setdefault(ref.pseudonym, []).append(ref)
        return tuple(
            PatientRecord(pseudonym, self._keys.held_out(pseudonym, self.held_out_fraction), tuple(refs))
            for pseudonym, refs in images.items()
        )

    def _eligible(self) -> frozenset[str]:
        uncompared = {ref.pseudonym for ref in self.images()[self.compared() :]}
        return frozenset(patient.pseudonym for patient in self.patients()) - uncompared

    def _sealed_enrolment(self, study: str) -> bytes | None:
        row = self._db.execute("SELECT sealed FROM enrolment WHERE study = ?", (study,)).fetchone()
        return None if row is None else bytes(row[0])

    def _settle(self, study: str) -> frozenset[str]:
        """Choose and keep in one transaction; of two processes the first decides."""
        try:
            self._db.execute(f"PRAGMA busy_timeout = {int(1000 * _ENROLMENT_WAIT_SECONDS)}")
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:  # commits, or rolls back after an exception
                sealed = self._sealed_enrolment(study)
                if sealed is not None:
                    return opened_enrolment(self._keys, study, sealed)
                chosen = self._eligible()
                sealed = sealed_enrolment(self._keys, study, chosen)
                self._db.execute("INSERT INTO enrolment VALUES (?, ?)", (study, sealed))
                return chosen
        except sqlite3.OperationalError as error:
            raise InputError("the vault's index is busy or cannot be written", remedy="wait for the intake") from error
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {int(1000 * _WAIT_SECONDS)}")

    def images(self) -> tuple[ImageRef, ...]:
        """Every image, of patients held back too, in the order of intake."""
        with self._lock:
            rows = self._db.execute("SELECT blob, pseudonym FROM image ORDER BY number").fetchall()
        return tuple(ImageRef(blob, pseudonym) for blob, pseudonym in rows)

    def count(self) -> int:
        """How many images there are, of patients held back too."""
        with self._lock:
            (count,) = self._db.execute("SELECT count(*) FROM image").fetchone()
        return int(count)

    def part(self, first: int, count: int) -> tuple[ImageRef, ...]:
        """Some of ``images()``: at most ``count``, from place ``first`` on; none beyond the last."""
        with self._lock:
            rows = self._db.execute(
                "SELECT blob, pseudonym FROM image ORDER BY number LIMIT ? OFFSET ?", (count, first)
            ).fetchall()
        return tuple(ImageRef(blob, pseudonym) for blob, pseudonym in rows)

    def taken_before(self, rules: int) -> tuple[ImageRef, ...]:
        """Images that were taken under a version of the rules before this one, or before versions were written down."""
        with self._lock:
            rows = self._db.execute(
                "SELECT blob, pseudonym FROM image WHERE coalesce(rules, 0) < ? ORDER BY number", (rules,)
            ).fetchall()
        return tuple(ImageRef(blob, pseudonym) for blob, pseudonym in rows)

    def compared(self) -> int:
        """How many of ``images()``, from the start, have been compared for twins."""
        with self._lock:
            (count,) = self._db.execute(
                "SELECT count(*) FROM image WHERE number <= "
                "coalesce((SELECT CAST(value AS INTEGER) FROM constant WHERE name = 'twins_compared'), 0)"
            ).fetchone()
        return int(count)

    def twins(self) -> tuple[TwinRecord, ...]:
        """Pairs that look like one person, decided ones too; for the hospital's own eyes."""
        with self._lock:
            rows = self._db.execute(
                "SELECT twin.number, a.blob, a.pseudonym, b.blob, b.pseudonym, score, two_people FROM twin "
                "JOIN image AS a ON a.blob = twin.first JOIN image AS b ON b.blob = twin.second ORDER BY twin.number"
            ).fetchall()
        return tuple(
            TwinRecord(number, ImageRef(*first), ImageRef(*second), score, bool(two_people))
            for number, *rest, score, two_people in rows
            for first, second in [(rest[:2], rest[2:])]
        )

    def load(self, ref: ImageRef) -> StoredImage:
        """Open one image.

        Raises:
            IntegrityError: missing, changed, or moved from another patient.
        """
        return from_bytes(self._open(ref.blob, ref.pseudonym))

    def pseudonym(self, patient: str) -> str:
        """The pseudonym under which a patient of the hospital stands here."""
        return self._keys.pseudonym(patient)

    @contextmanager
    def writing(self, rules: Rules | None = None) -> Iterator[VaultWriter]:
        """Be the only writer; clears what an interrupted writer left behind.

        Args:
            rules: which are written beside the images that are stored; none where they are not taken by intake.

        Yields:
            The writer; what it holds at the end is made durable, after an exception it is dropped.

        Raises:
            InputError: another process writes, or the disk is full.
        """
        busy = InputError("another intake is writing to this vault", remedy="wait until it has ended")
        with locked(self._folder / "lock", busy):
            named = {row[0] for row in self._db.execute("SELECT blob FROM image UNION SELECT blob FROM quarantine")}
            self._blobs.remove_all_but(named)
            writer = VaultWriter(
                db=self._db,
                lock=self._lock,
                keys=self._keys,
                blobs=self._blobs,
                held_out_fraction=self.held_out_fraction,
                label_of=self._label,
                rules=rules,
            )
            try:
                yield writer
                writer.flush()
            finally:
                writer.abandon()

    def _open(self, blob: str, pseudonym: str) -> bytes:
        return self._keys.open(self._blobs.read(blob), place_of(blob, pseudonym))

    def _label(self, blob: str, pseudonym: str) -> str:
        return str(attributes_of(self._open(blob, pseudonym))["label"])

    def _fixed_fraction(self, wanted: float) -> float:
        row = self._db.execute("SELECT value FROM constant WHERE name = 'held_out_fraction'").fetchone()
        if row is not None and float(row[0]) != wanted:
            raise InputError(
                f"the vault was made with cohort.held_out_fraction = {float(row[0]):g}, policy.toml says {wanted:g}",
                remedy="restore the value: patients must never move between training and held out",
            )
        return wanted
