"""Simulated patients as DICOM ultrasound studies: an archive to try intake, de-identification and the demo on.

Each object is a valid *Ultrasound Image Storage* instance (explicit VR little endian, monochrome or RGB), with the
B-mode picture inside a larger screen, a ``SequenceOfUltrasoundRegions`` around it, and everything that makes real
archives hard to share: a name, hospital and date burned into the pixels (outside the region only), identities in
standard, nested and private attributes. Identities are invented (module ``identities``).

Promises
- The same arguments give the same bytes.
- ``labels.csv`` beside the objects follows the one format of the project; masks are PNGs of the whole screen, boxes in
  its pixels.
- Inside the region there is no text and no mark.

Not promised: realism of the screen around the picture. Importing this module needs pydicom (extras client or server).
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.imaging import box_of_mask, save_png
from sonoshare_shared.science.labels import LABELS_FILE, OPTIONAL, REQUIRED
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.phantom.identities import Identity, invent_identity
from sonoshare_shared.science.phantom.scanners import SCANNER_STYLES
from sonoshare_shared.science.phantom.simulator import CLASSES, Phantom, Recipe, simulate_one

HEADER_PX, FOOTER_PX, LEFT_PX, RIGHT_PX = 44, 28, 24, 56
"""Screen around the picture, where the machine writes."""
COLOUR_SCANNERS = (1, 3)
"""Scanners that store RGB; the others store monochrome."""
VIEWS_PER_PATIENT = 8
"""Positions in the simulator's series kept for each patient."""
CM_PER_MM = 0.1
PRIVATE_GROUP = 0x0077


@dataclass(frozen=True)
class _Screen:
    """What the machine showed: grey screen [H, W], mask of its size, and the picture's place (x, y, width, height)."""

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    region: tuple[int, int, int, int]


@dataclass(frozen=True)
class _Exam:
    """One patient's visit."""

    identity: Identity
    hospital: str
    day: date
    kind: str
    scanner: int
    views: int
    number: int


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(11)


