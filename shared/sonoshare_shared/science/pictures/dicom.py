"""DICOM ultrasound objects, by pydicom, gdcm and openjpeg.

Checked in this order, each before the next costs anything: SOP class and transfer syntax (from the file meta
information, before the data set is read: a deflated one of 2 MB grows to gigabytes), dimensions and number of
frames, the sense of the pixel description, the length of native pixel data, the palette, the regions. Only then is
a pixel decoded.

Of the data set only the attributes in ``_TAGS`` are read at all. What leaves this module is the grey picture, the
regions, the manufacturer's texts (of which intake keeps an approved name alone), and the digest of the SOP instance
UID. Preamble, private, nested, overlay, curve and padding elements are never read; overlay bits above the stored bits
are cleared.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmread
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from sonoshare_shared.science.levels import leading_eight_bits, luma
from sonoshare_shared.science.pictures.bounds import Bounds
from sonoshare_shared.science.pictures.reasons import Reason, Refused
from sonoshare_shared.science.pictures.region import Region

# Values are what they are; pydicom's warnings and its log would quote them.
config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").propagate = False
logging.getLogger("pydicom").addHandler(logging.NullHandler())

# Big endian is retired, and palettes in it come back with their bytes swapped: refused like any other syntax.
_NATIVE: Final = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian})
# pylibjpeg-rle aborts on a lying header: RLE goes through pydicom's own decoder.
_PLUGINS: Final[dict[UID, str]] = {
    RLELossless: "pydicom",
    JPEGBaseline8Bit: "gdcm",
    JPEGExtended12Bit: "gdcm",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "gdcm",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
}
_ULTRASOUND: Final = frozenset(
    {
        UltrasoundImageStorage,
        UltrasoundMultiFrameImageStorage,
        "1.2.840.10008.5.1.4.1.1.6",  # retired forms of the two
        "1.2.840.10008.5.1.4.1.1.3",
    }
)
_PRIMARIES: Final = ("Red", "Green", "Blue")
_PALETTE_DESCRIPTORS: Final = tuple(f"{name}PaletteColorLookupTableDescriptor" for name in _PRIMARIES)
_PALETTE_DATA: Final = tuple(f"{name}PaletteColorLookupTableData" for name in _PRIMARIES)
_SEGMENTED_PALETTE_DATA: Final = tuple(f"Segmented{name}" for name in _PALETTE_DATA)
_TAGS: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Manufacturer",
    "ManufacturerModelName",
    "BurnedInAnnotation",
    "SequenceOfUltrasoundRegions",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    *_PALETTE_DESCRIPTORS,
    *_PALETTE_DATA,
    *_SEGMENTED_PALETTE_DATA,
    "PixelData",
)
_SAMPLES: Final = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_RCT": 3,
    "YBR_ICT": 3,
}
_TWO_DIMENSIONAL: Final = 1  # RegionSpatialFormat (0018,6012)
_TISSUE: Final = 1  # RegionDataType (0018,6014)
_COLOUR_FLOW: Final = 2


@dataclass(frozen=True, eq=False)
class UltrasoundPicture:
    """What is taken from an object.

    Attributes:
        pixels: uint8 [H, W], grey, the whole picture.
        regions: its B-mode regions, all inside the picture.
        manufacturer: as written in the header; free text, never to be kept as it is.
        model: likewise.
        instance: sha256 of the SOP instance UID.
        burned_in: the header says that text is burned in. That it does not say so means nothing: it mostly is not told,
            or told wrongly.
    """

    pixels: NDArray[np.uint8]
    regions: tuple[Region, ...]
    manufacturer: str
    model: str
    instance: bytes
    burned_in: bool


def read_dicom(file: BinaryIO, bounds: Bounds) -> UltrasoundPicture:
    """Read one ultrasound object.

    Args:
        file: the file, at its start.
        bounds: bounds on the dimensions.

    Raises:
        Refused: it is not an ultrasound picture that can be taken in.
        Exception: whatever a decoder raises on broken content; the caller's business.
    """
    syntax = _check_meta(file)
    file.seek(0)
    dataset = dcmread(file, specific_tags=[Tag(name) for name in _TAGS])
    if dataset.get("SOPClassUID") not in _ULTRASOUND:
        raise Refused(Reason.NOT_ULTRASOUND)
    _check_dimensions(dataset, bounds)
    _check_pixel_description(dataset, syntax)
    regions = _regions(dataset, bounds)
    return UltrasoundPicture(
        pixels=_grey(dataset, syntax),
        regions=regions,
        manufacturer=_text(dataset, "Manufacturer"),
        model=_text(dataset, "ManufacturerModelName"),
        instance=hashlib.sha256(_text(dataset, "SOPInstanceUID").encode()).digest(),
        burned_in=_text(dataset, "BurnedInAnnotation").upper() == "YES",
    )


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
    if syntax == DeflatedExplicitVRLittleEndian:
        raise Refused(Reason.DEFLATED)
    if syntax not in _NATIVE and syntax not in _PLUGINS:
        raise Refused(Reason.SYNTAX)
    return UID(syntax)


def _check_dimensions(dataset: FileDataset, bounds: Bounds) -> None:
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    if not (0 < rows <= bounds.side and 0 < columns <= bounds.side and rows * columns <= bounds.pixels):
        raise Refused(Reason.DIMENSIONS)
    if "NumberOfFrames" in dataset and _number(dataset, "NumberOfFrames") != 1:
        raise Refused(Reason.ANIMATED)


def _check_pixel_description(dataset: FileDataset, syntax: UID) -> None:
    photometric = _text(dataset, "PhotometricInterpretation")
    if _SAMPLES.get(photometric) != _number(dataset, "SamplesPerPixel"):
        raise Refused(Reason.PHOTOMETRIC)
    allocated, stored = _number(dataset, "BitsAllocated"), _number(dataset, "BitsStored")
    if (
        allocated not in (8, 16)
        or not 1 <= stored <= allocated
        or _number(dataset, "HighBit") != stored - 1
        or _number(dataset, "PixelRepresentation") != 0
    ):
        raise Refused(Reason.BITS)
    if photometric == "PALETTE COLOR" and not _has_palette(dataset):
        raise Refused(Reason.PALETTE)
    if not dataset.get("PixelData"):
        raise Refused(Reason.NO_PIXELS)
    if syntax in _NATIVE:
        samples = 2 if photometric == "YBR_FULL_422" else _SAMPLES[photometric]
        expected = _number(dataset, "Rows") * _number(dataset, "Columns") * samples * allocated // 8
        if len(dataset.PixelData) < expected:
            raise Refused(Reason.PIXEL_LENGTH)


def _has_palette(dataset: FileDataset) -> bool:
    def has(names: Sequence[str]) -> bool:
        return all(dataset.get(name) for name in names)

    return has(_PALETTE_DESCRIPTORS) and (has(_PALETTE_DATA) or has(_SEGMENTED_PALETTE_DATA))


def _grey(dataset: FileDataset, syntax: UID) -> NDArray[np.uint8]:
    decoder, plugin = get_decoder(syntax), _PLUGINS.get(syntax, "")
    if plugin and plugin not in decoder.available_plugins:
        raise Refused(Reason.NO_DECODER)
    levels, _ = decoder.as_array(dataset, index=0, decoding_plugin=plugin)
    if levels.shape[:2] != (dataset.Rows, dataset.Columns):
        raise Refused(Reason.BROKEN)
    photometric = _text(dataset, "PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        try:
            levels = apply_color_lut(levels, dataset)
        except (ValueError, AttributeError, IndexError, NotImplementedError) as error:
            raise Refused(Reason.PALETTE) from error
        eight = leading_eight_bits(levels, levels.dtype.itemsize * 8)
    else:
        eight = leading_eight_bits(levels, _number(dataset, "BitsStored"))
    if eight.ndim == 3:
        return luma(eight)
    return 255 - eight if photometric == "MONOCHROME1" else eight


def _regions(dataset: FileDataset, bounds: Bounds) -> tuple[Region, ...]:
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    tissue, flow = [], []
    for item in dataset.get("SequenceOfUltrasoundRegions") or ():
        if item.get("RegionSpatialFormat") != _TWO_DIMENSIONAL:
            continue
        if item.get("RegionDataType") == _TISSUE:
            tissue.append(_region(item, rows, columns, bounds))
        elif item.get("RegionDataType") == _COLOUR_FLOW:
            flow.append(_region(item, rows, columns, bounds))
    if not tissue:
        raise Refused(Reason.NO_REGION)
    if any(_overlap(a, b) for a in tissue for b in flow):
        raise Refused(Reason.COLOUR_FLOW)
    return tuple(tissue)


def _region(item: Any, rows: int, columns: int, bounds: Bounds) -> Region:
    names = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    left, top, last_column, last_row = (_number(item, name) for name in names)
    # The standard's corner is the last pixel; some systems write the first one beyond. More than that is a lie.
    if left < 0 or top < 0 or last_column > columns or last_row > rows:
        raise Refused(Reason.REGION_OUTSIDE)
    region = Region(left, top, min(last_column + 1, columns), min(last_row + 1, rows))
    if min(region.width, region.height) < bounds.region_side:
        raise Refused(Reason.REGION_SMALL)
    return region


def _overlap(a: Region, b: Region) -> bool:
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


def _number(dataset: Any, name: str) -> int:
    """An integer attribute; minus one where it is absent or not one."""
    value = dataset.get(name)
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return -1


def _text(dataset: Any, name: str) -> str:
    """A text attribute; empty where it is absent."""
    value = dataset.get(name)
    return "" if value is None else str(value).strip()
