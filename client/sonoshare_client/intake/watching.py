"""Parent: a folder that is looked at again and again; what is new in it, and lies still, is taken in.

    watched = Watched(folder)
    while True:
        table = watched.due()            # rows whose files did not change between two looks
        if table is not None:
            ingest_table(home, table)
            watched.taken(table)

Where no row names a file, because labels are joined by what headers say or are still to come, the folder is taken in
whole once all of it lies still and something is new (``WatchedWhole``).

Promise: a file that is still being written is left alone until two looks see the same length and time; a row whose
file or label changed comes again; a row that is as it was does not. Nothing is remembered over a restart: what is in
the vault already counts as a duplicate then.
"""

import stat
from dataclasses import dataclass
from pathlib import Path

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.keyed_labels import is_keyed
from sonoshare_shared.science.label_table import LabelRow, LabelTable
from sonoshare_shared.science.labels import LABELS_FILE, has_labels, read_labels


@dataclass(frozen=True)
class _Seen:
    """A row, and the length and time of each of its files."""

    row: LabelRow
    files: tuple[tuple[int, int], ...]


class Watched:
    """A folder under watch.

    Args:
        source: the folder.
        labels_csv: its table; the one in the folder if absent.
    """

    def __init__(self, source: Path, labels_csv: Path | None = None) -> None:
        self._labels = labels_csv or source
        self._last: dict[Path, _Seen] = {}
        self._taken: dict[Path, _Seen] = {}
        self.trouble = ""
        """Why nothing can be taken in as things stand; empty where nothing is wrong."""

    def due(self) -> LabelTable | None:
        """Look; rows to take in now, or None."""
        try:
            table = read_labels(self._labels, leave_out_absent=True)
        except InputError as error:  # being written, perhaps; looked at again
            self.trouble = str(error)
            return None
        self.trouble = ""
        now = {row.image: seen for row in table if (seen := _seen(row)) is not None}
        still = {image for image, seen in now.items() if seen == self._last.get(image) != self._taken.get(image)}
        self._last = now
        return table.where(lambda row: row.image in still) if still else None

    def taken(self, table: LabelTable) -> None:
        """These rows have been dealt with, as they were at the last look."""
        for row in table:
            self._taken[row.image] = self._last[row.image]


class WatchedWhole:
    """A folder under watch whose files no row names; so is the node's inbox.

    Args:
        source: the folder.
        labels_csv: its table; the one in the folder if absent.
    """

    def __init__(self, source: Path, labels_csv: Path | None = None) -> None:
        self._source, self._labels = source, labels_csv
        self._last: dict[Path, tuple[int, int]] = {}
        self._taken: dict[Path, tuple[int, int]] = {}

    def due(self) -> bool:
        """Look; whether to take it in now."""
        paths = [*self._source.rglob("*"), *([] if self._labels is None else [self._labels])]
        before, self._last = self._last, {path: state for path in paths if (state := _state(path)) is not None}
        return self._last == before and bool(self._last.items() - self._taken.items())

    def taken(self) -> None:
        """It has been dealt with, as it was at the last look."""
        self._taken = self._last


def names_files(source: Path, labels_csv: Path | None) -> bool:
    """Whether there is a table whose rows name files."""
    given = labels_csv or source / LABELS_FILE
    if given.is_file() and is_keyed(given):
        return False
    return labels_csv is not None or has_labels(source)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return (state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else None


def _seen(row: LabelRow) -> _Seen | None:
    try:
        states = [path.stat() for path in (row.image, *row.masks)]
    except FileNotFoundError:
        return None
    return _Seen(row, tuple((state.st_size, state.st_mtime_ns) for state in states))
