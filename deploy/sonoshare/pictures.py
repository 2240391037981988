"""The pictures of a release that was verified, as a data set: of torch by its shape, of Hugging Face on request.

Nothing but numpy and Pillow is needed to read a sample. Every file is held against its signed digest again when it is
read, so what was changed after the release was verified is not given out.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from sonoshare_shared.errors import InputError, VerificationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.plan import StudyPlan
from sonoshare_shared.protocol.documents.release import FileEntry
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.paths import read_regular
from sonoshare_shared.protocol.release.verify import Verified

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Sample(TypedDict):
    """One synthetic picture.

    Attributes:
        image: grey levels, uint8 [height, width].
        mask: 1 in the lesion, uint8 [height, width].
        label: index of its class in ``Pictures.classes``.
        box: x, y, width, height of the lesion in pixels, float32 [4]; NaN where there is none.
        index: number of the picture in the release.
    """

    image: "NDArray[np.uint8]"
    mask: "NDArray[np.uint8]"
    label: int
    box: "NDArray[np.float32]"
    index: int


@dataclass(frozen=True)
class _Row:
    image: str
    mask: str
    label: str
    columns: Mapping[str, str]


class Pictures(Sequence[Sample]):
    """The pictures of a release; ``len`` and ``[i]`` are what torch's DataLoader asks of a data set.

    Args:
        folder: of the release.
        verified: what verifying it found.
        split: of a release that names splits (``train``, ``validation``, ``test``), the one to give; None: all.

    Attributes:
        folder: where it lies.
        verified: manifest, hospitals, and how far revocations are known.
        classes: names of the classes in the plan's order, which the label's numbers count.
        rows: the rows of ``metadata.csv``, as text by column.

    Raises:
        InputError: the release names no such split.
        VerificationError: cause ``file-digest``: the table was changed after the release was verified.
    """

    def __init__(self, folder: Path, verified: Verified, split: str | None = None) -> None:
        self.folder, self.verified = folder, verified
        self._entries: dict[str, FileEntry] = {entry.path: entry for entry in verified.manifest.files}
        table = csv.DictReader(io.StringIO(self._signed(layout.METADATA).decode()))
        rows = [_Row(row["file_name"], row["mask_file_name"], row["label"], row) for row in table]
        self.classes = StudyPlan.from_bytes(self._signed(layout.PLAN)).task.classes
        self._rows = rows if split is None else [row for row in rows if row.columns.get("split") == split]
        if not self._rows:
            found = sorted({row.columns["split"] for row in rows if row.columns.get("split")})
            raise InputError(
                f"the release has no split {split!r}", remedy=f"it has: {', '.join(found) or 'none, leave split out'}"
            )

    @property
    def rows(self) -> list[Mapping[str, str]]:
        """What ``metadata.csv`` says of each picture."""
        return [row.columns for row in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Sample]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: Any) -> Any:
        """A sample by its place; of a slice, a list of them.

        Raises:
            VerificationError: cause ``file-digest``: a file was changed after the release was verified.
        """
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        row = self._rows[place]
        return Sample(
            image=self._levels(row.image),
            mask=self._lesion(row.mask),
            label=self.classes.index(row.label),
            box=_box(row.columns),
            index=int(row.columns["index"]),
        )

    def to_datasets(self) -> Any:
        """The same as a ``datasets.Dataset`` of Hugging Face: columns image, mask, label, and those of the table.

        Raises:
            ModuleNotFoundError: ``datasets`` is not installed.
        """
        import datasets  # noqa: PLC0415 - an installation of its own

        text = [name for name in self._rows[0].columns if name not in {"file_name", "mask_file_name", "label"}]
        kinds = {
            "image": datasets.Image(),
            "mask": datasets.Image(),
            "label": datasets.ClassLabel(names=list(self.classes)),
        }
        features = datasets.Features(kinds | {name: datasets.Value("string") for name in text})
        rows = [
            {
                "image": {"bytes": self._signed(row.image), "path": row.image},
                "mask": {"bytes": self._signed(row.mask), "path": row.mask},
                "label": row.label,
                **{name: row.columns[name] for name in text},
            }
            for row in self._rows
        ]
        return datasets.Dataset.from_list(rows, features=features)

    def _levels(self, path: str) -> "NDArray[np.uint8]":
        from sonoshare_shared.science.pictures.bounds import SYNTHETIC_BOUNDS  # noqa: PLC0415 - numpy, Pillow
        from sonoshare_shared.science.pictures.raster import read_raster  # noqa: PLC0415

        return read_raster(
            io.BytesIO(self._signed(path)), SYNTHETIC_BOUNDS
        ).grey.copy()  # torch warns of what cannot be written

    def _lesion(self, path: str) -> "NDArray[np.uint8]":
        from sonoshare_shared.science.pictures.bounds import SYNTHETIC_BOUNDS  # noqa: PLC0415
        from sonoshare_shared.science.pictures.raster import read_mask  # noqa: PLC0415

        return read_mask(io.BytesIO(self._signed(path)), SYNTHETIC_BOUNDS).copy()

    def _signed(self, path: str) -> bytes:
        """Bytes of a file, as they were signed."""
        entry = self._entries[path]
        data = read_regular(self.folder, path, entry.size)
        if sha256_hex(data) != entry.sha256:
            raise VerificationError("file-digest", f"{path} was changed after the release was verified")
        return data


def _box(columns: Mapping[str, str]) -> "NDArray[np.float32]":
    import numpy as np  # noqa: PLC0415 - the base install has none

    sides = [columns[side] for side in "xywh"]
    return np.array([float(side) if side else np.nan for side in sides], np.float32)
