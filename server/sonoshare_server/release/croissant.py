"""``croissant.json``: the release for tools that read Croissant 1.0, with the words of Croissant RAI 1.0.

Record sets: ``samples`` (one record an image, of metadata.csv), ``images`` and ``masks`` (by path), ``labels`` (the
task's classes) and, where the table says splits, ``splits``. The responsible-AI words are those of the datasheet, in
short: how the images came about, what they are good for, and what is not known about them.
"""

import json
from typing import Any, Final

from sonoshare_server.release.describe import Description
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.table import SPLITS, TEST, TRAIN, VALIDATION, columns_of

CONFORMS_TO: Final = ("http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0")
_SPLIT_URLS: Final = {TRAIN: "cr:TrainingSplit", VALIDATION: "cr:ValidationSplit", TEST: "cr:TestSplit"}


def croissant(description: Description, metadata_digest: str) -> bytes:
    """The Croissant description: metadata.csv joined to images and masks by path."""
    facts, candidate = description.facts, description.candidate
    value = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": candidate.release,
        "description": f"{facts.title}. Synthetic breast-ultrasound images with class, lesion box and lesion mask.",
        "url": f"https://sonoshare.org/releases/{candidate.release}",
        "license": facts.licence,
        "version": f"1.0.{facts.sequence}",
        "datePublished": facts.created.date().isoformat(),
        "citeAs": f"{facts.consortium}: {candidate.release} (synthetic breast ultrasound)",
        "keywords": ["breast ultrasound", "synthetic data", "differential privacy", description.plan.task.name],
        "creator": {"@type": "sc:Organization", "name": facts.consortium},
        **_responsible(description),
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
            _labels_set(description),
            *([_splits_set()] if candidate.has_cases else []),
            _samples_set(columns_of(candidate)),
        ],
    }
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _responsible(description: Description) -> dict[str, Any]:
    """The properties of Croissant RAI 1.0 that apply to a synthetic set."""
    privacy, facts, plan = description.privacy, description.facts, description.plan
    refined = plan.release.start == "phantom"
    pictures = "a simulated picture that the model refined" if refined else "noise, under a simulated picture's class"
    masks = "are exact outlines in the simulated picture" if refined else "were drawn by the model with the image"
    told = "are told in the utility report" if facts.utility else "were not measured"
    return {
        "rai:dataCollection": (
            f"Nothing was collected for this set. Each image was drawn from {pictures}; the model was fine-tuned "
            f"inside {len(privacy.hospitals)} hospitals under differential privacy, and no patient's picture left them."
        ),
        "rai:dataCollectionType": ["Synthetic"],
        "rai:dataPreprocessingProtocol": [
            "Drawn at its final size; stored as 8-bit greyscale PNG without further steps."
        ],
        "rai:dataManipulationProtocol": (
            f"{description.vetoed} of {len(description.candidate.images)} images were dropped after the hospitals' "
            "private audits."
        ),
        "rai:dataAnnotationProtocol": (
            f"No person annotated it: class and scanner are what the image was drawn for, masks and boxes {masks}."
        ),
        "rai:dataBiases": [
            "Classes are balanced by design and do not occur so often among patients.",
            "What a simulator and a few hospitals do not show is not in it; age, ancestry and history are unknown.",
        ],
        "rai:dataLimitations": [
            "No image shows a patient, and no diagnosis may rest on one.",
            f"What models gain that train on it, and how much differs from real images, {told}.",
            "Millimetres per pixel are the simulation's, before the model refined it.",
        ],
        "rai:dataUseCases": ["Training and testing of methods for breast ultrasound, teaching, software tests."],
        "rai:dataSocialImpact": (
            "Lets others work on breast ultrasound without patients' pictures. Models that are trained on it have to "
            "be tested on real patients before they are used."
        ),
        "rai:personalSensitiveInformation": [_promise(description)],
        "rai:dataReleaseMaintenancePlan": (
            "Releases are not changed. One that is taken back is named in the consortium's transparency log."
        ),
    }


def _promise(description: Description) -> str:
    privacy = description.privacy
    shared = "" if privacy.honest is None else f" as long as {privacy.honest} hospitals of every sum are honest"
    return (
        f"None by design: (epsilon {privacy.epsilon:.3f}, delta {privacy.delta:.1e})-differential privacy for a "
        f"patient with all images, at each hospital{shared}; audited by every hospital (privacy-report.json)."
    )


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


def _labels_set(description: Description) -> dict[str, Any]:
    names = description.plan.task.classes
    return {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": description.plan.task.question,
        "dataType": "sc:Enumeration",
        "key": {"@id": "labels/name"},
        "field": [_text("labels", "name", "Name of the class.")],
        "data": [{"labels/name": name} for name in names],
    }


def _splits_set() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "Of ten simulated cases of a class one is for validation and one for tests.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            _text("splits", "name", "Name of the split."),
            _text("splits", "url", "What the split is for, in Croissant's words.") | {"dataType": "sc:URL"},
        ],
        "data": [{"splits/name": name, "splits/url": _SPLIT_URLS[name]} for name in SPLITS],
    }


def _text(record_set: str, name: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "description": description,
        "dataType": "sc:Text",
    }


def _samples_set(columns: tuple[str, ...]) -> dict[str, Any]:
    fields: list[dict[str, Any]] = []
    for column in columns:
        field = _text("samples", column, _COLUMNS[column]) | {
            "dataType": _KINDS.get(column, "sc:Text"),
            "source": {"fileObject": {"@id": "metadata"}, "extract": {"column": column}},
        }
        if column in _REFERENCES:
            field["references"] = {"field": {"@id": _REFERENCES[column]}}
        fields.append(field)
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One record an image.",
        "key": {"@id": "samples/file_name"},
        "field": fields,
    }


_REFERENCES: Final = {
    "file_name": "images/file_name",
    "mask_file_name": "masks/mask_file_name",
    "label": "labels/name",
    "split": "splits/name",
}
_KINDS: Final = {
    **dict.fromkeys(("x", "y", "w", "h", "mm_per_pixel_x", "mm_per_pixel_y"), "sc:Float"),
    **dict.fromkeys(("index", "seed", "case"), "sc:Integer"),
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
    "case": "Simulated breast that the image was drawn from; images of one case are in one split.",
    "split": "train, validation or test.",
    "birads": "BI-RADS category where the classes are categories; else empty.",
    "mm_per_pixel_x": "Millimetres of a pixel across, as simulated; empty where unknown.",
    "mm_per_pixel_y": "Millimetres of a pixel in depth, as simulated; empty where unknown.",
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
