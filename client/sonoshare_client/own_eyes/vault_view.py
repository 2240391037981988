"""A folder of synthetic images beside the vault's patients, as the hospital's own eyes may see them. NOT private."""

from pathlib import Path

import numpy as np
import torch

from sonoshare_client.audit.folder import GRID_PX, byte_pictures, synthetic_files
from sonoshare_client.own_eyes.view import MOST_PAIRS, ShownPair, TrueView
from sonoshare_client.vault.store import PatientRecord, Vault
from sonoshare_privacy.audits import copies
from sonoshare_privacy.audits.nearest import looks_for
from sonoshare_privacy.audits.reference import reference_images
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.imaging import to_grid


def vault_view(vault: Vault, folder: Path, name: str, device: torch.device = CPU) -> TrueView:
    """Compare every patient of the vault with every synthetic image of a folder.

    Args:
        vault: the hospital's images.
        folder: a release, or pictures at any depth.
        name: what the folder holds, in words.
        device: where they are compared.

    Raises:
        InputError: the folder holds no picture, or one that cannot be read.
    """
    files = synthetic_files(folder)
    candidates = byte_pictures(files)
    groups: dict[bool, list[PatientRecord]] = {False: [], True: []}
    for patient in vault.patients():
        groups[patient.held_out].append(patient)
    looks = looks_for(len(files), len(groups[False]) + len(groups[True]))
    threshold = copies.calibrate(candidates, reference_images(GRID_PX), device, looks).threshold
    trained, held_out = (
        copies.patient_nearest(
            candidates,
            [np.stack([to_grid(vault.load(ref).pixels, GRID_PX) for ref in one.images]) for one in groups[side]],
            device,
            looks,
        )
        for side in (False, True)
    )
    pairs = tuple(
        ShownPair(
            score=float(trained.scores[place]),
            own_name=f"patient {groups[False][place].pseudonym[:8]}",
            synthetic_name=files[trained.candidate[place]].image.name,
            own=vault.load(groups[False][place].images[trained.own[place]]).pixels,
            synthetic=files[trained.candidate[place]].pixels(),
        )
        for place in np.argsort(-trained.scores)[:MOST_PAIRS]
    )
    return TrueView(f"{name} beside this hospital's patients", pairs, trained.scores, held_out.scores, threshold)
