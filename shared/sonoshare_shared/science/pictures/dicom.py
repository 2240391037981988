"""DICOM ultrasound objects, by pydicom; compressed frames are decoded in compressed.py.

Checked in this order, each before the next costs anything: SOP class and transfer syntax (from the file meta
information, before the data set is read), the size that a deflated data set grows to, dimensions, the sense of the
pixel description, the length of the pixel data against the number of frames, the palette, the regions, and of each
frame what its code stream says against the header. Only then is a pixel decoded, one frame at a time, and of the pixel
data only that frame is read (``pixel_file``); the file stays open for as long as frames are asked for.

Of the data set only the attributes in ``_TAGS`` are read at all. What leaves this module is grey levels and colours,
the regions, the manufacturer's texts (of which intake keeps an approved name alone), and the digest of the SOP instance
UID. Preamble, private, nested, overlay, curve and padding elements are never read; overlay bits above the stored bits
are cleared.
"""

import hashlib
import io
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedUSVolumeStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from sonoshare_shared.science.levels import leading_eight_bits, luma, used_bits
from sonoshare_shared.science.pictures import code_stream
from sonoshare_shared.science.pictures.bounds import Bounds
from sonoshare_shared.science.pictures.clip import Marks, marks_of
from sonoshare_shared.science.pictures.colour import to_rgb
from sonoshare_shared.science.pictures.compressed import COMPRESSED, CompressedPixels, fragments_by_frame
from sonoshare_shared.science.pictures.palette import apply_palette
from sonoshare_shared.science.pictures.pixel_description import PALETTE, NativePixels, PixelDescription, describe, text
from sonoshare_shared.science.pictures.pixel_file import PixelElement, pixel_element
from sonoshare_shared.science.pictures.presentation import presentation_of
from sonoshare_shared.science.pictures.reasons import Reason, Refused
from sonoshare_shared.science.pictures.region import Region
from sonoshare_shared.science.pictures.screen import Screen, header_regions

# Values are what they are; pydicom's warnings and its log would quote them.
config.settings.reading_validation_mode = config.IGNORE
for _name in ("pydicom", "openjpeg"):
    logging.getLogger(_name).propagate = False
    logging.getLogger(_name).addHandler(logging.NullHandler())

_NATIVE: Final = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
)
_ULTRASOUND: Final = frozenset(
    {
        UltrasoundImageStorage,
        UltrasoundMultiFrameImageStorage,
        "1.2.840.10008.5.1.4.1.1.6",  # retired forms of the two
        "1.2.840.10008.5.1.4.1.1.3",
    }
)
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
"""And its multi-frame forms, which go on with .1 to .4; taken with Modality US."""
_PRIMARIES: Final = ("Red", "Green", "Blue")
_PALETTE_DESCRIPTORS: Final = tuple(f"{name}PaletteColorLookupTableDescriptor" for name in _PRIMARIES)
_PALETTE_DATA: Final = tuple(f"{name}PaletteColorLookupTableData" for name in _PRIMARIES)
_SEGMENTED_PALETTE_DATA: Final = tuple(f"Segmented{name}" for name in _PALETTE_DATA)
_TAGS: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "BurnedInAnnotation",
    "SequenceOfUltrasoundRegions",
    "SharedFunctionalGroupsSequence",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "FrameNumbersOfInterest",
    "RepresentativeFrameNumber",
    "StartTrim",
    "StopTrim",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "RescaleSlope",
    "RescaleIntercept",
    "PresentationLUTShape",
    "ModalityLUTSequence",
    "VOILUTSequence",
    *_PALETTE_DESCRIPTORS,
    *_PALETTE_DATA,
    *_SEGMENTED_PALETTE_DATA,
)