def _screen(phantom: Phantom, exam: _Exam, width: int) -> _Screen:
    """Place the picture on the machine's screen and write the patient's data around it."""
    height = round(width * phantom.size_mm[1] / phantom.size_mm[0])
    grey = Image.fromarray(eight_bits(phantom.image))
    shape = (HEADER_PX + height + FOOTER_PX, LEFT_PX + width + RIGHT_PX)
    screen = Image.new("L", (shape[1], shape[0]), 0)
    screen.paste(grey.resize((width, height), Image.Resampling.BICUBIC), (LEFT_PX, HEADER_PX))
    pen, who = ImageDraw.Draw(screen), exam.identity
    pen.text((6, 4), f"{who.last_name}, {who.first_name}   {who.patient_id}", fill=235, font=_font())
    pen.text((6, 20), f"{exam.hospital}   {exam.day:%d/%m/%Y}   {who.birth:%d/%m/%Y}", fill=200, font=_font())
    settings = f"{SCANNER_STYLES[exam.scanner].name}   {phantom.size_mm[1] / 10:.1f} cm"
    pen.text((6, HEADER_PX + height + 8), settings, fill=180, font=_font())
    outline = Image.fromarray(phantom.mask.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    mask = np.zeros(shape, dtype=bool)
    mask[HEADER_PX : HEADER_PX + height, LEFT_PX : LEFT_PX + width] = np.asarray(outline) > 0.5
    return _Screen(np.asarray(screen, dtype=np.uint8), mask, (LEFT_PX, HEADER_PX, width, height))


def _region(screen: _Screen, size_mm: tuple[float, float]) -> Dataset:
    """The US Region Calibration item around the B-mode picture (PS3.3 C.8.5.5)."""
    x, y, width, height = screen.region
    item = Dataset()
    item.RegionSpatialFormat = 1  # 2D
    item.RegionDataType = 1  # tissue
    item.RegionFlags = 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x, y
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x + width - 1, y + height - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3  # centimetres
    item.PhysicalDeltaX = size_mm[0] * CM_PER_MM / width
    item.PhysicalDeltaY = size_mm[1] * CM_PER_MM / height
    return item


def _patient_attributes(dataset: Dataset, exam: _Exam) -> None:
    who = exam.identity
    dataset.PatientName = who.person_name
    dataset.PatientID = who.patient_id
    dataset.PatientBirthDate = f"{who.birth:%Y%m%d}"
    dataset.PatientSex = "F"
    dataset.PatientAge = f"{(exam.day - who.birth).days // 365:03d}Y"
    dataset.PatientAddress = who.address
    dataset.PatientTelephoneNumbers = who.phone
    dataset.InstitutionName = exam.hospital
    dataset.ReferringPhysicianName = who.physician
    dataset.OperatorsName = who.operator
    dataset.StudyDescription = f"Breast ultrasound {who.last_name}"
    request = Dataset()
    request.RequestedProcedureDescription = f"US breast for {who.first_name} {who.last_name}"
    request.ScheduledProcedureStepID = who.patient_id
    dataset.RequestAttributesSequence = DicomSequence([request])
    block = dataset.private_block(PRIVATE_GROUP, "SONOSHARE PHANTOM", create=True)
    block.add_new(0x01, "LO", f"{who.last_name} {who.first_name}")
    block.add_new(0x02, "ST", who.address)
    block.add_new(0x03, "UN", who.patient_id.encode("ascii"))


def _study_attributes(dataset: Dataset, exam: _Exam, seed: int, view: int) -> None:
    style = SCANNER_STYLES[exam.scanner]
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "BREAST", "0001"]
    dataset.Modality = "US"
    dataset.Manufacturer = "SonoShare fictional scanners"
    dataset.ManufacturerModelName = style.name
    dataset.DeviceSerialNumber = f"SN{exam.scanner:02d}{exam.number % 7:03d}"
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[f"{seed}", f"{exam.number}", "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[f"{seed}", f"{exam.number}", "series"])
    dataset.StudyID = f"{exam.number + 1}"
    dataset.AccessionNumber = f"ACC{exam.number:06d}"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = f"{exam.day:%Y%m%d}"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = f"{8 + exam.number % 10:02d}{10 + view:02d}00"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = view + 1
    dataset.BodyPartExamined = "BREAST"
    dataset.Laterality = "L"
    dataset.PatientOrientation = ""
    dataset.LossyImageCompression = "00"


def _pixels(dataset: Dataset, screen: _Screen, *, colour: bool) -> None:
    pixels = np.repeat(screen.pixels[:, :, None], 3, axis=2) if colour else screen.pixels
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.UltrasoundColorDataPresent = 0  # grey levels, whatever the encoding
    dataset.Rows, dataset.Columns = screen.pixels.shape
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    data = pixels.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)  # values have even length
    dataset["PixelData"].VR = "OB"


