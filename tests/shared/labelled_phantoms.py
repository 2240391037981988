"""Phantoms that stand for labelled pictures of patients, two pictures a patient."""

import numpy as np

from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.phantom import simulate


def labelled(n: int, seed: int, prefix: str, *, size: int = 32) -> LabelledImages:
    """Phantoms of a seed; patients are named by the prefix."""
    batch = simulate(n, seed=seed, size=size)
    return LabelledImages(
        images=batch.images,
        masks=batch.masks,
        labels=batch.labels,
        boxes=batch.boxes,
        patients=np.array([f"{prefix}{i // 2}" for i in range(n)]),
        devices=np.array([str(s) for s in batch.scanners]),
        folds=np.full(n, -1),
        classes=("benign", "malignant"),
    )
