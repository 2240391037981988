"""After intake, before anything is trained or audited: does one person stand under two identifiers?

New images are compared with all images of other patients (``sonoshare_privacy.audits.twins``); found pairs are kept in
the vault, and patients of undecided pairs are held back (``sonoshare_client.vault.hold_back``). What was compared is
recorded with what was found in one transaction: an intake that was killed in between compares again. A patient with a
picture that was not compared joins no study.

A search that had to stop while it still found pairs records them and nothing as compared: the new pictures' patients
wait. The next comparison passes over what was found and goes on.

Everything here stays at the hospital. A pair says that two of its patients look alike; no charge covers that.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image

from sonoshare_client.vault.store import ImageRef, TwinRecord, Vault
from sonoshare_client.vault.writer import VaultWriter
from sonoshare_privacy.audits.twins import Search, find_twins
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.imaging import to_grid

GRID_PX: Final = 64
_PICTURE_PX: Final = 384
_GAP_PX: Final = 16


def compare_new(
    vault: Vault, writer: VaultWriter, same: Sequence[tuple[str, str]] = (), device: torch.device = CPU
) -> None:
    """Compare what has not been compared yet, and record it.

    Args:
        vault: the hospital's images.
        writer: its only writer.
        same: blobs whose very picture came again under another pseudonym, and that pseudonym; the picture was not
            kept twice, but the other patient's further pictures are as suspicious.
        device: where pictures are compared.

    Raises:
        InputError: the disk is full.
    """
    images, done = vault.images(), vault.compared()
    if not images or (done == len(images) and not same):
        return
    came = {name: place for place, name in enumerate(dict.fromkeys(ref.pseudonym for ref in images))}
    decided = {frozenset((twin.first.pseudonym, twin.second.pseudonym)) for twin in vault.twins()}
    search = _alike(vault, images, done, came, device)
    found = []
    looked_at = ((images[twin.first], images[twin.second], twin.score) for twin in search.twins)
    for one, other, score in [*_same(images, same), *looked_at]:
        people = frozenset((one.pseudonym, other.pseudonym))
        if people not in decided:
            decided.add(people)
            first, second = sorted((one, other), key=lambda ref: came[ref.pseudonym])
            found.append((first.blob, second.blob, score))
    writer.record_twins(found, last=images[-1].blob if search.complete else None)


def _same(images: Sequence[ImageRef], same: Sequence[tuple[str, str]]) -> Iterator[tuple[ImageRef, ImageRef, float]]:
    by_blob, of_patient = {ref.blob: ref for ref in images}, {ref.pseudonym: ref for ref in reversed(images)}
    for blob, pseudonym in same:
        if blob in by_blob and pseudonym in of_patient:
            yield by_blob[blob], of_patient[pseudonym], 1.0


def _alike(
    vault: Vault, images: Sequence[ImageRef], done: int, came: Mapping[str, int], device: torch.device
) -> Search:
    if done == len(images):
        return Search((), complete=True)
    grids = np.stack([to_grid(vault.load(ref).pixels, GRID_PX) for ref in images])
    owners = np.array([came[ref.pseudonym] for ref in images], dtype=np.int64)
    known = [sorted((came[twin.first.pseudonym], came[twin.second.pseudonym])) for twin in vault.twins()]
    pairs = [(one, other) for one, other in known]
    return find_twins(grids, owners, np.arange(len(images)) >= done, device, known=pairs)


def draw_pair(vault: Vault, twin: TwinRecord, path: Path) -> None:
    """Write both pictures of a pair side by side as a PNG, for the eyes of the hospital.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        pair_picture(vault, twin).save(path, format="PNG")
    except OSError as error:
        raise InputError(f"cannot write {path.name}: {error.strerror}", remedy="choose another folder") from error


def pair_picture(vault: Vault, twin: TwinRecord) -> Image.Image:
    """Both pictures of a pair side by side, grey."""
    sheet = Image.new("L", (2 * _PICTURE_PX + _GAP_PX, _PICTURE_PX), 255)
    for place, ref in enumerate((twin.first, twin.second)):
        sheet.paste(_shown(vault, ref), (place * (_PICTURE_PX + _GAP_PX), 0))
    return sheet


def _shown(vault: Vault, ref: ImageRef) -> Image.Image:
    return Image.fromarray(vault.load(ref).pixels).resize((_PICTURE_PX, _PICTURE_PX))