def _object(exam: _Exam, screen: _Screen, size_mm: tuple[float, float], *, seed: int, view: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[f"{seed}", f"{exam.number}", f"image {view}"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    _study_attributes(dataset, exam, seed, view)
    _patient_attributes(dataset, exam)
    dataset.SequenceOfUltrasoundRegions = DicomSequence([_region(screen, size_mm)])
    _pixels(dataset, screen, colour=exam.scanner in COLOUR_SCANNERS)
    return dataset


def _mask_box(mask: NDArray[np.bool_]) -> str:
    """Bounding box ``x,y,w,h`` in pixels, blank for a normal picture."""
    return ",".join(f"{number:g}" for number in box_of_mask(mask) or ())


def _write_view(folder: Path, exam: _Exam, *, seed: int, view: int, width: int) -> dict[str, str]:
    """Write one object and its mask; return its row of ``labels.csv``."""
    index = exam.number * VIEWS_PER_PATIENT + view
    phantom = simulate_one(Recipe(index, exam.kind, exam.scanner), seed=seed, overlays=False)
    screen = _screen(phantom, exam, width)
    image, mask = f"studies/{exam.number + 1:05d}/{view + 1}.dcm", f"masks/{exam.number + 1:05d}-{view + 1}.png"
    (folder / image).parent.mkdir(parents=True, exist_ok=True)
    _object(exam, screen, phantom.size_mm, seed=seed, view=view).save_as(folder / image, enforce_file_format=True)
    save_png(folder / mask, screen.mask)
    return {
        "image": image,
        "patient": exam.identity.patient_id,
        "label": exam.kind,
        "device": SCANNER_STYLES[exam.scanner].name,
        "mask": mask,
        "box": _mask_box(screen.mask),
        "hospital": exam.hospital,
    }


def write_studies(
    folder: Path,
    *,
    patients: int,
    seed: int,
    images_per_patient: tuple[int, int] = (1, 2),
    size: int = 320,
    classes: Sequence[str] = ("benign", "malignant"),
    hospitals: Sequence[str] = ("north", "south", "west"),
    scanner_mix: Sequence[Sequence[float]] | None = None,
) -> Path:
    """Write simulated patients as DICOM studies with labels.

    Args:
        folder: where to write; created, must hold no ``labels.csv``.
        patients: number of patients, at least 1.
        seed: seed of patients, pictures and identities.
        images_per_patient: fewest and most pictures a patient has, 1 to 8.
        size: width of the B-mode picture in pixels; the screen around it is 80 wider and 72 higher.
        classes: classes that take turns over patients.
        hospitals: hospitals that patients are assigned to in equal shares.
        scanner_mix: for each hospital the weights of the four scanners; by default each hospital has a favourite.

    Returns:
        Path of ``labels.csv``.

    Raises:
        InputError: for arguments that make no archive.
    """
    _require_possible(patients, images_per_patient, size, classes)
    if (folder / LABELS_FILE).exists():
        raise InputError(f"folder {folder.name} already holds {LABELS_FILE}", remedy="choose an empty folder")
    mix = _scanner_weights(hospitals, scanner_mix)
    fewest, most = images_per_patient
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    for number in range(patients):
        # A stream of its own for each patient: more patients do not change the earlier ones.
        rng = np.random.default_rng(np.random.SeedSequence((seed, number, 3)))
        # Turns are arranged so that every hospital sees every class.
        place = number // len(classes) % len(hospitals)
        exam = _Exam(
            identity=invent_identity(rng, number),
            hospital=hospitals[place],
            day=date(2019, 1, 1) + timedelta(days=int(rng.integers(0, 2000))),
            kind=classes[number % len(classes)],
            scanner=int(rng.choice(len(SCANNER_STYLES), p=mix[place] / mix[place].sum())),
            views=int(rng.integers(fewest, most + 1)),
            number=number,
        )
        rows += [_write_view(folder, exam, seed=seed, view=view, width=size) for view in range(exam.views)]
    return _write_labels(folder / LABELS_FILE, rows)


def _require_possible(patients: int, images: tuple[int, int], size: int, classes: Sequence[str]) -> None:
    fewest, most = images
    if patients < 1 or not 1 <= fewest <= most <= VIEWS_PER_PATIENT:
        raise InputError(
            f"no archive of {patients} patients with {fewest} to {most} images each",
            remedy=f"give at least 1 patient and 1 to {VIEWS_PER_PATIENT} images each",
        )
    if not 64 <= size <= 2048:
        raise InputError(f"a picture cannot be {size} pixels wide here", remedy="use 64 to 2048")
    if not classes or not set(classes) <= set(CLASSES):
        raise InputError("a class is not understood", remedy=f"use some of {', '.join(CLASSES)}")


def _scanner_weights(hospitals: Sequence[str], mix: Sequence[Sequence[float]] | None) -> NDArray[np.float64]:
    """Weights [hospitals, scanners]; by default seven in ten pictures come from the hospital's favourite scanner."""
    scanners = len(SCANNER_STYLES)
    if not hospitals:
        raise InputError("no hospital is named", remedy="name at least one")
    if mix is None:
        weights = np.full((len(hospitals), scanners), 0.3 / (scanners - 1))
        weights[np.arange(len(hospitals)), np.arange(len(hospitals)) % scanners] = 0.7
        return weights
    weights = np.asarray(mix, dtype=np.float64)
    if weights.shape != (len(hospitals), scanners) or weights.min() < 0.0 or weights.sum(axis=1).min() <= 0.0:
        raise InputError("the scanner mix has the wrong form", remedy=f"give {scanners} weights for each hospital")
    return weights


def _write_labels(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=[*REQUIRED, *OPTIONAL], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
    return path
