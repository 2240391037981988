"""Files that break a reader of DICOM, or lie to it, and the reason that intake must give for each."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage, RLELossless
from tests.client.crafted import COLUMNS, ROWS, changed, region, save, ultrasound
from tests.client.dicom_changes import set_all

from sonoshare_shared.science.pictures.reasons import Reason


def nothing_to_see(regions: Any) -> Callable[..., Any]:
    """A screen of bars and flat grounds, on which no picture is found."""

    def change(dataset: Any) -> None:
        dataset.SequenceOfUltrasoundRegions = Sequence(regions)
        dataset.PixelData = np.repeat(np.arange(ROWS, dtype=np.uint8) // 12 * 20, COLUMNS).tobytes()

    return change


def cornerless() -> Any:
    item = region()
    del item.RegionLocationMaxX1
    return item


def file_bytes(tmp_path: Any, dataset: FileDataset) -> bytes:
    return save(dataset, tmp_path / "made.dcm").read_bytes()


def nested(depth: int) -> bytes:
    """Explicit VR sequences of undefined length, one inside the other."""
    opening = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closing = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return opening * depth + closing * depth


def with_bytes_before(data: bytes, tag: tuple[int, int], inserted: bytes) -> bytes:
    """A data set with raw bytes put before one of its elements (little endian, explicit VR)."""
    place = data.index(struct.pack("<HH", *tag), 200)
    return data[:place] + inserted + data[place:]


def deflated_bomb(tmp_path: Any, megabytes: int) -> bytes:
    header = file_bytes(
        tmp_path, changed(lambda d: setattr(d.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian))
    )
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = b"".join(squeezer.compress(b"\0" * (1 << 20)) for _ in range(megabytes)) + squeezer.flush()
    meta_end = 132 + 12 + struct.unpack_from("<I", header, 140)[0]
    return header[:meta_end] + body


def lying_rle(tmp_path: Any) -> bytes:
    def change(dataset: Any) -> None:
        dataset.file_meta.TransferSyntaxUID = RLELossless
        dataset.Rows = dataset.Columns = 65535
        dataset.PixelData = encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 8])
        dataset["PixelData"].is_undefined_length = True

    return file_bytes(tmp_path, changed(change))


def dicomdir(dataset: Any) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    record = region()
    record.ReferencedFileID = ["..", "..", "etc", "passwd"]
    dataset.DirectoryRecordSequence = Sequence([record])


HOSTILE = {
    "case_01_empty": (lambda _: b"", Reason.EMPTY),
    "case_01_junk": (lambda _: b"not a picture" * 40, Reason.UNKNOWN_FORMAT),
    "case_01_junk_after_the_magic": (lambda _: b"\0" * 128 + b"DICM" + b"\xfe" * 400, None),
    "case_02_truncated_pixels": (lambda t: file_bytes(t, ultrasound())[:-3000], None),
    "case_02_short_pixels": (
        lambda t: file_bytes(t, changed(set_all(PixelData=b"\0" * 100))),
        Reason.PIXEL_LENGTH,
    ),
    "case_03_native_65535": (
        lambda t: file_bytes(t, changed(set_all(Rows=65535, Columns=65535))),
        Reason.DIMENSIONS,
    ),
    "case_04_rle_65535": (lying_rle, Reason.DIMENSIONS),
    "case_05_deflated": (lambda t: deflated_bomb(t, 256), Reason.DEFLATED),
    "case_05_deflated_and_broken": (lambda t: deflated_bomb(t, 1)[:-50], Reason.DEFLATED),
    "case_06_frames": (
        lambda t: file_bytes(t, changed(set_all(NumberOfFrames=2**31 - 1))),
        Reason.PIXEL_LENGTH,
    ),
    "case_09_dicomdir": (lambda t: file_bytes(t, changed(dicomdir)), Reason.DIRECTORY),
    "case_11_palette_without_lut": (
        lambda t: file_bytes(t, changed(set_all(PhotometricInterpretation="PALETTE COLOR"))),
        Reason.PALETTE,
    ),
    "case_11_bits_stored": (lambda t: file_bytes(t, changed(set_all(BitsStored=12))), Reason.BITS),
    "case_11_high_bit": (lambda t: file_bytes(t, changed(set_all(HighBit=3))), Reason.BITS),
    "case_11_signed": (lambda t: file_bytes(t, changed(set_all(PixelRepresentation=1))), Reason.BITS),
    "case_11_photometric": (
        lambda t: file_bytes(t, changed(set_all(PhotometricInterpretation="RGB"))),
        Reason.PHOTOMETRIC,
    ),
    "case_11_unknown_photometric": (
        lambda t: file_bytes(t, changed(set_all(PhotometricInterpretation="HSV"))),
        Reason.PHOTOMETRIC,
    ),
    "case_11_no_pixels": (lambda t: file_bytes(t, changed(set_all(PixelData=None))), Reason.NO_PIXELS),
    "case_11_zero_rows": (lambda t: file_bytes(t, changed(set_all(Rows=0))), Reason.DIMENSIONS),
    "case_16_no_regions": (lambda t: file_bytes(t, changed(nothing_to_see(()))), Reason.NO_REGION),
    "case_16_only_a_spectrum": (
        lambda t: file_bytes(t, changed(nothing_to_see([region(spatial=3)]))),
        Reason.NO_REGION,
    ),
    "case_16_outside": (
        lambda t: file_bytes(t, changed(set_all(SequenceOfUltrasoundRegions=Sequence([region((16, 8, 140, 87))])))),
        Reason.REGION_OUTSIDE,
    ),
    "case_16_inside_out": (
        lambda t: file_bytes(t, changed(set_all(SequenceOfUltrasoundRegions=Sequence([region((90, 8, 20, 87))])))),
        Reason.REGION_SMALL,
    ),
    "case_16_without_corners": (lambda t: file_bytes(t, changed(nothing_to_see([cornerless()]))), Reason.NO_REGION),
    "case_16_colour_flow": (
        lambda t: file_bytes(
            t, changed(set_all(SequenceOfUltrasoundRegions=Sequence([region(), region((30, 20, 80, 70), data_type=2)])))
        ),
        Reason.COLOUR_FLOW,
    ),
    "case_16_two_pictures": (
        lambda t: file_bytes(
            t,
            changed(set_all(SequenceOfUltrasoundRegions=Sequence([region((0, 0, 80, 90)), region((40, 0, 120, 90))]))),
        ),
        Reason.SEVERAL_REGIONS,
    ),
    "not_ultrasound": (
        lambda t: file_bytes(t, changed(set_all(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))),
        Reason.NOT_ULTRASOUND,
    ),
    "unknown_syntax": (
        lambda t: file_bytes(t, ultrasound()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"),
        Reason.SYNTAX,
    ),
}
