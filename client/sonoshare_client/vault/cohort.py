"""Opened patients in memory: one byte a pixel, one block for all of them, and single patients made from it on demand.

Why eight bits: the vault keeps 8-bit pictures and releases are 8-bit pictures; in between, the grid averages over
areas, and the third decimal that this leaves is rounded away here, once, for training, votes and audits alike
(docs/decisions/0087-patients-in-memory.md). An image of S = 64 px takes 4.6 kB, of 256 px 74 kB; as float32 with a
byte a pixel for its mask it took four and a half times as much.

The block is memory without a name (Linux memfd): never on a disk as a file, nor in a core dump, gone with the last
process that has it mapped. Its descriptor can be handed to another process of the hospital, which maps the same pages
and cannot change them for others: the block is sealed as soon as its maker has it mapped. Pseudonyms are not in it.

The patients of one block are all trained or all held out: what is handed to a training holds nobody else.
"""

import fcntl
import mmap
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Final, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.levels import eight_bits, fractions

_GREY: Final = torch.from_numpy(fractions(np.arange(256, dtype=np.uint8)))
"""Of each of 256 levels. A GPU divides by a number less exactly than a processor: off by a last bit for 126 of them."""
_NAME: Final = "sonoshare-cohort"
_FUTURE_WRITE: Final = 0x10  # F_SEAL_FUTURE_WRITE of Linux 5.1, which Python does not name
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _FUTURE_WRITE
_ALIGNED: Final = 64
"""Bytes: every section of a block starts at a multiple."""


@dataclass(frozen=True, eq=False)
class PatientArrays:
    """All images of one patient on the grid.

    Attributes:
        pseudonym: keyed pseudonym.
        held_out: never trained on.
        images: float32 [n, S, S] in 0..1.
        masks: bool [n, S, S]; all False where ``has_mask`` is False.
        has_mask: bool [n].
        boxes: float32 [n, 4], x, y, w, h in fractions; NaN where unknown, zero where there is no lesion.
        labels: int64 [n], class index of the task.
        scanners: int64 [n], scanner index of the task, -1 where the device is unknown to it.
    """

    pseudonym: str
    held_out: bool
    images: NDArray[np.float32]
    masks: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scanners: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)


@dataclass(frozen=True)
class Extent:
    """What a process must know to read a block.

    Attributes:
        size: side S of the grid in pixels.
        held_out: whether its patients are held out.
        most_patients: for how many it was made.
        most_rows: for how many images it was made.
        patients: how many are in it.
        rows: how many images.
    """

    size: int
    held_out: bool
    most_patients: int
    most_rows: int
    patients: int = 0
    rows: int = 0

    def sections(self) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
        """Shape and type of each array of the block, in order."""
        rows, pixels = self.most_rows, self.size * self.size
        return {
            "starts": ((self.most_patients + 1,), np.int64),
            "labels": ((rows,), np.int64),
            "scanners": ((rows,), np.int64),
            "boxes": ((rows, 4), np.float32),
            "images": ((rows, self.size, self.size), np.uint8),
            "masks": ((rows, -(-pixels // 8)), np.uint8),
            "has_mask": ((rows,), np.bool_),
        }


@dataclass(frozen=True, eq=False)
class Cohort(Sequence[PatientArrays]):
    """Patients who are all trained or all held out, in the order of their pseudonyms.

    As a sequence it gives one patient at a time, made for the asker and not kept. Whoever needs single images gathers
    rows: patient i has the rows ``starts[i]`` to ``starts[i + 1]``.

    Attributes:
        extent: size and numbers.
        starts: int64 [patients + 1].
        images: uint8 [n, S, S]; see ``grey``.
        masks: uint8 [n, S * S / 8, rounded up], one bit a pixel, row by row, the first pixel in the highest bit; all
            zero where ``has_mask`` is False. See ``lesions``.
        has_mask: bool [n].
        boxes: float32 [n, 4], as in `PatientArrays`.
        labels: int64 [n], likewise.
        scanners: int64 [n], likewise.
        pseudonyms: of the patients; empty in a process that they were not told to.
        descriptor: of the block; None where the arrays are elsewhere.
    """

    extent: Extent
    starts: Tensor
    images: Tensor
    masks: Tensor
    has_mask: Tensor
    boxes: Tensor
    labels: Tensor
    scanners: Tensor
    pseudonyms: tuple[str, ...] = ()
    descriptor: int | None = None

    @classmethod
    def of(cls, patients: Sequence[PatientArrays]) -> "Cohort":
        """Take over patients of one size and one side of the split, at least one.

        Raises:
            InputError: there are none, or they differ in size or side.
        """
        if not patients:
            raise InputError("a cohort of nobody has no size", remedy="give a patient")
        extent = Extent(
            size=patients[0].images.shape[-1],
            held_out=patients[0].held_out,
            most_patients=len(patients),
            most_rows=sum(map(len, patients)),
        )
        filling = Filling(extent)
        for patient in patients:
            filling.add(patient)
        return filling.cohort()

    @classmethod
    def attached(cls, descriptor: int, extent: Extent) -> "Cohort":
        """Map a block of another process; what is written here does not reach it.

        Args:
            descriptor: of the block, got from that process; closed with the cohort.
            extent: as that process says.

        Raises:
            InputError: the block is smaller than it must be.
        """
        if os.fstat(descriptor).st_size < _bytes_of(extent):
            raise InputError("the block of patients is smaller than it says")
        block = mmap.mmap(descriptor, _bytes_of(extent), flags=mmap.MAP_PRIVATE)
        return _over(block, descriptor, extent)

    def __len__(self) -> int:
        """Number of patients."""
        return self.extent.patients

    @overload
    def __getitem__(self, place: int) -> PatientArrays: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[PatientArrays, ...]: ...

    def __getitem__(self, place: int | slice) -> PatientArrays | tuple[PatientArrays, ...]:
        """One patient, or some."""
        if isinstance(place, slice):
            return tuple(self[one] for one in range(*place.indices(len(self))))
        if not -len(self) <= place < len(self):
            raise IndexError("there is no such patient")
        first = place % len(self)
        rows = torch.arange(int(self.starts[first]), int(self.starts[first + 1]), device=self.starts.device)
        return PatientArrays(
            pseudonym=self.pseudonyms[first] if self.pseudonyms else "",
            held_out=self.extent.held_out,
            images=self.grey(rows).cpu().numpy(),
            masks=self.lesions(rows).cpu().numpy(),
            has_mask=self.has_mask[rows].cpu().numpy(),
            boxes=self.boxes[rows].cpu().numpy(),
            labels=self.labels[rows].cpu().numpy(),
            scanners=self.scanners[rows].cpu().numpy(),
        )

    @property
    def bytes_taken(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, name).nbytes for name in self.extent.sections())

    def grey(self, rows: Tensor) -> Tensor:
        """Grey levels of images, float32 [k, S, S] in 0..1, on the cohort's device; looked up, the same bits on any.

        Args:
            rows: int64 [k].
        """
        levels = self.images[rows]
        return _GREY.to(levels.device).index_select(0, levels.flatten().int()).view(levels.shape)

    def lesions(self, rows: Tensor) -> Tensor:
        """Lesion masks of images, bool [k, S, S], on the cohort's device.

        Args:
            rows: int64 [k].
        """
        bits = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.masks.device)
        pixels = (self.masks[rows][:, :, None] >> bits) & 1
        size = self.extent.size
        return pixels.flatten(1)[:, : size * size].reshape(-1, size, size).bool()

    def on(self, device: torch.device) -> "Cohort":
        """The same patients on a device; itself where it is there already."""
        names = self.extent.sections()
        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in names}
        if all(moved[name] is getattr(self, name) for name in names):
            return self
        return replace(self, descriptor=None, **moved)


