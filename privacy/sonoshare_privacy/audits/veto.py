"""The veto: patients may have near-copies of their own images dropped, privately; opt-in, on top of the gate.

The candidate set is clustered *publicly*, so that near-copies of one image fall together. Each trained patient may
flag one cluster only: that of the candidate nearest to any of their images, if it is nearer than the public
threshold. The counts of all clusters get two-sided geometric noise; clusters whose noisy sum over the hospitals
reaches the plan's threshold are dropped, whatever the patients' true flags are.

Privacy: one patient changes one count by one, so the noisy counts of `sonoshare_privacy.mechanisms.votes` are
epsilon-DP (add or remove one patient); sums, threshold and what is dropped are post-processing. It is charged as an
event of its own.

Each hospital adds its own noise (there is no masked sum in the project), and the noisy counts are summed *before* the
threshold. Dropping whatever one hospital alone wants would compound the losses; ``operating`` gives both chances,
exactly, for any number of hospitals.

The gate does not know of the veto: a candidate that copied patients FAILs before and after. What the veto is for are
the copies that are too few to be seen.

Traps, each shown to break in the tests: flagging every near image; ranking patients' scores against each other (global
top-K); margins against other patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sonoshare_privacy.audits.correlation import candidate_windows
from sonoshare_privacy.mechanisms import geometric
from sonoshare_privacy.mechanisms.votes import ABSTAINS

ALIKE: Final = 0.6
"""Correlation of central windows, upright or mirrored, from which a candidate joins a cluster; unrelated images of
BUS-BRA reach .54 once in 10^5 pairs."""


class Clusters:
    """Clusters of candidates, given batch by batch: an image joins the first leader that it is like, or leads.

    Deterministic in the order of images; memory grows with the number of leaders only (6 KB each).
    """

    def __init__(self) -> None:
        self._leaders = torch.empty(0, 0)

    def add(self, images: NDArray[np.float32]) -> list[int]:
        """Return the cluster of each image, float32 [n, S, S] in 0..1; leaders are numbered from 0."""
        upright, mirrored = candidate_windows(images), candidate_windows(np.ascontiguousarray(images[:, :, ::-1]))
        return [self._place(one, other) for one, other in zip(upright, mirrored, strict=True)]

    def _place(self, upright: Tensor, mirrored: Tensor) -> int:
        if self._leaders.numel():
            alike = torch.maximum(self._leaders @ upright, self._leaders @ mirrored)
            near = torch.nonzero(alike >= ALIKE)
            if len(near):
                return int(near[0])
            self._leaders = torch.cat([self._leaders, upright[None]])
        else:
            self._leaders = upright[None].clone()
        return len(self._leaders) - 1


def flags(
    scores: NDArray[np.float64], nearest: NDArray[np.int64], clusters: Sequence[int], threshold: float
) -> NDArray[np.int64]:
    """Cluster that each patient flags, -1 for none; a patient's flag depends on that patient alone.

    Args:
        scores: float64 [n], best score of each patient with any candidate.
        nearest: int64 [n], that candidate.
        clusters: cluster of each candidate.
        threshold: the detector's public copy threshold.
    """
    chosen = np.asarray(clusters, dtype=np.int64)[nearest]
    return np.where(np.nan_to_num(scores, nan=np.inf) >= threshold, chosen, ABSTAINS)


@dataclass(frozen=True)
class VetoOdds:
    """Exact chances of one cluster.

    Args:
        found: chance that it is dropped when ``flagged`` patients flag it.
        lost: chance that it is dropped when nobody does.
    """

    found: float
    lost: float


def operating(epsilon: float, threshold: int, hospitals: int, flagged: int = 1) -> VetoOdds:
    """Chances of a cluster under the sum of ``hospitals`` independent noises.

    Args:
        epsilon: of each hospital's noise.
        threshold: noisy sum from which a cluster is dropped.
        hospitals: how many add noise.
        flagged: patients, of all hospitals, who flag the cluster.
    """
    one, width = geometric.mass(epsilon)
    total, lowest = np.ones(1), 0
    for _ in range(hospitals):
        total, lowest = np.convolve(total, one), lowest - width

    def at_least(value: int) -> float:
        return float(min(1.0, total[max(0, value - lowest) :].sum()))

    return VetoOdds(at_least(threshold - flagged), at_least(threshold))
