"""Patients of one phantom each, for benchmarks and tests that need somebody to train on."""

import numpy as np

from sonoshare_client.vault.cohort import PatientArrays
from sonoshare_shared.science.phantom import simulate


def phantom_patients(count: int, *, seed: int, size: int, scanner: int | None = None) -> list[PatientArrays]:
    """Phantoms of a seed, one a patient, all known of them.

    Args:
        count: how many.
        seed: of the series.
        size: side of the pictures, px.
        scanner: slot of all of them; None for the simulator's own.
    """
    made = simulate(count, seed=seed, size=size)
    return [
        PatientArrays(
            pseudonym="",
            held_out=False,
            images=made.images[[i]],
            masks=made.masks[[i]],
            has_mask=np.ones(1, np.bool_),
            boxes=made.boxes[[i]],
            labels=made.labels[[i]],
            scanners=made.scanners[[i]] if scanner is None else np.full(1, scanner),
        )
        for i in range(count)
    ]
