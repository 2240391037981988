"""From a file, its mask and its box to what is kept of a picture.

Promises
- What is kept depends on the file, the mask and the box alone, and is the same whoever reads: a hospital's intake, an
  audit, an evaluation. Content decides the format, never the name; a name that says otherwise is refused.
- Of a DICOM object one B-mode region is kept: the only one, or the one that holds the lesion box (or the mask's
  bounds), or the one much larger than the others (``screen``). Of a PNG or JPEG of a whole screen
  the picture on it is kept, of any other everything. Box and mask move with the picture; of several masks the union is
  kept.
- What is kept can be a picture (``plausible``), and no colour lies over it.
- Of a clip a few frames are kept, each as a picture by itself (``clip`` says which); or the one that is asked for. A
  mask or box goes with the frame that it was drawn on, and is refused where that is not told.
- Of a DICOM still that shows two pictures of one size side by side `read_frames` keeps both where no mask, box or frame
  is given, numbered after the last frame: 2 and 3. So 1 stays the number of the one that a lesion's box picks.
- Whatever a file does to a decoder ends as a `Reason`, as far as an exception tells.

Not promised: that the process survives. Decoders are C code. Intake therefore reads in a child that may be killed;
whoever reads in a process of their own reads before anything depends on it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.box import Box
from sonoshare_shared.science.pictures.bounds import DEFAULT_BOUNDS, Bounds
from sonoshare_shared.science.pictures.clip import frames_to_try, nearly_identical
from sonoshare_shared.science.pictures.masks import joined
from sonoshare_shared.science.pictures.plausible import check_plausible
from sonoshare_shared.science.pictures.raster import read_mask, read_raster
from sonoshare_shared.science.pictures.reasons import Reason, Refused, as_reasons
from sonoshare_shared.science.pictures.region import Region, cut, dual_view, lesion_box, pick_region
from sonoshare_shared.science.pictures.screen import Screen, b_mode_regions, exported_picture, told_region

if TYPE_CHECKING:
    from sonoshare_shared.science.pictures.dicom import UltrasoundObject

DICOM_SUFFIXES: Final = (".dcm", ".dicom")
RASTER_SUFFIXES: Final = (".png", ".jpg", ".jpeg")
SUFFIXES: Final = (*DICOM_SUFFIXES, *RASTER_SUFFIXES)
"""Of files that are pictures by their names; DICOM objects often have none."""

START_BYTES: Final = 132
"""How much of a file tells what it claims to be."""
_RASTER_MAGIC: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_DICOM_MAGIC: Final = b"DICM"
_OF_ONE_FRAME: Final = frozenset(
    {Reason.BLANK, Reason.FEW_LEVELS, Reason.COLOUR, Reason.NO_REGION, Reason.SEVERAL_REGIONS}
)
"""Why a frame is left out and others of its clip may stay; anything else is said of the file."""
_Try = tuple[int, Callable[[], "KeptPicture"]]
"""The number of a picture, and what reads it."""


@dataclass(frozen=True)
class Header:
    """What a DICOM header says besides the picture; free text, never to be kept as it is.

    Attributes:
        manufacturer: (0008,0070).
        model: (0008,1090).
        instance: sha256 of the SOP instance UID.
    """

    manufacturer: str
    model: str
    instance: bytes


@dataclass(frozen=True, eq=False)
class KeptPicture:
    """What is kept of a file.

    Attributes:
        pixels: uint8 [H, W], grey.
        mask: uint8 [H, W], 1 inside the lesion, or None where no mask is given.
        box: lesion box in fractions of what is kept, or None.
        header: of a DICOM object.
        must_look: nothing in the file says where the picture is, or it says that something is burned in: whoever keeps
            it looks through it for text, whatever it looks like.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    box: Box | None
    header: Header | None = None
    must_look: bool = True


@dataclass(frozen=True, eq=False)
class KeptFrame:
    """A picture and which one of its file it is.

    Attributes:
        number: of the frame, from 1; of a dual view's pictures 2 and 3, because its file has no such frames.
        picture: what is kept of it.
    """

    number: int
    picture: KeptPicture


def is_picture(start: bytes) -> bool:
    """Whether a file that starts so claims to be one of the formats that are read (`START_BYTES` tell)."""
    return start.startswith(_RASTER_MAGIC) or start[128:START_BYTES] == _DICOM_MAGIC


