"""By what a DICOM header names itself: digests of its identifiers, for joining tables that come from another system.

Promises: what leaves this module is SHA-256 digests of four identifiers, and the patient's identifier in its one form
(identifiers.py), only where it is asked for. Pixels are not read. Digests serve to compare within one intake; they hide
nothing from who can guess an accession number, and are never kept.

The patient is PatientID alone. Its issuer is left out: two systems' ``17`` then are one patient here, which costs
weight; one person under two identifiers would cost privacy.
"""

import hashlib
from dataclasses import dataclass
from typing import BinaryIO, Final

from sonoshare_shared.science.identifiers import normal, unseen
from sonoshare_shared.science.pictures.bounds import Bounds
from sonoshare_shared.science.pictures.reasons import as_reasons

KEYS: Final = {
    "sop": "SOPInstanceUID",
    "series": "SeriesInstanceUID",
    "study": "StudyInstanceUID",
    "accession": "AccessionNumber",
}
"""Columns of a table and the attributes that they name, from one object to many."""
LONGEST: Final = 64
"""Characters of a PatientID (VR LO)."""


@dataclass(frozen=True)
class Identity:
    """What a file is called.

    Attributes:
        digests: by the keys of ``KEYS``; without those that the header lacks, and empty for a PNG or JPEG.
        patient: in its one form; empty where it was not asked for, is missing, or holds what nobody sees.
    """

    digests: dict[str, str]
    patient: str = ""


def key_digest(key: str, identifier: str) -> str:
    """SHA-256 of an identifier in its one form, 64 hexadecimal characters."""
    return hashlib.sha256(f"{key}\0{normal(identifier)}".encode()).hexdigest()


def read_identity(file: BinaryIO, bounds: Bounds, *, patient: bool) -> Identity:
    """Read what a file is called; `Refused` for a file that cannot be read, of whatever format.

    Args:
        file: at its start.
        bounds: what it may be.
        patient: whether the patient is asked for.
    """
    from sonoshare_shared.science.pictures.dicom import open_header  # noqa: PLC0415 - an optional extra, slow to import

    start = file.read(132)
    file.seek(0)
    if start[128:] != b"DICM":
        return Identity({})
    with as_reasons():
        header = open_header(file, bounds, [*KEYS.values(), "PatientID"])
        texts = {name: str(header.get(name) or "").strip("\0 ") for name in (*KEYS.values(), "PatientID")}
    digests = {key: key_digest(key, texts[name]) for key, name in KEYS.items() if normal(texts[name])}
    return Identity(digests, _named(texts["PatientID"]) if patient else "")


def _named(identifier: str) -> str:
    named = normal(identifier)
    return "" if unseen(identifier) or len(named) > LONGEST else named
