"""What intake has set aside, kept over runs: where it lies, why, and what a person has decided about it.

- A record is sealed with the vault key and bound to its number. The index shows a pseudonym, a blob's name and whether
  the record waits; no path, no reason, no class.
- A file is named by its folder and path and, where a person may decide about it, by its sha256; its bytes stay where
  they are. The hospital's own identifier of the patient is not kept: a pseudonym stands for it.
- A picture that newer rules refuse moves from the images to here with its blob, so that it takes part in nothing, and
  moves back if a person says so. Either way the vault's generation is raised.
- A decision stays as long as its patient does: the same file is not set aside for the same reason again.

Everything that changes is called by the vault's only writer (``Vault.writing``). Nothing of it leaves the hospital.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from sonoshare_client.node.sealed import VaultKeys
from sonoshare_client.vault.blobs import BlobFolder
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.science.box import Box

NOBODY: Final = ""
"""In the place of a pseudonym: the row names no patient."""


@dataclass(frozen=True)
class Image:
    """A picture that was in the vault.

    Attributes:
        blob: name of its blob.
        picture: its keyed fingerprint.
        instance: that of its source object, or None.
        frame: number of the frame.
    """

    blob: str
    picture: str
    instance: str | None
    frame: int


@dataclass(frozen=True)
class Item:
    """A file, or a picture that was in the vault, that was set aside.

    Attributes:
        number: names it; 0 until it is kept.
        pseudonym: of its patient, or `NOBODY`.
        reason: name of a ``Reason`` or ``SetAside``.
        file: path below the folder; empty of a picture that was in the vault.
        folder: the folder, absolute; of an archive the folder within it.
        archive: the ZIP archive, absolute, or empty.
        sha256: of the file's bytes; empty where nobody can decide about it.
        masks: paths of its masks below the folder.
        label: class of its row.
        device: device of its row.
        boxes: lesion boxes of its row, in pixels.
        region: of its row, in pixels.
        frame: of its row.
        line: of the table.
        since: the day (UTC) on which it was first set aside for this reason.
        waiting: nobody has decided, or another reason has come up since.
        accepted: names of the reasons that a person has decided not to hold against it.
        note: why, in the person's words.
        given_box: lesion box that the person gave.
        given_region: region that the person gave.
        pictures: fingerprints of the pictures that the decision let in.
        image: the picture, where it was in the vault.
    """

    number: int
    pseudonym: str
    reason: str
    since: str
    file: str = ""
    folder: str = ""
    archive: str = ""
    sha256: str = ""
    masks: tuple[str, ...] = ()
    label: str = ""
    device: str = ""
    boxes: tuple[Box, ...] = ()
    region: Box | None = None
    frame: int | None = None
    line: int | None = None
    waiting: bool = True
    accepted: tuple[str, ...] = ()
    note: str = ""
    given_box: Box | None = None
    given_region: Box | None = None
    pictures: tuple[str, ...] = ()
    image: Image | None = None

    @property
    def content(self) -> tuple[object, ...]:
        """What makes two records the same thing, wherever it lies: bytes, row and patient."""
        return (self.sha256, self.frame, self.boxes, self.region, self.pseudonym)

    @property
    def place(self) -> tuple[object, ...]:
        """Where it lies, whatever lies there."""
        return (self.archive, self.folder, self.file, self.frame, self.boxes)


class Quarantine:
    """The records of one vault; got from ``Vault.quarantine``.

    Args:
        db: the vault's index.
        lock: guards it against other threads of this process.
        keys: keys of the vault.
        blobs: where sealed images lie.
    """

    def __init__(self, db: sqlite3.Connection, lock: threading.RLock, keys: VaultKeys, blobs: BlobFolder) -> None:
        self._db, self._lock, self._keys, self._blobs = db, lock, keys, blobs

    def items(self) -> tuple[Item, ...]:
        """All records, decided ones too, in the order of their numbers.

        Raises:
            IntegrityError: a record was changed.
        """
        with self._lock:
            rows = self._db.execute("SELECT number, sealed FROM quarantine ORDER BY number").fetchall()
        return tuple(self._opened(number, sealed) for number, sealed in rows)

    def item(self, number: int) -> Item:
        """One record.

        Raises:
            InputError: there is none of this number.
        """
        with self._lock:
            row = self._db.execute("SELECT sealed FROM quarantine WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise InputError(
                f"nothing of number {number} is set aside", remedy="see 'sonoshare hospital quarantine list'"
            )
        return self._opened(number, row[0])

    def of_patient(self, pseudonym: str) -> tuple[Item, ...]:
        """Records of one patient."""
        return tuple(item for item in self.items() if item.pseudonym == pseudonym)

    def pictures_of(self, blobs: Iterable[str]) -> tuple[str, ...]:
        """Fingerprints of images of the vault."""
        with self._lock:
            found = [self._db.execute("SELECT picture FROM image WHERE blob = ?", (blob,)).fetchone() for blob in blobs]
        return tuple(row[0] for row in found if row is not None)

    def superseded(self, blobs: Iterable[str]) -> tuple[int, ...]:
        """Numbers of pictures that were set aside and are among these images again, read anew from their files."""
        aside = [(item.number, item.image) for item in self.items() if item.image is not None]
        if not aside:
            return ()
        again: set[tuple[object, ...]] = set()
        with self._lock:
            for blob in blobs:
                row = self._db.execute("SELECT picture, instance, frame FROM image WHERE blob = ?", (blob,)).fetchone()
                again |= {(row[0],), (row[1], row[2])} if row is not None else set()
        again = {known for known in again if known[0] is not None}
        return tuple(number for number, image in aside if {(image.picture,), (image.instance, image.frame)} & again)

    def keep(self, items: Iterable[Item], *, without: Iterable[int] = ()) -> None:
        """Keep new records (number 0) and changed ones, and remove those of some numbers, in one transaction.

        Raises:
            InputError: the disk is full.
        """
        with self._changing():
            self._db.executemany("DELETE FROM quarantine WHERE number = ?", [(number,) for number in without])
            for item in items:
                self._put(item)

    def drop(self, numbers: Iterable[int]) -> None:
        """Remove records, and the blobs of pictures that were in the vault.

        Raises:
            InputError: the disk is full.
        """
        wanted = [self.item(number) for number in numbers]
        with self._changing():
            self._db.executemany("DELETE FROM quarantine WHERE number = ?", [(item.number,) for item in wanted])
        self._blobs.remove([item.image.blob for item in wanted if item.image is not None])

    def move_here(self, blob: str, reason: str, day: str, accepted: Iterable[str] = ()) -> None:
        """Take an image out of the vault's images and keep it here.

        Args:
            blob: of the image.
            reason: why.
            day: today.
            accepted: what a person has decided about it before.

        Raises:
            InputError: the disk is full.
        """
        with self._changing():
            pseudonym, *fields = self._db.execute(
                "SELECT pseudonym, picture, instance, frame FROM image WHERE blob = ?", (blob,)
            ).fetchone()
            self._put(Item(0, pseudonym, reason, day, accepted=tuple(accepted), image=Image(blob, *fields)))
            self._db.execute("DELETE FROM image WHERE blob = ?", (blob,))
            self._db.execute("DELETE FROM twin WHERE first = ? OR second = ?", (blob, blob))

    def move_back(self, item: Item) -> bool:
        """Put a picture among the images again, as a new one that was not compared yet.

        Returns:
            False where the vault has this picture by now; then the one here is removed.

        Raises:
            InputError: the disk is full.
        """
        image = item.image
        if image is None:
            return False
        with self._changing():
            known = self._db.execute(
                "SELECT 1 FROM image WHERE picture = ? OR (instance = ? AND frame = ?)",
                (image.picture, image.instance, image.frame),
            ).fetchone()
            if known is None:
                self._db.execute(
                    "INSERT INTO image (blob, pseudonym, picture, instance, frame) VALUES (?, ?, ?, ?, ?)",
                    (image.blob, item.pseudonym, image.picture, image.instance, image.frame),
                )
            pictures = tuple(sorted({*item.pictures, image.picture}))
            self._put(replace(item, waiting=False, pictures=pictures, image=None))
        if known is not None:
            self._blobs.remove([image.blob])
        return known is None

    def _put(self, item: Item) -> None:
        blob = None if item.image is None else item.image.blob
        shown = (item.pseudonym, item.waiting, blob)
        number = item.number
        if not number:
            self._db.execute("INSERT INTO quarantine (pseudonym, waiting, blob, sealed) VALUES (?, ?, ?, x'')", shown)
            (number,) = self._db.execute("SELECT last_insert_rowid()").fetchone()
        sealed = self._keys.seal(to_json(replace(item, number=number)), _place(number, item.pseudonym))
        self._db.execute(
            "UPDATE quarantine SET pseudonym = ?, waiting = ?, blob = ?, sealed = ? WHERE number = ?",
            (*shown, sealed, number),
        )

    def _opened(self, number: int, sealed: bytes) -> Item:
        with self._lock:
            (pseudonym,) = self._db.execute("SELECT pseudonym FROM quarantine WHERE number = ?", (number,)).fetchone()
        try:
            return TypeAdapter(Item).validate_json(self._keys.open(sealed, _place(number, pseudonym)))
        except ValidationError as error:
            raise IntegrityError("a record of the quarantine is damaged", remedy="restore the vault") from error

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                with self._db:
                    yield
            except sqlite3.OperationalError as error:
                raise InputError("the vault cannot be written", remedy="free some disk space and run again") from error


def _place(number: int, pseudonym: str) -> str:
    return f"sonoshare/vault/v1/quarantine:{number}:{pseudonym}"
