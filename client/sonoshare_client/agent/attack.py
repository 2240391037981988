"""The model as the loss attack meets it: denoising losses of a patient's images under shared public draws."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_client.vault.cohort import PatientArrays
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.precision import FLOAT32, computing_in

_ABSENT = -1
ROWS_AT_ONCE: Final = 64
"""Images times draws of one patient that are computed together: a patient with many images takes no more memory."""


class ModelAttack:
    """Losses of one model, computed in float32 on the model's device.

    Args:
        model: the model that the candidates were drawn from.
    """

    def __init__(self, model: ConditionedUNet) -> None:
        self._model = model.eval()

    @torch.no_grad()
    def losses(
        self, patient: PatientArrays, times: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Loss of each image and draw, float64 [images, D]; the mask plays no part.

        Args:
            patient: conditions and images of one patient.
            times: int64 [D].
            noise: float32 [D, S, S], the same for every image.
        """
        draws, device = len(times), next(self._model.parameters()).device
        rows, turns = np.repeat(np.arange(len(patient)), draws), np.tile(np.arange(draws), len(patient))
        parts = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            row, turn = rows[start : start + ROWS_AT_ONCE], turns[start : start + ROWS_AT_ONCE]
            with computing_in(FLOAT32):
                values = denoising_loss(
                    self._model,
                    torch.from_numpy(patient.images[row])[:, None].to(device),
                    None,
                    Condition.of(patient.labels[row], patient.scanners[row], patient.boxes[row]).to(device),
                    torch.from_numpy(times[turn]).to(device),
                    torch.from_numpy(noise[turn])[:, None].to(device),
                )
            parts.append(values.double().cpu().numpy())
        losses: NDArray[np.float64] = np.concatenate(parts).reshape(len(patient), draws)
        return losses

    def reference(self, images: NDArray[np.float32]) -> Sequence[PatientArrays]:
        """Public images as patients of one image each, all conditions absent."""
        return [_public_patient(image) for image in images]


def _public_patient(image: NDArray[np.float32]) -> PatientArrays:
    return PatientArrays(
        pseudonym="",
        held_out=False,
        images=image[None],
        masks=np.zeros((1, *image.shape), np.bool_),
        has_mask=np.zeros(1, np.bool_),
        boxes=np.full((1, 4), np.nan, np.float32),
        labels=np.full(1, _ABSENT, np.int64),
        scanners=np.full(1, _ABSENT, np.int64),
    )
