"""Public labelled pictures for the training of a base model, and the digests that name them.

For pictures that anybody may have: what is trained here is charged to no ledger, so a hospital's patients must never
come this way. Nothing in a folder can prove that it is public; whoever runs the command answers for it.

Promises: classes are those of the base (benign, malignant, normal), another is refused; scanners are absent, so that a
study's scanners still start neutral. A source's digest covers every picture and mask file, class and box, in the order
of the table: the same files under other names have the same digest. Its licence is what the folder says of itself: the
first line of its licence file and that file's digest, or that there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_file, sha256_hex
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.label_table import LabelTable
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.model.base_batches import PUBLIC_SCALE, PublicPart
from sonoshare_shared.science.model.base_pictures import CLASSES, BasePictures, joined
from sonoshare_shared.science.model.conditions import ABSENT

_LICENCE_FILES: Final = ("LICENSE.txt", "LICENSE", "LICENSE.md", "LICENCE.txt", "LICENCE", "LICENCE.md")
_NO_LICENCE: Final = "none stated in the folder"
_MOST_LINE: Final = 120


@dataclass(frozen=True)
class Source:
    """A set of public pictures, as a base file's header and the model card name it.

    Attributes:
        name: of its folder.
        licence: first line of its licence file.
        licence_sha256: of that file; None where there is none.
        pictures: how many.
        patients: how many the table names.
        sha256: see the module's contract.
        weight: relative to that of other sources: how often its pictures are drawn in all.
    """

    name: str
    licence: str
    licence_sha256: str | None
    pictures: int
    patients: int
    sha256: str
    weight: float


@dataclass(frozen=True)
class PublicImages:
    """A source and its pictures, at `PUBLIC_SCALE` times the side of the model's grid."""

    source: Source
    pictures: BasePictures


def read_public_images(path: Path, size: int, weight: float | None = None) -> PublicImages:
    """Read a folder (or CSV) of labelled pictures.

    Args:
        path: as `read_labels` takes it.
        size: side of the model's grid, px.
        weight: of the source; None takes its number of pictures, so that every picture of every source counts alike.

    Raises:
        InputError: as `read_labels` and `load_labelled`.
    """
    table = read_labels(path, CLASSES)
    found = load_labelled(table, PUBLIC_SCALE * size, CLASSES)
    pictures = BasePictures(
        images=torch.from_numpy(eight_bits(found.images)),
        masks=torch.from_numpy(found.masks),
        boxes=torch.from_numpy(found.boxes),
        labels=torch.from_numpy(found.labels),
        scanners=torch.full((len(found),), ABSENT),
        has_mask=torch.tensor([bool(row.masks) for row in table]),
    )
    licence, licence_digest = _licence(table.folder)
    source = Source(
        name=table.folder.resolve().name,
        licence=licence,
        licence_sha256=licence_digest,
        pictures=len(table),
        patients=len(table.patients),
        sha256=_digest(table),
        weight=float(len(table)) if weight is None else weight,
    )
    return PublicImages(source, pictures)


def public_part(sources: Sequence[PublicImages]) -> PublicPart | None:
    """All sources as one set of pictures with their chances; None where there is no source.

    Raises:
        InputError: two sources are the same files.
    """
    if not sources:
        return None
    if len({each.source.sha256 for each in sources}) < len(sources):
        raise InputError("two sources of public pictures are the same", remedy="name each once, with its weight")
    total = sum(each.source.weight for each in sources)
    chances = [
        torch.full((len(each.pictures),), each.source.weight / total / len(each.pictures), dtype=torch.float64)
        for each in sources
    ]
    return PublicPart(joined([each.pictures for each in sources]), torch.cat(chances))


def described(sources: Sequence[PublicImages]) -> list[dict[str, Any]]:
    """The sources as JSON."""
    return [dict(vars(each.source)) for each in sources]


def _licence(folder: Path) -> tuple[str, str | None]:
    for name in _LICENCE_FILES:
        path = folder / name
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            first = next((line.strip() for line in lines if line.strip()), _NO_LICENCE)
            return "".join(c for c in first if c.isprintable())[:_MOST_LINE], sha256_file(path)
    return _NO_LICENCE, None


def _digest(table: LabelTable) -> str:
    rows = [
        [
            sha256_file(row.image),
            # One or none stands as it always did, so that a base keeps its digest.
            _one_or_all([sha256_file(mask) for mask in row.masks]),
            row.label,
            _one_or_all([list(box) for box in row.boxes]),
        ]
        for row in table
    ]
    return sha256_hex(canonical_bytes(rows))


def _one_or_all(values: Sequence[Any]) -> Any:
    return (values[0] if values else None) if len(values) < 2 else list(values)
