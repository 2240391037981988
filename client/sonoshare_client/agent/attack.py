"""The model as the loss attack meets it: denoising losses of a patient's images under shared public draws."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_client.vault.dataset import PatientArrays
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet

_ABSENT = -1


class ModelAttack:
    """Losses of one model.

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
        images, draws = len(patient), len(times)
        rows = np.repeat(np.arange(images), draws)
        condition = Condition.of(patient.labels[rows], patient.scanners[rows], patient.boxes[rows])
        values = denoising_loss(
            self._model,
            torch.from_numpy(patient.images[rows])[:, None],
            None,
            condition,
            torch.from_numpy(np.tile(times, images)),
            torch.from_numpy(np.tile(noise, (images, 1, 1)))[:, None],
        )
        losses: NDArray[np.float64] = values.double().numpy().reshape(images, draws)
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