def read_kept(
    file: BinaryIO,
    mask_files: Sequence[BinaryIO],
    box: Box | None,
    *,
    suffix: str = "",
    frame: int | None = None,
    region: Box | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> KeptPicture:
    """Read one picture: of a clip the frame that is asked for; see `read_frames`.

    Raises:
        Refused: it cannot be read, is not what may be kept, or is a clip and no frame is asked for.
    """
    found = _guarded(file, _Asked(mask_files, box, suffix, frame, bounds, region))
    if not isinstance(found, KeptPicture):
        raise Refused(Reason.ANIMATED)
    return found


def read_frames(
    file: BinaryIO,
    mask_files: Sequence[BinaryIO],
    box: Box | None,
    *,
    suffix: str = "",
    frame: int | None = None,
    region: Box | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> tuple[KeptFrame, ...]:
    """Read one picture, both of a dual view, or some of a clip, in the order of their numbers; never none.

    Args:
        file: DICOM, PNG or JPEG, at its start.
        mask_files: PNG of the whole picture's size, not zero in a lesion; any number.
        box: lesion box in pixels of the whole picture, or None.
        suffix: extension of the file's name, lowercase with its dot, or empty.
        frame: the only one that is wanted, from 1, or None.
        region: where the ultrasound picture is, x, y, w, h in pixels; counts where the file does not say it.
        bounds: what the file may be.

    Raises:
        Refused: it cannot be read, or none of its frames looked at is what may be kept.
    """
    asked = _Asked(mask_files, box, suffix, frame, bounds, region, several=True)
    found = _guarded(file, asked)
    if isinstance(found, KeptPicture):
        return (KeptFrame(frame or 1, found),)
    return _guarded_frames(found, asked)


@dataclass(frozen=True)
class _Asked:
    masks: Sequence[BinaryIO]
    box: Box | None
    suffix: str
    frame: int | None
    bounds: Bounds
    region: Box | None
    several: bool = False

    @property
    def lesion(self) -> bool:
        """Whether a mask or box says which picture is meant."""
        return bool(self.masks) or self.box is not None


def _guarded(file: BinaryIO, asked: _Asked) -> "KeptPicture | UltrasoundObject":
    with as_reasons():
        return _read(file, asked)


def _guarded_frames(found: "UltrasoundObject", asked: _Asked) -> tuple[KeptFrame, ...]:
    if asked.lesion:
        raise Refused(Reason.CLIP_LESION)
    with as_reasons():
        return _of_still(found, asked) if found.frames == 1 else _frames_of(found, asked)


def read_file(
    path: Path,
    masks: Sequence[Path] = (),
    box: Box | None = None,
    *,
    frame: int | None = None,
    region: Box | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> KeptPicture:
    """Read one picture in this process.

    Args:
        path: DICOM, PNG or JPEG.
        masks: its masks, any number.
        box: lesion box in pixels of the whole picture, or None.
        frame: of a clip, from 1, or None.
        region: as in `read_frames`.
        bounds: what the file may be.

    Raises:
        InputError: naming the file by the last part of its path, with the words of the `Reason`.
    """
    try:
        with ExitStack() as opened:
            file = opened.enter_context(_opened(path, bounds))
            mask_files = [opened.enter_context(_opened_mask(mask, bounds)) for mask in masks]
            suffix = path.suffix.lower()
            return read_kept(file, mask_files, box, suffix=suffix, frame=frame, region=region, bounds=bounds)
    except Refused as refusal:
        of_masks = f" (mask {', '.join(mask.name for mask in masks)})" if masks else ""
        raise InputError(f"{path.name}{of_masks}: {refusal.reason.fact}", remedy=refusal.reason.remedy) from refusal


def _opened(path: Path, bounds: Bounds) -> BinaryIO:
    try:
        if not path.is_file():
            raise Refused(Reason.NOT_A_FILE if path.exists() else Reason.MISSING)
        size = path.stat().st_size
        if not 0 < size <= bounds.clip_bytes:
            raise Refused(Reason.TOO_LARGE if size else Reason.EMPTY)
        return path.open("rb")
    except OSError as error:
        raise Refused(Reason.UNREADABLE) from error


def _opened_mask(path: Path, bounds: Bounds) -> BinaryIO:
    try:
        return _opened(path, bounds)
    except Refused as refusal:
        raise Refused(Reason.MASK_UNREADABLE) from refusal


def _read(file: BinaryIO, asked: _Asked) -> "KeptPicture | UltrasoundObject":
    start = file.read(START_BYTES)
    is_dicom = start[128:START_BYTES] == _DICOM_MAGIC
    if not is_dicom and file.seek(0, os.SEEK_END) > asked.bounds.file_bytes:
        raise Refused(Reason.TOO_LARGE)
    file.seek(0)
    masks = [read_mask(mask_file, asked.bounds) for mask_file in asked.masks]
    if is_dicom:
        _check_name(asked.suffix, RASTER_SUFFIXES)
        return _read_dicom(file, masks, asked)
    if start.startswith(_RASTER_MAGIC):
        _check_name(asked.suffix, DICOM_SUFFIXES)
        if asked.frame not in (None, 1):
            raise Refused(Reason.FRAME)
        screen = read_raster(file, asked.bounds)
        mask = joined(masks, screen.grey.shape)
        if asked.region is None:
            region = exported_picture(screen, lesion_box(asked.box, mask), asked.bounds)
        else:
            region = told_region(asked.region, screen.whole, asked.bounds)
        if screen.coloured(region) > asked.bounds.coloured:
            raise Refused(Reason.COLOUR)
        kept = KeptPicture(*cut(screen.grey, mask, asked.box, region))
        check_plausible(kept.pixels, asked.bounds)
        return kept
    raise Refused(Reason.UNKNOWN_FORMAT)


def _read_dicom(file: BinaryIO, masks: Sequence[NDArray[np.uint8]], asked: _Asked) -> "KeptPicture | UltrasoundObject":
    """The one picture; or the object where no frame was named: a clip, or a still that may give two pictures."""
    try:
        # An optional extra; and slow to import, for who reads other pictures alone.
        from sonoshare_shared.science.pictures.dicom import open_dicom  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InputError("DICOM needs the package pydicom", remedy="pip install 'sonoshare[client]'") from error
    found = open_dicom(file, asked.bounds)
    if asked.frame is None and (found.frames != 1 or (asked.several and not asked.lesion)):
        return found
    index = (asked.frame or 1) - 1
    if not 0 <= index < found.frames:
        raise Refused(Reason.FRAME)
    return _kept(found, index, masks, asked)


def _kept(found: "UltrasoundObject", index: int, masks: Sequence[NDArray[np.uint8]], asked: _Asked) -> KeptPicture:
    """What is kept of one frame, counted from 0."""
    screen = found.frame(index)
    mask = joined(masks, screen.grey.shape)
    region = pick_region(_b_mode(found, screen, asked), lesion_box(asked.box, mask))
    return _cut_to(region, found, screen, mask, asked)


def _b_mode(found: "UltrasoundObject", screen: Screen, asked: _Asked) -> tuple[Region, ...]:
    """The B-mode pictures of a frame, at least one."""
    regions = (screen.whole,) if found.volume else found.regions
    if asked.region is not None and not regions:
        regions = (told_region(asked.region, screen.whole, asked.bounds),)
    return b_mode_regions(screen, regions, asked.bounds)


def _cut_to(
    region: Region, found: "UltrasoundObject", screen: Screen, mask: NDArray[np.uint8] | None, asked: _Asked
) -> KeptPicture:
    header = Header(found.manufacturer, found.model, found.instance)
    must_look = found.burned_in or not found.regions
    kept = KeptPicture(*cut(screen.grey, mask, asked.box, region), header=header, must_look=must_look)
    check_plausible(kept.pixels, asked.bounds)
    return kept


def _of_still(still: "UltrasoundObject", asked: _Asked) -> tuple[KeptFrame, ...]:
    """The picture of a still, or both of a dual view where the bounds allow two pictures of a file."""
    screen = still.frame(0)
    regions = _b_mode(still, screen, asked)
    both = dual_view(regions)
    if not 0 < len(both) <= asked.bounds.clip_frames:
        return (KeptFrame(1, _cut_to(pick_region(regions, None), still, screen, None, asked)),)
    numbered = enumerate(both, start=still.frames + 1)
    return _taken([(number, partial(_cut_to, region, still, screen, None, asked))] for number, region in numbered)


def _frames_of(clip: "UltrasoundObject", asked: _Asked) -> tuple[KeptFrame, ...]:
    """Frames of a clip."""
    wanted = frames_to_try(clip.frames, asked.bounds.clip_frames, clip.marks)
    return _taken([(index + 1, partial(_kept, clip, index, (), asked)) for index in tries] for tries in wanted)


def _taken(wanted: Iterable[Sequence[_Try]]) -> tuple[KeptFrame, ...]:
    """Pictures of one file; what is wrong with one picture sets that one aside, what is wrong with the file all."""
    taken: list[KeptFrame] = []
    first: Reason | None = None
    for tries in wanted:
        for number, read in tries:
            try:
                picture = read()
            except Refused as refusal:
                if refusal.reason not in _OF_ONE_FRAME:
                    raise
                first = first or refusal.reason
                continue
            if not any(nearly_identical(picture.pixels, other.picture.pixels) for other in taken):
                taken.append(KeptFrame(number, picture))
            break
    if not taken:
        raise Refused(first or Reason.BLANK)
    return tuple(taken)


def _check_name(suffix: str, others: tuple[str, ...]) -> None:
    """The content decides what a file is; a name that says otherwise is a sign of a mix-up, for a person to look at."""
    if suffix in others:
        raise Refused(Reason.WRONG_NAME)
