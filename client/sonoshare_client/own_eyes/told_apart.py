"""Can a classifier tell a folder's synthetic images from this hospital's patients? For its own eyes. NOT private.

The shortcut test of ``sonoshare evaluate shortcut`` on the vault: a small CNN learns on some patients and is asked
about the others. The figure is a statistic of patients that no ledger is charged for: it stays in the hospital.

Images of all classes enter alike, because a folder need not say which class an image has; where the class shares of
folder and vault differ, that alone helps to tell them apart.
"""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_client.audit.folder import GRID_PX, synthetic_files
from sonoshare_client.vault.store import Vault
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation.labelled import NO_FOLD, LabelledImages
from sonoshare_shared.science.evaluation.shortcut import FOLDS, ShortcutReport, shortcut
from sonoshare_shared.science.imaging import to_grid

_ANY: Final = ("any",)


def told_apart(
    vault: Vault, folder: Path, *, folds: int = FOLDS, steps: int | None = None, device: torch.device = CPU
) -> ShortcutReport:
    """How well synthetic images of a folder are told from the vault's.

    Args:
        vault: the hospital's images, of trained and held-out patients.
        folder: a release, or pictures at any depth.
        folds: parts of the patients.
        steps: optimiser steps of each classifier; by default those of the rule.
        device: where classifiers are trained.

    Raises:
        InputError: the folder holds no picture or one that cannot be read, or the vault has fewer patients than parts.
    """
    files = synthetic_files(folder)
    own = [
        (to_grid(vault.load(ref).pixels, GRID_PX), patient.pseudonym)
        for patient in vault.patients()
        for ref in patient.images
    ]
    synthetic = _unlabelled([file.on_grid() for file in files], [str(place) for place in range(len(files))])
    real = _unlabelled([pixels for pixels, _ in own], [pseudonym for _, pseudonym in own])
    return shortcut(synthetic, real, folds=folds, steps=steps, device=device)


def _unlabelled(images: list[NDArray[np.float32]], patients: list[str]) -> LabelledImages:
    n = len(images)
    pixels = np.stack(images) if images else np.empty((0, GRID_PX, GRID_PX), np.float32)
    return LabelledImages(
        images=pixels,
        masks=np.zeros(pixels.shape, np.bool_),
        labels=np.zeros(n, np.int64),
        boxes=np.full((n, 4), np.nan, np.float32),
        patients=np.array(patients, np.str_),
        devices=np.full(n, ""),
        folds=np.full(n, NO_FOLD),
        classes=_ANY,
    )
