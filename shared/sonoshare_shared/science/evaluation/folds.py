"""Parts of patients that are tested on by classifiers of the other parts, and scores that come from several such.

Promises: a patient with all pictures is in one part; parts depend on the names and the seed only and differ by at most
one patient. Classifiers of different parts score on different scales: ranks within a part keep the AUC of that part,
and pooled over parts they compare pictures of different parts by their place among their own.
"""

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError


def patient_folds(patients: NDArray[np.str_], count: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Part of each picture.

    Args:
        patients: [n], the patient of each picture.
        count: number of parts, at least 2.
        seed: seed of the split.

    Returns:
        int64 [n] in 0..count-1.

    Raises:
        InputError: there are fewer patients than parts, or fewer than two parts.
    """
    names, which = np.unique(patients, return_inverse=True)
    if not 2 <= count <= len(names):
        raise InputError(f"{len(names)} patients in {count} parts", remedy="use two parts or more, with patients each")
    return np.asarray((np.random.default_rng(seed).permutation(len(names)) % count)[which], dtype=np.int64)


def within_fold_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores [n] of one part as ranks in 0..1; the AUC within the part stays what it was."""
    return np.asarray(np.argsort(np.argsort(scores, kind="stable"), kind="stable") / len(scores), dtype=np.float64)
