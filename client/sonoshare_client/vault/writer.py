"""Writing to the vault: whole images, in batches, each batch durable or gone.

A disk takes its time for each file that it must not forget, so images are made durable together: blobs first, then
their folders, then one transaction with the rows. Until that transaction, nobody names the blobs.

The pictures of one file, such as frames of a clip, go into one batch: after whatever happens all of them are there or
none.

The same picture is kept once. The same picture of two patients, or one frame of a SOP instance with two pictures, is
reported and the first is kept: a person who stands on both sides of the split would spoil every audit.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Final

from sonoshare_client.node.sealed import VaultKeys
from sonoshare_client.vault.blobs import BlobFolder, place_of
from sonoshare_client.vault.enrolment import opened_enrolment, sealed_enrolment
from sonoshare_client.vault.rules import Rules
from sonoshare_client.vault.stored_image import StoredImage, pixel_content, to_bytes
from sonoshare_shared.errors import InputError

BATCH: Final = 32
"""Images made durable together; an interruption loses no more."""


class Added(Enum):
    """What became of an image that was given to the vault."""

    STORED = "stored"
    DUPLICATE = "the same picture of the same patient is in the vault"
    OTHER_CLASS = "the same picture is in the vault with another class"
    OTHER_PATIENT = "the same picture is in the vault under another patient"
    OTHER_PICTURE = "the same SOP instance is in the vault with another picture"


class Pseudonym(str):
    """Stands where a patient's identifier would, for a patient whose identifier is not known any more."""

    __slots__ = ()


