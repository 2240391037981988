"""Rows of patients for the training: which image, mirrored or not, at which time, with which noise; and the probe.

Promised: a patient's rows are a function of the patient's own images and own key alone, bit for bit, whoever is drawn
beside them. They are gathered, not computed, but for mirrored boxes, whose sums are correctly rounded. The probe is
made of phantoms: the engine is checked on it before anything is charged, and its first entry fills places that no
patient has.

All patients' pictures lie in one tensor of eight bits (`Cohort`): on a GPU if they take at most a quarter of what is
free there, else on the host, from where chosen ones are copied. That follows from how many there are, so rows have the
same bits in either place.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sonoshare_client.vault.cohort import Cohort, PatientArrays
from sonoshare_privacy.mechanisms.draw_words import coins, integers_below, normals, public_keys, shares, words
from sonoshare_privacy.patient_gradients.chunk import Batch
from sonoshare_privacy.patient_gradients.per_patient import Loss
from sonoshare_privacy.patient_gradients.room import memory_of
from sonoshare_shared.protocol.documents.plan import LAST_TIME
from sonoshare_shared.science.model.conditions import ABSENT, Condition
from sonoshare_shared.science.model.diffusion import times_at
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.phantom import simulate

PROBE_SEED: Final = 20_261
PROBE_KINDS: Final = ("whole", "scanner", "class", "box", "mask", "no lesion", "all")
"""What is absent in each probe: nothing, one thing, the lesion itself, or everything."""
_CHOICES: Final = 3  # of a row: which image, mirrored or not, when
_SHARE: Final = 0.25  # of a device's free memory that pictures may take; chunks have half of it


def near(cohort: Cohort, device: torch.device) -> Cohort:
    """The same patients on a device, where there is room; else as they are."""
    memory = memory_of(device)
    if memory is None or cohort.bytes_taken > memory.free() * _SHARE:
        return cohort
    return cohort.on(device)


def rows_of(cohort: Cohort, chosen: Tensor, mirrored: Tensor) -> dict[str, Tensor]:
    """Images with their conditions, mirrored left to right where asked.

    Args:
        cohort: patients.
        chosen: int64 [k], rows.
        mirrored: bool [k].

    Returns:
        ``images`` and ``masks`` [k, 1, S, S] (masks NaN where unknown), ``labels``, ``scanners`` [k], ``boxes`` [k, 4].
    """
    flip = mirrored[:, None, None]
    images, masks = cohort.grey(chosen), cohort.lesions(chosen).float()
    masks = torch.where(cohort.has_mask[chosen][:, None, None], masks, torch.nan)
    condition = Condition(cohort.labels[chosen], cohort.scanners[chosen], cohort.boxes[chosen]).mirrored(mirrored)
    return {
        "images": torch.where(flip, images.flip(-1), images)[:, None],
        "masks": torch.where(flip, masks.flip(-1), masks)[:, None],
        "labels": condition.labels,
        "scanners": condition.scanners,
        "boxes": condition.boxes,
    }


class PatientDraws:
    """Draws of patients: which image, mirrored or not, at which time, with which noise.

    Args:
        patients: the trained patients; what is no cohort is made one, rounded to eight bits.
        draws: K, rows of one patient.
        device: where the rows go.
        latest: last time that is drawn, a public constant.
    """

    def __init__(
        self, patients: Sequence[PatientArrays], draws: int, device: torch.device, latest: int = LAST_TIME
    ) -> None:
        self._draws, self._device, self._latest = draws, device, latest
        self._cohort = self._near(patients)

    def hold(self, patients: Sequence[PatientArrays]) -> int:
        """Draw from these patients from now on; returns how many they are."""
        self._cohort = self._near(patients)
        return len(patients)

    def _near(self, patients: Sequence[PatientArrays]) -> Cohort | None:
        if not patients:
            return None
        return near(patients if isinstance(patients, Cohort) else Cohort.of(patients), self._device)

    def draw(self, indices: Tensor, keys: Tensor) -> Batch:
        """K rows of each of some patients, those of one together; every random choice comes from the patient's key.

        A patient's K times are one from each of K equal intervals: each is uniform, and their mean is less noisy.

        Args:
            indices: int64 [n], of the patients held.
            keys: int64 [n, 4].

        Raises:
            IndexError: there is no such patient.
        """
        if self._cohort is None:
            raise IndexError("nobody is held")
        cohort, draws, size = self._cohort, self._draws, self._cohort.extent.size
        drawn = words(keys, draws * (_CHOICES + size * size))
        which, mirrors, times = drawn[:, : draws * _CHOICES].view(len(keys), _CHOICES, draws).unbind(1)
        where = indices.to(cohort.starts.device)
        first, end = cohort.starts[where], cohort.starts[where + 1]
        chosen = first[:, None] + integers_below(which.to(first.device), end - first)
        rows = rows_of(cohort, chosen.flatten(), coins(mirrors).flatten().to(first.device))
        intervals = torch.arange(draws, device=keys.device)
        rows["t"] = times_at((intervals + shares(times)) / draws, self._latest).flatten()
        rows["noise"] = normals(drawn[:, draws * _CHOICES :]).view(-1, 1, size, size)
        return {name: tensor.to(self._device) for name, tensor in rows.items()}


def loss_of(model: ConditionedUNet) -> Loss:
    """The training loss of a batch of rows, one value per row."""

    def loss(batch: Batch) -> Tensor:
        condition = Condition(batch["labels"], batch["scanners"], batch["boxes"])
        return denoising_loss(model, batch["images"], batch["masks"], condition, batch["t"], batch["noise"])

    return loss


def probe(model: ConditionedUNet, draws: int, latest: int = LAST_TIME) -> list[Batch]:
    """Draws of phantoms for the engine's check before anything is charged, one for each of `PROBE_KINDS`.

    The first has everything and also fills the places of a chunk that no patient has.
    """
    kinds = len(PROBE_KINDS)
    phantoms = simulate(kinds, seed=PROBE_SEED, size=model.profile.size)
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
    drawing = PatientDraws(patients, draws, device, latest)
    keys = public_keys(kinds, PROBE_SEED, device)
    return [drawing.draw(torch.tensor([i]), keys[i : i + 1]) for i in range(kinds)]
