"""Votes on phantoms in the utility benchmark: what each patient of BUS-BRA votes for, and the noisy counts.

The mechanism is the real one (`sonoshare_privacy.mechanisms.votes`, exact noise from the system); the benchmark
has no ledger to charge, and its epsilons are those named by its arms.
"""

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoshare_privacy.mechanisms.votes import draw_votes
from sonoshare_server.consortium.terms import SHARPNESS
from sonoshare_shared.science.calibration.ballot import Ballot
from sonoshare_shared.science.evaluation.labelled import LabelledImages


@dataclass(frozen=True)
class Voting:
    """How an arm votes.

    Attributes:
        epsilon: of each hospital's counts; None for counts without noise, of patients whose pictures are public.
        by_device: one hospital for each device, each with noise of its own; else one cohort.
        refined: whether a DP-trained model then refines the phantoms.
        sharpness: how strongly phantoms that are typical of their class are preferred.
    """

    epsilon: float | None = 1.0
    sharpness: float = SHARPNESS
    by_device: bool = False
    refined: bool = False


def voted(options: NDArray[np.int64], some: LabelledImages, ballot: Ballot, voting: Voting) -> NDArray[np.int64]:
    """Noisy counts of all hospitals together, int64 [C * K].

    Args:
        options: int64 [n], the option of each picture.
        some: the n pictures of the patients who vote.
        ballot: what they vote on.
        voting: how.
    """
    rows = np.array([_one_of(np.flatnonzero(some.patients == name)) for name in np.unique(some.patients)])
    hospitals = some.devices[rows] if voting.by_device else np.zeros(len(rows))
    counts = [_counted(options[rows[hospitals == hospital]], ballot, voting) for hospital in np.unique(hospitals)]
    return np.asarray(np.sum(counts, axis=0), dtype=np.int64)


def _counted(chosen: NDArray[np.int64], ballot: Ballot, voting: Voting) -> NDArray[np.int64]:
    if voting.epsilon is None:
        return np.bincount(chosen, minlength=ballot.options).astype(np.int64)
    return np.asarray(draw_votes(chosen, ballot.options, voting.epsilon), dtype=np.int64)


def _one_of(rows: NDArray[np.intp]) -> int:
    return int(rows[secrets.randbelow(len(rows))])
