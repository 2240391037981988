"""Public labelled pictures for the training of a base model, and the digest that names them.

For pictures that anybody may have: what is trained here is charged to no ledger, so a hospital's patients must never
come this way. Nothing in a folder can prove that it is public; whoever runs the command answers for it.

Promises: classes are those of the base (benign, malignant, normal), another is refused; scanners are absent, so that a
study's scanners still start neutral. The digest covers every picture and mask file, class and box, in the order of the
table: the same files under other names have the same digest.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_file, sha256_hex
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.labels import LabelTable, read_labels
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.model.base_pictures import CLASSES, BasePictures
from sonoshare_shared.science.model.conditions import ABSENT


@dataclass(frozen=True)
class PublicImages:
    """Pictures on the model's grid.

    Attributes:
        pictures: the training set.
        patients: how many patients the table names.
        digest: sha256, see the module's contract.
    """

    pictures: BasePictures
    patients: int
    digest: str


def read_public_images(path: Path, size: int) -> PublicImages:
    """Read a folder (or CSV) of labelled pictures.

    Args:
        path: as `read_labels` takes it.
        size: side of the grid, px.

    Raises:
        InputError: as `read_labels` and `load_labelled`.
    """
    table = read_labels(path, CLASSES)
    found = load_labelled(table, size, CLASSES)
    pictures = BasePictures(
        images=torch.from_numpy(eight_bits(found.images)),
        masks=torch.from_numpy(found.masks),
        boxes=torch.from_numpy(found.boxes),
        labels=torch.from_numpy(found.labels),
        scanners=torch.full((len(found),), ABSENT),
        has_mask=torch.tensor([row.mask is not None for row in table]),
    )
    return PublicImages(pictures, len(table.patients), _digest(table))


def _digest(table: LabelTable) -> str:
    rows = [
        [
            sha256_file(row.image),
            None if row.mask is None else sha256_file(row.mask),
            row.label,
            None if row.box is None else list(row.box),
        ]
        for row in table
    ]
    return sha256_hex(canonical_bytes(rows))
