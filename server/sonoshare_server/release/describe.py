"""Machine-readable description of a release: metadata.csv (imagefolder layout), Croissant 1.0, and the licence."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from sonoshare_server.release.facts import DATA_LICENCE, Facts
from sonoshare_shared.protocol.documents import PrivacyStatement, StudyPlan
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate, CandidateImage

_LICENCE_TEXT: Final = """\
SonoShare data licence, version 1.0 ({licence})

1. What this is. Synthetic breast-ultrasound images, masks and descriptions, drawn from a generative model that was
   trained under differential privacy inside hospitals. No image is a picture of a patient.
2. You may use, copy, adapt and share them for health, medical and biomedical research and education, and train and
   publish models with them, provided that you
   a. say that the images are synthetic wherever you show or pass them on,
   b. name the release and the consortium, and pass on this text,
   c. do not try to learn anything about a patient or to single one out, by any means, and tell the consortium if you
      believe that one can be,
   d. do not diagnose, treat or triage patients with them alone, and
   e. stop distributing a release that its consortium has revoked.
3. They come as they are, without any warranty; nobody who made them is liable for what follows from their use.
4. The licence ends for whoever breaks it.
"""


@dataclass(frozen=True)
class Description:
    """Everything that the files of a release say, in one value.

    Attributes:
        candidate: what was audited.
        kept: the images that are released, in the order of their indices.
        plan: the study plan.
        privacy: what is promised.
        facts: what the builder knows besides.
    """

    candidate: Candidate
    kept: tuple[CandidateImage, ...]
    plan: StudyPlan
    privacy: PrivacyStatement
    facts: Facts

    @cached_property
    def counts(self) -> dict[str, int]:
        """Released images by class; every class of the task is named."""
        labels = [image.label for image in self.kept]
        return {name: labels.count(name) for name in self.plan.task.classes}

    @cached_property
    def scanners(self) -> dict[str, int]:
        """Released images by scanner style, those that occur."""
        names = [image.scanner for image in self.kept]
        return {name: names.count(name) for name in sorted(set(names))}

    @property
    def vetoed(self) -> int:
        """Images of the candidate that are not in the release."""
        return len(self.candidate.images) - len(self.kept)


def metadata_csv(images: Sequence[CandidateImage], seed: int) -> bytes:
    """The table of some images of a candidate; box columns are empty where there is no lesion."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(layout.METADATA_COLUMNS)
    for image in images:
        box = [f"{value:g}" for value in image.box] if image.box is not None else [""] * 4
        path, mask = layout.image_path(image.index), layout.mask_path(image.index)
        writer.writerow([path, image.label, image.scanner, *box, mask, image.index, seed])
    return text.getvalue().encode()


def croissant(description: Description, metadata_digest: str) -> bytes:
    """The Croissant description: metadata.csv joined to images and masks by path."""
    facts, candidate = description.facts, description.candidate
    value = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": candidate.release,
        "description": f"{facts.title}. Synthetic breast-ultrasound images with class, lesion box and lesion mask.",
        "url": f"https://sonoshare.org/releases/{candidate.release}",
        "license": facts.licence,
        "version": f"1.0.{facts.sequence}",
        "datePublished": facts.created.date().isoformat(),
        "citeAs": f"{facts.consortium}: {candidate.release} (synthetic breast ultrasound)",
        "keywords": ["breast ultrasound", "synthetic data", "differential privacy", description.plan.task.name],
        "creator": {"@type": "sc:Organization", "name": facts.consortium},
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "metadata",
                "name": "metadata",
                "contentUrl": layout.METADATA,
                "encodingFormat": "text/csv",
                "sha256": metadata_digest,
            },
            _file_set("image-files", "Synthetic images, 8-bit greyscale", layout.IMAGES),
            _file_set("mask-files", "Lesion masks, 0 or 255", layout.MASKS),
        ],
        "recordSet": [
            _picture_set("images", "image", "file_name", "image-files"),
            _picture_set("masks", "mask", "mask_file_name", "mask-files"),
            _samples_set(),
        ],
    }
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def licence_text(facts: Facts) -> bytes:
    """The licence's words, or for another licence its SPDX identifier and where to read it."""
    if facts.licence == DATA_LICENCE:
        return _LICENCE_TEXT.format(licence=facts.licence).encode()
    return f"Licence of the data: {facts.licence}\nIts text: https://spdx.org/licenses/{facts.licence}.html\n".encode()


def _file_set(identifier: str, description: str, folder: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": identifier,
        "name": identifier,
        "description": description,
        "encodingFormat": "image/png",
        "includes": f"{folder}/*.png",
    }


def _picture_set(name: str, picture: str, key: str, files: str) -> dict[str, Any]:
    def field(field_name: str, kind: str, file_property: str) -> dict[str, Any]:
        source = {"fileSet": {"@id": files}, "extract": {"fileProperty": file_property}}
        identifier = f"{name}/{field_name}"
        return {"@type": "cr:Field", "@id": identifier, "name": field_name, "dataType": kind, "source": source}

    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"Every {picture} by its path.",
        "key": {"@id": f"{name}/{key}"},
        "field": [field(key, "sc:Text", "fullpath"), field(picture, "sc:ImageObject", "content")],
    }


def _samples_set() -> dict[str, Any]:
    numbers = {"x": "sc:Float", "y": "sc:Float", "w": "sc:Float", "h": "sc:Float"}
    kinds = numbers | {"index": "sc:Integer", "seed": "sc:Integer"}
    references = {"file_name": "images/file_name", "mask_file_name": "masks/mask_file_name"}
    fields: list[dict[str, Any]] = []
    for column in layout.METADATA_COLUMNS:
        field: dict[str, Any] = {
            "@type": "cr:Field",
            "@id": f"samples/{column}",
            "name": column,
            "description": _COLUMNS[column],
            "dataType": kinds.get(column, "sc:Text"),
            "source": {"fileObject": {"@id": "metadata"}, "extract": {"column": column}},
        }
        if column in references:
            field["references"] = {"field": {"@id": references[column]}}
        fields.append(field)
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One record an image.",
        "key": {"@id": "samples/file_name"},
        "field": fields,
    }


_COLUMNS: Final = {
    "file_name": "Path of the image.",
    "label": "Class that the image was drawn for.",
    "scanner": "Scanner style that the image was drawn for, or unknown.",
    "x": "Left edge of the lesion box in pixels; empty without a lesion.",
    "y": "Top edge of the lesion box in pixels.",
    "w": "Width of the lesion box in pixels.",
    "h": "Height of the lesion box in pixels.",
    "mask_file_name": "Path of the lesion mask.",
    "index": "Position in the sampler's order; with the seed it determines the image.",
    "seed": "Seed of the draws.",
}

# The context of Croissant 1.0, word for word: validators compare it.
_CONTEXT: Final[dict[str, Any]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