class VaultWriter:
    """The only writer of a vault; got from ``Vault.writing``.

    Args:
        db: the index.
        lock: guards the index against other threads of this process.
        keys: keys of the vault.
        blobs: where sealed images lie.
        held_out_fraction: recorded with the first image.
        label_of: class of a stored image, by blob and pseudonym.
        rules: written beside the images that are stored, or None.
    """

    def __init__(
        self,
        *,
        db: sqlite3.Connection,
        lock: threading.RLock,
        keys: VaultKeys,
        blobs: BlobFolder,
        held_out_fraction: float,
        label_of: Callable[[str, str], str],
        rules: Rules | None = None,
    ) -> None:
        self._db = db
        self._lock = lock
        self._keys = keys
        self._blobs = blobs
        self._held_out_fraction = held_out_fraction
        self._label_of = label_of
        self._rules = rules
        self._pending: list[str] = []

    def add(self, patient: str, image: StoredImage, instance: bytes | None = None) -> Added:
        """Store one image; durable after the next ``flush``, which comes by itself every few images.

        Args:
            patient: the hospital's own string for the patient; only its keyed pseudonym is kept.
            image: the de-identified image.
            instance: what names the source object (digest of a SOP instance UID), or None; kept as a fingerprint.

        Returns:
            Whether it is stored, or why not.

        Raises:
            InputError: the disk is full or not writable; nothing of this batch is kept.
        """
        return self.add_file(patient, {1: image}, instance)[0]

    def add_file(
        self,
        patient: str,
        images: Mapping[int, StoredImage],
        instance: bytes | None = None,
        *,
        named: bool = False,
    ) -> tuple[Added, int]:
        """Store the pictures of one file, all in one batch or none; durable like ``add``.

        Of a source object that is in the vault already no further frames are taken, unless a frame was named: another
        rule of choosing frames does not add to what an earlier one chose.

        Args:
            patient: as in ``add``.
            images: by the number of the frame, from 1 (of a dual view's pictures 2 and 3); all of one class.
            instance: as in ``add``.
            named: the frame was asked for by its number.

        Returns:
            What became of the file, and how many pictures are new. Pictures that the vault has are not stored twice.

        Raises:
            InputError: the disk is full or not writable; nothing of this batch is kept.
        """
        pseudonym = self.pseudonym(patient)
        source = None if instance is None else self._keys.fingerprint("instance", instance)
        pictures = {
            self._keys.fingerprint("picture", pixel_content(image.pixels)): (frame, image)
            for frame, image in images.items()
        }
        with self._lock:
            known = {
                picture: self._known_picture(pseudonym, picture, image.label)
                for picture, (_, image) in pictures.items()
            }
            for conflict in (Added.OTHER_PATIENT, Added.OTHER_CLASS):
                if conflict in known.values():
                    return conflict, 0
            new = {picture: pictures[picture] for picture, state in known.items() if state is None}
            label = next(iter(images.values())).label
            found = self._known_instance(pseudonym, source, [frame for frame, _ in new.values()], label)
            if found is not None and not (named and found is Added.DUPLICATE):
                return found, 0
            with self._writable():
                for picture, (frame, image) in new.items():
                    self._insert(pseudonym, image, picture, source, frame)
            if len(self._pending) >= BATCH:
                self.flush()
        return (Added.STORED if new else Added.DUPLICATE), len(new)

    def pseudonym(self, patient: str) -> str:
        """Of a patient as the table writes it; who stands in the vault under a former one keeps it, and its side."""
        if isinstance(patient, Pseudonym):
            return str(patient)
        former = self._keys.former_pseudonym(patient)
        with self._lock:
            stands = self._db.execute("SELECT 1 FROM image WHERE pseudonym = ?", (former,)).fetchone()
        return former if stands else self._keys.pseudonym(patient)

    def blobs_of(self, images: Iterable[StoredImage], instance: bytes | None = None) -> list[str]:
        """Blobs that keep these pictures, or else one of their source object, whoever's they are; empty if none do."""
        pictures = [self._keys.fingerprint("picture", pixel_content(image.pixels)) for image in images]
        by_picture = "SELECT blob FROM image WHERE picture = ?"
        by_instance = "SELECT blob FROM image WHERE instance = ? ORDER BY number"
        with self._lock:
            rows = [self._db.execute(by_picture, (picture,)).fetchone() for picture in pictures]
            if instance is not None and not any(rows):
                source = self._keys.fingerprint("instance", instance)
                rows = [self._db.execute(by_instance, (source,)).fetchone()]
        return [str(row[0]) for row in rows if row is not None]

    def waits(self, image: StoredImage) -> bool:
        """Whether the vault keeps this picture without a class."""
        with self._lock:
            kept = self._kept(image)
            return kept is not None and not self._label_of(*kept)

    def classify(self, image: StoredImage) -> bool:
        """Give a picture that waits without a class the class, device, mask and box of ``image``; durable at once.

        Returns:
            False where it has a class already, or is not in the vault: nothing is changed.
        """
        with self._lock:
            self.flush()
            kept = self._kept(image)
            if kept is None or self._label_of(*kept):
                return False
            old, pseudonym = kept
            with self._writable():
                blob = self._blobs.new_name()
                self._pending.append(blob)
                self._blobs.write(blob, self._keys.seal(to_bytes(image), place_of(blob, pseudonym)))
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute("UPDATE image SET blob = ? WHERE blob = ?", (blob, old))
                self._db.execute("UPDATE twin SET first = ? WHERE first = ?", (blob, old))
                self._db.execute("UPDATE twin SET second = ? WHERE second = ?", (blob, old))
            self.flush()
            self._blobs.remove([old])
        return True

    def _kept(self, image: StoredImage) -> tuple[str, str] | None:
        """Blob and pseudonym of a picture."""
        picture = self._keys.fingerprint("picture", pixel_content(image.pixels))
        row = self._db.execute("SELECT blob, pseudonym FROM image WHERE picture = ?", (picture,)).fetchone()
        return None if row is None else (str(row[0]), str(row[1]))

    def forget(self, pseudonym: str) -> int:
        """Remove all images of one patient, what was set aside of them, and the patient from every study, at once.

        Returns:
            How many images there were. What training has learnt stays, and the ledger has paid for it.
        """
        with self._lock:
            self.flush()
            blobs = [row[0] for row in self._db.execute("SELECT blob FROM image WHERE pseudonym = ?", (pseudonym,))]
            set_aside = self._db.execute(
                "SELECT blob FROM quarantine WHERE blob IS NOT NULL AND pseudonym = ?", (pseudonym,)
            ).fetchall()
            with self._writable():
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute("DELETE FROM image WHERE pseudonym = ?", (pseudonym,))
                self._db.execute("DELETE FROM quarantine WHERE pseudonym = ?", (pseudonym,))
                self._db.execute(
                    "DELETE FROM twin WHERE first NOT IN (SELECT blob FROM image) "
                    "OR second NOT IN (SELECT blob FROM image)"
                )
                self._leave_studies(pseudonym)
                self._db.execute("COMMIT")
            self._blobs.remove([*blobs, *(row[0] for row in set_aside)])
        return len(blobs)

    def passed(self, blobs: Iterable[str]) -> None:
        """Record that these images were held against the writer's rules, in one transaction; not where that is known.

        Where the rules name no policy, what is known of the policy stays.
        """
        if self._rules is None:
            return
        number, policy = _columns(self._rules)
        with self._lock:
            self.flush()
            with self._writable():
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(
                    "UPDATE image SET rules = ?1, policy = coalesce(?2, policy) WHERE blob = ?3 "
                    "AND (rules IS NOT ?1 OR policy IS NOT coalesce(?2, policy))",
                    [(number, policy or None, blob) for blob in blobs],
                )
                self._db.execute("COMMIT")

    def record_twins(self, twins: Iterable[tuple[str, str, float]], *, last: str | None) -> None:
        """Record what a comparison of all images up to blob ``last`` has found, in one transaction.

        Args:
            twins: blob of the patient who came first, blob of the other, score.
            last: newest image that was compared; None where the comparison had to stop early.
        """
        with self._lock:
            self.flush()
            with self._writable():
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT OR IGNORE INTO twin (first, second, score) VALUES (?, ?, ?)", twins)
                self._db.execute(
                    "INSERT OR REPLACE INTO constant SELECT 'twins_compared', number FROM image WHERE blob = ?", (last,)
                )
                self._db.execute("COMMIT")

    def two_people(self, number: int) -> None:
        """Record a person's decision that a pair shows two people; it holds nobody back any more.

        Raises:
            InputError: there is no such pair.
        """
        with self._lock:
            self.flush()
            with self._writable():
                changed = self._db.execute("UPDATE twin SET two_people = 1 WHERE number = ?", (number,)).rowcount
        if changed != 1:
            raise InputError(f"there is no pair {number}", remedy="see 'sonoshare hospital twins'")

    def flush(self) -> None:
        """Make everything added so far durable.

        Raises:
            InputError: the disk is full or not writable; nothing of this batch is kept.
        """
        with self._lock, self._writable():
            if self._pending:
                self._blobs.make_durable(self._pending)
                self._db.execute("COMMIT")
                self._pending = []

    def abandon(self) -> None:
        """Drop what is not durable."""
        with self._lock:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._blobs.remove(self._pending)
            self._pending = []

    def _leave_studies(self, pseudonym: str) -> None:
        for study, sealed in self._db.execute("SELECT study, sealed FROM enrolment").fetchall():
            chosen = opened_enrolment(self._keys, study, sealed)
            if pseudonym in chosen:
                left = sealed_enrolment(self._keys, study, chosen - {pseudonym})
                self._db.execute("UPDATE enrolment SET sealed = ? WHERE study = ?", (left, study))

    @contextmanager
    def _writable(self) -> Iterator[None]:
        """Turn a failing disk into one clear error, with nothing of the batch left."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            self.abandon()
            raise InputError("the vault cannot be written", remedy="free some disk space and run again") from error

    def _known_picture(self, pseudonym: str, picture: str, label: str) -> Added | None:
        row = self._db.execute("SELECT pseudonym, blob FROM image WHERE picture = ?", (picture,)).fetchone()
        if row is not None:
            if row[0] != pseudonym:
                return Added.OTHER_PATIENT
            return Added.DUPLICATE if self._label_of(row[1], pseudonym) == label else Added.OTHER_CLASS
        return None

    def _known_instance(self, pseudonym: str, source: str | None, new: Sequence[int], label: str) -> Added | None:
        """What is known of a source object of which these frames are not in the vault; None where nothing is."""
        rows = self._db.execute("SELECT frame, pseudonym, blob FROM image WHERE instance = ?", (source,)).fetchall()
        if not rows:
            return None
        if any(frame in new for frame, _, _ in rows):
            return Added.OTHER_PICTURE
        if any(owner != pseudonym for _, owner, _ in rows):
            return Added.OTHER_PATIENT
        return Added.DUPLICATE if self._label_of(rows[0][2], pseudonym) == label else Added.OTHER_CLASS

    def _insert(self, pseudonym: str, image: StoredImage, picture: str, source: str | None, frame: int) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT OR IGNORE INTO constant VALUES ('held_out_fraction', ?)", (repr(self._held_out_fraction),)
            )
        # The name is part of what is sealed, so it is drawn first.
        blob = self._blobs.new_name()
        self._pending.append(blob)
        self._blobs.write(blob, self._keys.seal(to_bytes(image), place_of(blob, pseudonym)))
        self._db.execute(
            "INSERT INTO image (blob, pseudonym, picture, instance, frame, rules, policy) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (blob, pseudonym, picture, source, frame, *_columns(self._rules)),
        )


def _columns(rules: Rules | None) -> tuple[int | None, str | None]:
    return (None, None) if rules is None else (rules.number, rules.policy)