@dataclass(frozen=True, eq=False)
class UltrasoundObject:
    """An ultrasound object whose frames are decoded when they are asked for.

    Attributes:
        frames: how many there are, at least one.
        regions: B-mode regions by its header, all inside the picture; empty where it has none.
        manufacturer: as written in the header; free text, never to be kept as it is.
        model: likewise.
        instance: sha256 of the SOP instance UID.
        burned_in: the header says that text is burned in. That it does not say so means nothing: it mostly is not told,
            or told wrongly.
        marks: which frames of a clip its header marks.
        volume: a 3D sweep: frames are its slices, and a slice is a picture all over, not a screen.
    """

    frames: int
    regions: tuple[Region, ...]
    manufacturer: str
    model: str
    instance: bytes
    burned_in: bool
    marks: Marks
    volume: bool
    _dataset: FileDataset
    _description: PixelDescription
    _pixels: NativePixels | CompressedPixels
    _big: bool

    def frame(self, index: int) -> Screen:
        """Decode one frame, counted from 0.

        Raises:
            Refused: what its code stream says cannot be.
            Exception: whatever a decoder raises on broken content; the caller's business.
        """
        seen = self._description
        samples, stream = self._pixels.samples(index), self._pixels.stream(index)
        if samples.shape[:2] != (seen.rows, seen.columns):
            raise Refused(Reason.BROKEN)
        stored = seen.stored if stream is None else stream.precision
        if seen.photometric == PALETTE:
            rgb = _palette_colours(self._dataset, samples, big=self._big)
            return Screen(luma(rgb), rgb)
        if seen.samples == 1:
            return Screen(presentation_of(self._dataset, stored).shown(samples))
        kept = samples & ((1 << stored) - 1)
        levels = leading_eight_bits(kept, used_bits(kept, stored))
        declared = code_stream.YBR if seen.photometric.startswith("YBR_FULL") else code_stream.RGB
        rgb = to_rgb(levels, declared, stream)
        return Screen(luma(rgb), rgb)


def open_dicom(file: BinaryIO, bounds: Bounds) -> UltrasoundObject:
    """Open one ultrasound object and check all that can be checked before decoding.

    Args:
        file: the file, at its start; it stays open while frames are decoded.
        bounds: bounds on its size and dimensions.

    Raises:
        Refused: it is not an ultrasound picture that can be taken in.
        Exception: whatever pydicom raises on broken content; the caller's business.
    """
    syntax = _check_meta(file)
    file.seek(0)
    source = _inflated(file, bounds) if syntax == DeflatedExplicitVRLittleEndian else file
    dataset = dcmread(source, stop_before_pixels=True, specific_tags=[Tag(name) for name in _TAGS])
    _check_class(dataset)
    description = describe(dataset, bounds)
    if description.photometric == PALETTE and not _has_palette(dataset):
        raise Refused(Reason.PALETTE)
    big = syntax == ExplicitVRBigEndian
    element = pixel_element(source, implicit=bool(dataset.original_encoding[0]), big=big)
    if element is None or not element.value.length:
        raise Refused(Reason.NO_PIXELS)
    pixels = _pixels(description, element, syntax, bounds)
    items = dataset.get("SequenceOfUltrasoundRegions") or ()
    return UltrasoundObject(
        frames=pixels.frames,
        regions=header_regions(items, description.rows, description.columns, bounds),
        manufacturer=text(dataset, "Manufacturer"),
        model=text(dataset, "ManufacturerModelName"),
        instance=hashlib.sha256(text(dataset, "SOPInstanceUID").encode()).digest(),
        burned_in=text(dataset, "BurnedInAnnotation").upper() == "YES",
        marks=marks_of(dataset),
        volume=text(dataset, "SOPClassUID") == EnhancedUSVolumeStorage,
        _dataset=dataset,
        _description=description,
        _pixels=pixels,
        _big=big,
    )


def _pixels(
    description: PixelDescription, element: PixelElement, syntax: UID, bounds: Bounds
) -> NativePixels | CompressedPixels:
    if syntax not in _NATIVE:
        return CompressedPixels(description, fragments_by_frame(element.value, syntax), syntax, bounds)
    if element.encapsulated:
        raise Refused(Reason.CONTRADICTION)
    big = syntax == ExplicitVRBigEndian
    return NativePixels(description, element.value, big, big and description.allocated == 8 and element.words)


