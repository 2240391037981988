"""A verified release as DICOM: an Ultrasound Image object for each picture, a Segmentation object for each lesion mask.

    images/000000.dcm   Ultrasound Image, explicit VR little endian, the PNG's grey levels unchanged
    masks/000000.dcm    Segmentation (binary) that refers to it; none where the picture has no lesion
    LICENSE.txt DATASHEET.md SHA256SUMS as in the release

Promises: every object says ``SyntheticData (0008,001C) = YES`` and names the equipment that synthesised it; the
"patient" is a number of the simulated case and nothing else, the date is the release's day. UIDs are ``2.25.`` and a
name-based UUID of the release and the object: the same release gives the same objects, and no other one. Millimetres
stand in the region's calibration where the release says them.

Not promised: that the objects are signed; the PNG files are. One picture is in memory at a time.
Importing this module needs pydicom and highdicom (extra export).
"""

import uuid
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian, UltrasoundImageStorage

from sonoshare_shared.durable import appearing, put
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.paths import read_regular
from sonoshare_shared.protocol.release.table import birads_of
from sonoshare_shared.science.export.dicom_mask import segmentation
from sonoshare_shared.science.export.pictures import MAX_DOCUMENT_BYTES, Picture, Source
from sonoshare_shared.science.pictures.plain import plain_grey

COPIED: Final = (layout.LICENCE, layout.DATASHEET, layout.SHA256SUMS)
MAKER: Final = "SonoShare"
CM_PER_MM: Final = 0.1
_NAMES: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://sonoshare.org/dicom/v1")
_SYNTHESISING: Final = ("109100", "DCM", "Synthesizing Equipment")


def export_dicom(source: Source, destination: Path) -> list[str]:
    """Write the objects of a verified release; the folder appears whole or not at all.

    Args:
        source: the release.
        destination: absent, or an empty folder.

    Returns:
        Paths of the objects in the folder.

    Raises:
        VerificationError: a file of the release changed meanwhile.
        InputError: there is something at the destination.
        OSError: it cannot be written.
    """
    paths: list[str] = []
    with appearing(destination) as building:
        (building / layout.IMAGES).mkdir()
        (building / layout.MASKS).mkdir()
        for picture in source.pictures():
            image = ultrasound(source, picture)
            mask = plain_grey(picture.mask) > 0
            objects = {layout.image_path(picture.about.index): image}
            if mask.any():
                name = f"mask:{picture.about.index}:{picture.about.mask}"
                uids = {part: _uid(source, f"{name}:{part}") for part in ("series", "object", "dimensions")}
                said = segmentation(image, mask, uids, picture.about.mm_per_pixel)
                objects[layout.mask_path(picture.about.index)] = said
            for path, each in objects.items():
                paths.append(path.removesuffix(".png") + ".dcm")
                each.save_as(building / paths[-1], enforce_file_format=True)
        for path in COPIED:
            put(building, path, read_regular(source.folder, path, MAX_DOCUMENT_BYTES))
    return paths


def ultrasound(source: Source, picture: Picture) -> FileDataset:
    """The Ultrasound Image object of one picture."""
    about, pixels = picture.about, plain_grey(picture.image)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(source, f"image:{about.index}:{about.image}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    _describe(image, source, picture)
    if about.mm_per_pixel is not None:
        image.SequenceOfUltrasoundRegions = DicomSequence([_region(pixels.shape, about.mm_per_pixel)])
    _put_pixels(image, pixels)
    return image


def _describe(image: FileDataset, source: Source, picture: Picture) -> None:
    """Everything but the pixels."""
    about, manifest = picture.about, source.manifest
    case = about.index if about.case is None else about.case
    day = f"{manifest.created:%Y%m%d}"
    image.SpecificCharacterSet = "ISO_IR 192"
    image.ImageType = ["DERIVED", "PRIMARY", "BREAST", "0001"]
    image.SyntheticData = "YES"
    image.Modality = "US"
    image.Manufacturer = MAKER
    image.ManufacturerModelName = about.scanner[:64]
    image.PatientID = f"SYN-{manifest.digest()[:12]}-{case:06d}"
    image.PatientName = f"Synthetic^Case {case}"
    image.PatientBirthDate = image.PatientSex = ""
    image.StudyInstanceUID = _uid(source, f"case:{case}")
    image.SeriesInstanceUID = _uid(source, f"case:{case}:images")
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = f"{case}", "", ""
    image.StudyDescription = f"Synthetic breast ultrasound: {manifest.release}"[:64]
    image.StudyDate = image.SeriesDate = image.ContentDate = day
    image.StudyTime = image.SeriesTime = image.ContentTime = "000000"
    image.SeriesNumber, image.InstanceNumber = 1, about.index + 1
    image.BodyPartExamined, image.Laterality, image.PatientOrientation = "BREAST", "", ""
    image.LossyImageCompression = "00"
    image.BurnedInAnnotation = "NO"
    category = birads_of(about.label)
    image.ImageComments = (
        f"Synthetic. Drawn for class {about.label}" + (f", BI-RADS {category}" if category else "") + "."
    )
    image.ContributingEquipmentSequence = DicomSequence([synthesising_equipment(manifest.release)])


def synthesising_equipment(release: str) -> Dataset:
    """What made the picture (PS3.3 C.12.1, Contributing Equipment)."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = _SYNTHESISING
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = DicomSequence([purpose])
    item.Manufacturer = MAKER
    item.ContributionDescription = f"Drawn from a generative model for release {release}"
    return item


def _region(shape: tuple[int, ...], mm_per_pixel: tuple[float, float]) -> Dataset:
    """The calibration of the whole picture (PS3.3 C.8.5.5)."""
    item = Dataset()
    item.RegionSpatialFormat = 1  # 2D
    item.RegionDataType = 1  # tissue
    item.RegionFlags = 0
    item.RegionLocationMinX0 = item.RegionLocationMinY0 = 0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = shape[1] - 1, shape[0] - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3  # centimetres
    item.PhysicalDeltaX, item.PhysicalDeltaY = (value * CM_PER_MM for value in mm_per_pixel)
    return item


def _put_pixels(image: FileDataset, pixels: NDArray[np.uint8]) -> None:
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.UltrasoundColorDataPresent = 0
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    data = pixels.tobytes()
    image.PixelData = data + b"\0" * (len(data) % 2)  # values have even length
    image["PixelData"].VR = "OB"


def _uid(source: Source, name: str) -> UID:
    """A UID of this release's own (PS3.5 B.2, from a name-based UUID)."""
    return UID(f"2.25.{uuid.uuid5(_NAMES, f'{source.manifest.digest()}:{name}').int}")
