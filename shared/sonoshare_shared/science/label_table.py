"""Rows that say who is in which picture, whatever file they were read from; frozen, and no file is opened here."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box, enclosing


@dataclass(frozen=True)
class LabelRow:
    """One picture.

    Attributes:
        image: path of the picture (PNG, JPEG or DICOM).
        patient: the source's own identifier of the patient; never leaves the hospital.
        label: class name, e.g. ``benign``.
        device: scanner, "" where unknown.
        masks: paths of the lesion masks, one for each lesion or one of all.
        boxes: lesion boxes x, y, width, height in pixels of the picture.
        hospital: hospital the row is assigned to, or None.
        fold: official fold of the source (BUS-BRA: 1 to 5), or None.
        line: of the CSV that it stands in, or None.
        written: the patient as the CSV has it, where that is not its one form; else empty.
        frame: of a clip, from 1; None where it is not told.
        region: where the ultrasound picture is, x, y, w, h in pixels; counts where the file does not say it.
    """

    image: Path
    patient: str
    label: str
    device: str = ""
    masks: tuple[Path, ...] = ()
    boxes: tuple[Box, ...] = ()
    hospital: str | None = None
    fold: int | None = None
    line: int | None = None
    written: str = ""
    frame: int | None = None
    region: Box | None = None

    @property
    def box(self) -> Box | None:
        """Around all of its boxes; None where there is none."""
        return enclosing(self.boxes)


@dataclass(frozen=True)
class Absent:
    """A row that was left out because a file that it names is missing.

    Attributes:
        name: of the file, as the row has it.
        line: of the CSV.
    """

    name: str
    line: int


@dataclass(frozen=True)
class LabelTable:
    """Rows in the order of the file.

    Attributes:
        folder: folder that the rows' paths lie in.
        rows: one row a picture, at least one.
        synthetic: the pictures are a release's.
        absent: rows that were left out because a file of theirs is missing.
    """

    folder: Path
    rows: tuple[LabelRow, ...]
    synthetic: bool = False
    absent: tuple[Absent, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[LabelRow]:
        return iter(self.rows)

    @property
    def patients(self) -> tuple[str, ...]:
        """Distinct patients in order of appearance."""
        return tuple(dict.fromkeys(row.patient for row in self.rows))

    @property
    def labels(self) -> tuple[str, ...]:
        """Distinct labels, sorted."""
        return tuple(sorted({row.label for row in self.rows}))

    @property
    def devices(self) -> tuple[str, ...]:
        """Distinct devices, sorted; "" where unknown."""
        return tuple(sorted({row.device for row in self.rows}))

    @property
    def hospitals(self) -> tuple[str, ...]:
        """Distinct hospitals, sorted; empty where the file assigns none."""
        return tuple(sorted({row.hospital for row in self.rows if row.hospital is not None}))

    def where(self, keep: Callable[[LabelRow], bool]) -> "LabelTable":
        """The rows for which ``keep`` is true; may be empty."""
        return replace(self, rows=tuple(row for row in self.rows if keep(row)))

    def require_classes(self, classes: Sequence[str]) -> "LabelTable":
        """Check that every label is one of the task's classes.

        Raises:
            InputError: naming the labels that are not.
        """
        unknown = sorted({row.label for row in self.rows} - set(classes))
        if unknown:
            raise InputError(
                f"unknown class {', '.join(unknown[:5])} in column label",
                remedy=f"the classes are {', '.join(classes)}: correct the label or remove the row",
            )
        return self