@dataclass(eq=False)
class Filling:
    """A block that patients are put into, one after the other, in the order of their pseudonyms.

    Pages that nobody is put into take no memory, so that it may be made for more patients than will come.

    Attributes:
        extent: for how many it is made.
    """

    extent: Extent
    _cohort: Cohort = field(init=False)
    _pseudonyms: list[str] = field(default_factory=list, init=False)
    _rows: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, _bytes_of(self.extent))
        block = mmap.mmap(descriptor, _bytes_of(self.extent))
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)  # this mapping alone can still write
        whole = replace(self.extent, patients=self.extent.most_patients, rows=self.extent.most_rows)
        self._cohort = _over(block, descriptor, whole)

    def add(self, patient: PatientArrays) -> None:
        """Put a patient in, rounded to eight bits; all of them or, after an error, nothing.

        Raises:
            InputError: of another size or side of the split, without a picture, or one too many.
        """
        first, last, number = self._rows, self._rows + len(patient), len(self._pseudonyms)
        size, held_out = self.extent.size, self.extent.held_out
        if patient.images.shape[1:] != (size, size) or patient.held_out != held_out:
            raise InputError("patients of a cohort have one size and one side of the split")
        if last == first:
            raise InputError("a patient without a picture takes no part")
        if last > self.extent.most_rows or number >= self.extent.most_patients:
            raise InputError("more patients than the block was made for")
        block = self._cohort
        masks = np.packbits(patient.masks.reshape(len(patient), -1), axis=1)
        for into, values in (
            (block.images, eight_bits(patient.images)),
            (block.masks, masks),
            (block.has_mask, patient.has_mask),
            (block.boxes, patient.boxes),
            (block.labels, patient.labels),
            (block.scanners, patient.scanners),
        ):
            into[first:last] = torch.from_numpy(np.ascontiguousarray(values))
        block.starts[number + 1] = last
        self._pseudonyms.append(patient.pseudonym)
        self._rows = last

    def cohort(self) -> Cohort:
        """Everybody who was put in; nobody else may be."""
        whole = self._cohort
        extent = replace(self.extent, patients=len(self._pseudonyms), rows=self._rows)
        cut = {name: getattr(whole, name)[: self._rows] for name in extent.sections() if name != "starts"}
        starts = whole.starts[: extent.patients + 1]
        return replace(whole, extent=extent, starts=starts, pseudonyms=tuple(self._pseudonyms), **cut)


def _bytes_of(extent: Extent) -> int:
    return sum(_aligned(prod(shape) * np.dtype(kind).itemsize) for shape, kind in extent.sections().values())


def _aligned(count: int) -> int:
    return -(-count // _ALIGNED) * _ALIGNED


def _over(block: mmap.mmap, descriptor: int, extent: Extent) -> Cohort:
    """A cohort over a mapped block; the descriptor is closed when nobody has any of its arrays any more."""
    weakref.finalize(block, os.close, descriptor)
    block.madvise(mmap.MADV_DONTDUMP)
    used = {"starts": extent.patients + 1}
    arrays: dict[str, Any] = {}
    offset = 0
    for name, (shape, kind) in extent.sections().items():
        array = np.ndarray(shape, kind, block, offset)[: used.get(name, extent.rows)]
        arrays[name] = torch.from_numpy(array)
        offset += _aligned(array.itemsize * prod(shape))
    return Cohort(extent=extent, descriptor=descriptor, **arrays)
