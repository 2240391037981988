"""Positive controls of the membership audit: a model that memorised, in closed form."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST_NOISE = 0.3  # standard deviation of the noise at time 150 of 1000, in grey levels


@dataclass(frozen=True)
class Memoriser:
    """The best denoiser of a set of images: the posterior mean over them. It is what unlimited training converges to.

    Args:
        images: float32 [m, S, S], what it was trained on.
        blur: standard deviation of a Gaussian around each image, in grey levels; 0 memorises fully.
    """

    images: NDArray[np.float32]
    blur: float = 0.0

    def losses(
        self, patient: NDArray[np.float32], times: NDArray[np.int64], noise: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Squared error of the denoised image, [images, draws]."""
        centres = self.images.reshape(len(self.images), -1).astype(np.float64)
        clean = patient.reshape(len(patient), -1).astype(np.float64)
        out = np.empty((len(patient), len(times)))
        for draw, time in enumerate(times):
            sigma = LARGEST_NOISE * time / 150
            spread = sigma**2 + self.blur**2
            noisy = clean + sigma * noise[draw].ravel()
            distance = ((noisy[:, None] - centres[None]) ** 2).sum(axis=2)
            weight = np.exp((distance.min(axis=1, keepdims=True) - distance) / (2 * spread))
            mean = (weight / weight.sum(axis=1, keepdims=True)) @ centres
            guess = mean + self.blur**2 / spread * (noisy - mean)
            out[:, draw] = ((guess - clean) ** 2).mean(axis=1)
        return out
