"""Sound files for ``benchmarks.intake_fuzz`` to break: one of each form that intake knows, small, without any text."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)
from tests.client.code_streams import HTJ2K_32, JPEG_LS_32, LOSSLESS_32
from tests.client.crafted import COLUMNS, ROWS, region, save, speckle, ultrasound

CLIP_FRAMES: Final = 5
SPREAD: Final = 100
"""Seeds between two sets of files, so that no two files show the same picture."""
PATIENT: Final = "PATIENT-000000000"
"""In every object; whoever wants several patients puts others of the same length in its place."""
Picture = NDArray[np.uint8]


def grey(seed: int) -> Picture:
    """Soft bright and dark patches: a picture that codecs make small, and in which nothing looks like letters."""
    coarse = np.random.default_rng(seed).integers(0, 256, (ROWS // 8, COLUMNS // 8), dtype=np.uint8)
    soft = Image.fromarray(coarse).resize((COLUMNS, ROWS), Image.Resampling.BICUBIC)
    return np.asarray(np.clip(np.asarray(soft, np.int16) + speckle(seed) // 32, 0, 255), np.uint8)


def raster(pixels: NDArray[Any], form: str, mode: str | None = None, **options: Any) -> bytes:
    """A PNG or JPEG."""
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(buffer, form, **options)
    return buffer.getvalue()


def drawn(seed: int) -> Picture:
    """A mask of the size of the picture."""
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    mask[30 : 40 + seed % 9, 40:60] = 255
    return mask


def rasters(seed: int) -> dict[str, bytes]:
    """PNG and JPEG files by their names."""
    exif = Image.Exif()
    exif[0x0112] = 1 + seed % 8
    one, *others = (grey(SPREAD * seed + 50 + place) for place in range(7))
    return {
        "grey.png": raster(one, "PNG"),
        "palette.png": raster(others[0], "PNG", "P"),
        "alpha.png": raster(others[1], "PNG", "LA"),
        "bits16.png": raster(others[2].astype(np.uint16) * 257, "PNG"),
        "grey.jpg": raster(others[3], "JPEG", exif=exif),
        "colour.jpg": raster(others[4], "JPEG", "RGB", subsampling=2),
        "progressive.jpg": raster(others[5], "JPEG", "RGB", progressive=True),
    }


def objects(seed: int, folder: Path) -> dict[str, bytes]:
    """DICOM objects by their names; ``folder`` is written to, and empty afterwards."""
    found = {
        f"{name}.dcm": _written(make(SPREAD * seed + place), folder)
        for place, (name, make) in enumerate(_FORMS.items())
    }
    for name, syntax in _NATIVE.items():
        found[f"{name}.dcm"] = _native_in(_native(SPREAD * seed + len(found)), syntax)
    return found


def archive(files: dict[str, bytes]) -> bytes:
    """A ZIP of some files in one folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for number, (name, data) in enumerate(files.items()):
            kind = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            opened.writestr(f"export/{name}", data, compress_type=kind)
    return buffer.getvalue()


def _native(seed: int) -> FileDataset:
    return _changed(seed, PixelData=grey(seed).tobytes())


def _changed(seed: int, **values: Any) -> FileDataset:
    dataset = ultrasound(seed)
    dataset.PatientID = PATIENT
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def _colour(seed: int) -> FileDataset:
    return _changed(
        seed,
        PixelData=np.repeat(grey(seed)[..., None], 3, 2).tobytes(),
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="RGB",
    )


def _bits16(seed: int) -> FileDataset:
    samples = grey(seed).astype("<u2") * 16
    return _changed(seed, PixelData=samples.tobytes(), BitsAllocated=16, BitsStored=12, HighBit=11)


def _without_region(seed: int) -> FileDataset:
    dataset = _native(seed)
    del dataset.SequenceOfUltrasoundRegions
    return dataset


def _palette(seed: int) -> FileDataset:
    dataset = _native(seed)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", (np.arange(256, dtype="<u2") * 257).tobytes())
    return dataset


def _compressed(seed: int, syntax: UID) -> FileDataset:
    dataset = _native(seed)
    dataset.compress(syntax, generate_instance_uid=False)
    return dataset


def _encoded(seed: int, syntax: UID, streams: list[bytes]) -> FileDataset:
    dataset = _changed(seed, PixelData=encapsulate(streams))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    return dataset


def _small(seed: int, syntax: UID, stream: bytes) -> FileDataset:
    """A code stream that was made elsewhere, of 32 by 32 pixels."""
    dataset = _encoded(seed, syntax, [stream])
    dataset.Rows = dataset.Columns = 32
    dataset.SequenceOfUltrasoundRegions = Sequence([region((0, 0, 31, 31))])
    return dataset


def _clip(seed: int, syntax: UID) -> FileDataset:
    frames = [np.roll(grey(seed), 9 * number, axis=0) for number in range(CLIP_FRAMES)]
    if syntax == ExplicitVRLittleEndian:
        dataset = _changed(seed, PixelData=b"".join(frame.tobytes() for frame in frames))
    elif syntax == JPEGBaseline8Bit:
        dataset = _encoded(seed, syntax, [raster(frame, "JPEG") for frame in frames])
    else:
        dataset = _changed(seed, PixelData=b"".join(frame.tobytes() for frame in frames), NumberOfFrames=CLIP_FRAMES)
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.NumberOfFrames = CLIP_FRAMES
    return dataset


def _written(dataset: FileDataset, folder: Path) -> bytes:
    path = save(dataset, folder / "seed.dcm")
    data = path.read_bytes()
    path.unlink()
    return data


def _native_in(dataset: FileDataset, syntax: UID) -> bytes:
    buffer = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    # Without a syntax of its own a data set is written in the one that is named here.
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=little, force_encoding=True)
    return buffer.getvalue()


_FORMS: Final[dict[str, Callable[[int], FileDataset]]] = {
    "explicit": _native,
    "colour": _colour,
    "bits16": _bits16,
    "palette": _palette,
    "no_region": _without_region,
    "clip": lambda seed: _clip(seed, ExplicitVRLittleEndian),
    "rle": lambda seed: _compressed(seed, RLELossless),
    "rle_clip": lambda seed: _clip(seed, RLELossless),
    "jpeg": lambda seed: _encoded(seed, JPEGBaseline8Bit, [raster(grey(seed), "JPEG")]),
    "jpeg_clip": lambda seed: _clip(seed, JPEGBaseline8Bit),
    "jpeg_2000": lambda seed: _compressed(seed, JPEG2000Lossless),
    "jpeg_2000_clip": lambda seed: _clip(seed, JPEG2000Lossless),
    "jpeg_lossless": lambda seed: _small(seed, JPEGLosslessSV1, LOSSLESS_32),
    "jpeg_process_14": lambda seed: _small(seed, JPEGLossless, LOSSLESS_32),
    "jpeg_ls": lambda seed: _small(seed, JPEGLSLossless, JPEG_LS_32),
    "jpeg_ls_near": lambda seed: _small(seed, JPEGLSNearLossless, JPEG_LS_32),
    "high_throughput": lambda seed: _small(seed, HTJ2KLossless, HTJ2K_32),
    "high_throughput_rpcl": lambda seed: _small(seed, HTJ2KLosslessRPCL, HTJ2K_32),
    "high_throughput_lossy": lambda seed: _small(seed, HTJ2K, HTJ2K_32),
}
_NATIVE: Final = {
    "implicit": ImplicitVRLittleEndian,
    "big_endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
