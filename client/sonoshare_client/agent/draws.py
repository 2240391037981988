"""Rows of one patient for the training: which image, mirrored or not, at which time, with which noise; and the probe.

Promised: rows depend on the patient's own images and on the patient's own generator alone. The probe is made of
phantoms: the engine is checked on it before anything is charged, and its first entry fills places that no patient has.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sonoshare_client.vault.dataset import PatientArrays
from sonoshare_privacy.patient_gradients.chunk import Batch
from sonoshare_privacy.patient_gradients.per_patient import Loss
from sonoshare_shared.science.model.conditions import ABSENT, Condition
from sonoshare_shared.science.model.diffusion import stratified_times
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.phantom import simulate

PROBE_SEED: Final = 20_261
PROBE_KINDS: Final = ("whole", "scanner", "class", "box", "mask", "no lesion", "all")
"""What is absent in each probe: nothing, one thing, the lesion itself, or everything."""


class PatientDraws:
    """Draws of one patient: which image, mirrored or not, at which time, with which noise.

    Args:
        patients: the trained patients.
        draws: K, rows of one patient.
        device: where the rows go.
    """

    def __init__(self, patients: Sequence[PatientArrays], draws: int, device: torch.device) -> None:
        self._patients, self._draws, self._device = patients, draws, device

    def hold(self, patients: Sequence[PatientArrays]) -> int:
        """Draw from these patients from now on; returns how many they are."""
        self._patients = patients
        return len(patients)

    def draw(self, index: int, generator: torch.Generator) -> Batch:
        """K rows of one patient; every random choice comes from the generator."""
        patient, draws = self._patients[index], self._draws
        chosen = torch.randint(len(patient), (draws,), generator=generator, device=generator.device).cpu()
        mirrored = torch.rand(draws, generator=generator, device=generator.device).cpu() < 0.5
        times = stratified_times(draws, generator)
        size = patient.images.shape[-1]
        noise = torch.randn(draws, 1, size, size, generator=generator, device=generator.device)
        rows = patient_rows(patient, chosen, mirrored) | {"t": times, "noise": noise}
        return {name: tensor.to(self._device) for name, tensor in rows.items()}


def patient_rows(patient: PatientArrays, chosen: Tensor, mirrored: Tensor) -> dict[str, Tensor]:
    """Images of a patient with their conditions, mirrored left to right where asked.

    Args:
        patient: the patient.
        chosen: int64 [K], which image.
        mirrored: bool [K].

    Returns:
        ``images`` and ``masks`` [K, 1, S, S] (masks NaN where unknown), ``labels``, ``scanners`` [K], ``boxes`` [K, 4].
    """
    rows = chosen.numpy()
    masks = torch.from_numpy(patient.masks[rows]).float()
    masks[~torch.from_numpy(patient.has_mask[rows])] = torch.nan
    condition = Condition.of(patient.labels[rows], patient.scanners[rows], patient.boxes[rows]).mirrored(mirrored)
    flip = mirrored[:, None, None]
    images = torch.from_numpy(patient.images[rows])
    return {
        "images": torch.where(flip, images.flip(-1), images)[:, None],
        "masks": torch.where(flip, masks.flip(-1), masks)[:, None],
        "labels": condition.labels,
        "scanners": condition.scanners,
        "boxes": condition.boxes,
    }


def loss_of(model: ConditionedUNet) -> Loss:
    """The training loss of a batch of rows, one value per row."""

    def loss(batch: Batch) -> Tensor:
        condition = Condition(batch["labels"], batch["scanners"], batch["boxes"])
        return denoising_loss(model, batch["images"], batch["masks"], condition, batch["t"], batch["noise"])

    return loss


def probe(model: ConditionedUNet, draws: int) -> list[Batch]:
    """Draws of phantoms for the engine's check before anything is charged, one for each of `PROBE_KINDS`.

    The first has everything and also fills the places of a chunk that no patient has.
    """
    kinds = len(PROBE_KINDS)
    phantoms = simulate(kinds, seed=PROBE_SEED, size=model.profile.size)
    generator = torch.Generator().manual_seed(PROBE_SEED)
    device = next(model.parameters()).device
    patients = []
    for i, absent in enumerate(PROBE_KINDS):

        def lacks(what: str, absent: str = absent) -> bool:
            return absent in {what, "all"}

        box = np.full((1, 4), np.nan) if lacks("box") else phantoms.boxes[[i]]
        patients.append(
            PatientArrays(
                pseudonym="",
                held_out=False,
                images=phantoms.images[[i]],
                masks=phantoms.masks[[i]],
                has_mask=np.full(1, not lacks("mask")),
                boxes=np.zeros((1, 4), np.float32) if absent == "no lesion" else box.astype(np.float32),
                labels=np.full(1, ABSENT) if lacks("class") else phantoms.labels[[i]],
                scanners=np.full(1, ABSENT if lacks("scanner") else i % model.profile.scanner_slots),
            )
        )
    drawing = PatientDraws(patients, draws, device)
    return [drawing.draw(i, generator) for i in range(kinds)]