def open_header(file: BinaryIO, bounds: Bounds, names: Sequence[str]) -> FileDataset:
    """The named attributes of an object of a kind that is read, without its pixels; raises as `open_dicom` does."""
    syntax = _check_meta(file)
    file.seek(0)
    source = _inflated(file, bounds) if syntax == DeflatedExplicitVRLittleEndian else file
    return dcmread(source, specific_tags=[Tag(name) for name in names], stop_before_pixels=True)


def _check_meta(file: BinaryIO) -> UID:
    try:
        # The public form wants a path, which this process does not have.
        read_preamble(file, force=False)
        meta = _read_file_meta_info(file)
    except InvalidDicomError as error:
        raise Refused(Reason.UNKNOWN_FORMAT) from error
    if meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        raise Refused(Reason.DIRECTORY)
    syntax = meta.get("TransferSyntaxUID")
    if syntax not in _NATIVE and syntax not in COMPRESSED:
        raise Refused(Reason.SYNTAX)
    return UID(syntax)


def _inflated(file: BinaryIO, bounds: Bounds) -> BinaryIO:
    """The same object with its data set inflated, as far as bounds allow (a file of 2 MB can grow to gigabytes)."""
    read_preamble(file, force=False)
    _read_file_meta_info(file)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = inflater.decompress(file.read(bounds.file_bytes), bounds.inflated_bytes)
    except zlib.error as error:
        raise Refused(Reason.DEFLATED) from error
    if not inflater.eof:
        raise Refused(Reason.DEFLATED)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain = DicomBytesIO()
    plain.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(plain, meta, enforce_standard=False)
    return io.BytesIO(plain.getvalue() + body)


def _check_class(dataset: FileDataset) -> None:
    kind = text(dataset, "SOPClassUID")
    if kind == EnhancedUSVolumeStorage:
        _check_tissue(dataset)
        return
    captured = kind == _SECONDARY_CAPTURE or kind.startswith(f"{_SECONDARY_CAPTURE}.")
    if kind not in _ULTRASOUND and not (captured and text(dataset, "Modality") == "US"):
        raise Refused(Reason.NOT_ULTRASOUND)


def _check_tissue(dataset: FileDataset) -> None:
    """Of a volume: all of its frames are tissue intensity, not flow or elasticity (PS3.3 C.8.24.5)."""
    groups = dataset.get("SharedFunctionalGroupsSequence") or ()
    kinds = [text(item, "DataType") for group in groups for item in group.get("ImageDataTypeSequence") or ()]
    if kinds != ["TISSUE_INTENSITY"]:
        raise Refused(Reason.VOLUME)


def _has_palette(dataset: FileDataset) -> bool:
    def has(names: Sequence[str]) -> bool:
        return all(dataset.get(name) for name in names)

    return has(_PALETTE_DESCRIPTORS) and (has(_PALETTE_DATA) or has(_SEGMENTED_PALETTE_DATA))


def _palette_colours(dataset: FileDataset, indices: NDArray[Any], *, big: bool) -> NDArray[np.uint8]:
    segmented = not all(dataset.get(name) for name in _PALETTE_DATA)
    tables = [dataset.get(name) for name in (_SEGMENTED_PALETTE_DATA if segmented else _PALETTE_DATA)]
    # A table whose VR says numbers comes as numbers, in the machine's order.
    words = [table if isinstance(table, bytes) else np.asarray(table, "<u2").tobytes() for table in tables]
    try:
        return apply_palette(
            indices, words, dataset.get(_PALETTE_DESCRIPTORS[0]), segmented=segmented, big=big and words == tables
        )
    except (TypeError, ValueError, IndexError) as error:
        raise Refused(Reason.PALETTE) from error
