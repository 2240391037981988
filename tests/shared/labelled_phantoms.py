"""Phantoms that stand for labelled pictures of patients."""

from dataclasses import replace

import numpy as np

from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.phantom import simulate


def labelled(n: int, seed: int, prefix: str, *, size: int = 32) -> LabelledImages:
    """Phantoms of a seed, two pictures a patient; patients are named by the prefix."""
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


def one_each(n: int) -> LabelledImages:
    """Phantoms of one device, one picture a patient, in two folds that have every class."""
    return replace(
        labelled(n, 9, ""),
        patients=np.array([f"p{i}" for i in range(n)]),
        devices=np.array(["A"] * n),
        folds=np.arange(n) // 4 % 2 + 1,
    )
