"""Area under the ROC curve with intervals.

The only place where the area is computed, for readers, classifiers and attacks alike.

Promises
- :func:`auc` is the exact Mann-Whitney estimate, ties counting one half; :func:`auc_of_groups` is the same for scores
  that come as two groups, :func:`auc_of_counts` for scores that come as counts in ordered bins.
- :func:`delong` adds DeLong's variance (DeLong et al., Biometrics 1988; fast form of Sun and Xu, IEEE SPL 2014). It
  treats *images* as independent: right for one image a patient.
- :func:`patient_bootstrap` resamples *patients with all their images*: right for several images a patient, and for the
  mean over several trained classifiers. Same seed, same interval.
- :func:`sensitivity_at` in the place of the area gives sensitivity at one specificity for all classifiers compared.

Not promised: coverage with fewer than about ten patients in a class.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError

Array = NDArray[np.float64]
Statistic = Callable[[NDArray[np.bool_], Array], Array]
"""Maps which images are positive [n] and scores [k, n] to one figure for each classifier [k]."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval.

    Attributes:
        value: the estimate.
        interval: lower and upper bound.
    """

    value: float
    interval: tuple[float, float]

    def as_json(self, name: str = "auc") -> dict[str, object]:
        """JSON fields ``{name: value, "interval": [lower, upper]}``."""
        return {name: self.value, "interval": list(self.interval)}


@dataclass(frozen=True)
class DeLong:
    """AUC and its DeLong variance; ``interval`` is normal, cut to 0..1."""

    auc: float
    variance: float

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided 95 % interval."""
        half = float(scipy.stats.norm.ppf(0.5 + CONFIDENCE / 2.0)) * self.variance**0.5
        return max(self.auc - half, 0.0), min(self.auc + half, 1.0)


def _checked(labels: NDArray[np.generic], scores: NDArray[np.generic]) -> tuple[NDArray[np.bool_], Array]:
    """Labels as booleans and scores as [k, n]; both classes must be present."""
    positive = np.asarray(labels).astype(bool)
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if positive.ndim != 1 or table.ndim != 2 or table.shape[1] != positive.size:
        raise InputError("labels and scores have different lengths", remedy="give one score for each label")
    if not np.isfinite(table).all():
        raise InputError("a score is not finite", remedy="train the classifier again with a smaller step")
    if positive.all() or not positive.any():
        raise InputError("an AUC needs both classes", remedy="add test images of the missing class")
    return positive, table


def auc(labels: NDArray[np.generic], scores: NDArray[np.generic]) -> float:
    """Area under the ROC curve.

    Args:
        labels: [n], non-zero for the positive class.
        scores: [n], larger for the positive class.

    Returns:
        Area in 0..1; 0.5 for scores that say nothing.
    """
    positive, table = _checked(labels, scores)
    return float(auc_of_rows(positive, table)[0])


def auc_of_rows(positive: NDArray[np.bool_], table: Array) -> Array:
    """AUC of each row of scores [k, n]: the usual statistic, the share of pairs in the right order."""
    right = np.empty(len(table))
    for row, scores in enumerate(table):
        negative, ours = np.sort(scores[~positive]), scores[positive]
        # Twice the pairs: a tie is found once, a negative score that is lower both times.
        right[row] = (np.searchsorted(negative, ours, "left") + np.searchsorted(negative, ours, "right")).sum() / 2.0
    m = int(positive.sum())
    return np.asarray(right / (m * (positive.size - m)), dtype=np.float64)


def auc_of_groups(positive: NDArray[np.generic], negative: NDArray[np.generic]) -> float:
    """AUC of two groups of scores, [m] and [n], the positive ones expected to be larger.

    Raises:
        InputError: a group is empty, or a score is not finite.
    """
    labels = np.repeat([True, False], [len(positive), len(negative)])
    return auc(labels, np.concatenate([positive, negative]))


def auc_of_counts(positive: Array, negative: Array) -> float:
    """AUC of scores in ordered bins, from the counts [bins] of each class; ties within a bin count one half.

    Noise may have been added to the counts (their totals must be above 0): then the figure can leave 0..1.
    """
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below / (positive.sum() * negative.sum()))


def sensitivity_at(specificity: float) -> Statistic:
    """Sensitivity at the lowest threshold that keeps a specificity.

    Args:
        specificity: in 0..1, the same for every classifier; the threshold is each one's own, on the images at hand.

    Returns:
        The statistic; an image is called positive when its score is above the threshold.

    Raises:
        InputError: the specificity is outside 0..1.
    """
    if not 0.0 < specificity < 1.0:
        raise InputError(f"a specificity of {specificity}", remedy="use a number between 0 and 1, like 0.9")

    def sensitivity(positive: NDArray[np.bool_], table: Array) -> Array:
        return np.asarray((table[:, positive] > thresholds(positive, table, specificity)[:, None]).mean(axis=1))

    return sensitivity


def thresholds(positive: NDArray[np.bool_], table: Array, specificity: float) -> Array:
    """Lowest threshold [k] of each classifier at which at least that share of negatives scores no higher."""
    return np.asarray(np.quantile(table[:, ~positive], specificity, axis=1, method="inverted_cdf"), dtype=np.float64)


def delong_covariance(labels: NDArray[np.generic], scores: NDArray[np.generic]) -> tuple[Array, Array]:
    """AUCs of several classifiers on the same images and their covariance.

    Args:
        labels: [n], non-zero for the positive class; at least two images of each class.
        scores: [k, n], one row for each classifier.

    Returns:
        AUCs [k] and covariance [k, k].
    """
    positive, table = _checked(labels, scores)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        raise InputError("DeLong's variance needs two images of each class", remedy="add test images")
    pooled = scipy.stats.rankdata(table, axis=1)
    # Structural components: the share of the other class that each image is ranked rightly against.
    of_positive = (pooled[:, positive] - scipy.stats.rankdata(table[:, positive], axis=1)) / n
    of_negative = 1.0 - (pooled[:, ~positive] - scipy.stats.rankdata(table[:, ~positive], axis=1)) / m
    covariance = np.atleast_2d(np.cov(of_positive)) / m + np.atleast_2d(np.cov(of_negative)) / n
    return np.asarray(of_positive.mean(axis=1)), np.asarray(covariance)


def delong(labels: NDArray[np.generic], scores: NDArray[np.generic]) -> DeLong:
    """AUC with DeLong's variance.

    Args:
        labels: [n], non-zero for the positive class.
        scores: [n], larger for the positive class.

    Returns:
        AUC, variance and interval.
    """
    areas, covariance = delong_covariance(labels, np.asarray(scores)[None])
    return DeLong(float(areas[0]), float(covariance[0, 0]))


def _rows_of_patients(patients: NDArray[np.generic]) -> list[NDArray[np.intp]]:
    _, which = np.unique(np.asarray(patients), return_inverse=True)
    order = np.argsort(which, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(which[order])) + 1)


def _resampled(
    positive: NDArray[np.bool_], table: Array, patients: NDArray[np.generic], resamples: tuple[int, int], of: Statistic
) -> Array:
    """Figure of each row of scores in every resample, [draws, k]; resamples without both classes are redrawn."""
    draws, seed = resamples
    groups = _rows_of_patients(patients)
    rng = np.random.default_rng(seed)
    figures: list[Array] = []
    while len(figures) < draws:
        rows = np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])
        chosen = positive[rows]
        if chosen.any() and not chosen.all():
            figures.append(of(chosen, table[:, rows]))
    return np.stack(figures)


def _percentiles(values: Array) -> tuple[float, float]:
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return float(low), float(high)


def patient_bootstrap(
    labels: NDArray[np.generic],
    scores: NDArray[np.generic],
    patients: NDArray[np.generic],
    *,
    draws: int = 1000,
    seed: int = 0,
    statistic: Statistic = auc_of_rows,
) -> Estimate:
    """AUC, or another figure, with a percentile interval over resampled patients.

    Args:
        labels: [n], non-zero for the positive class.
        scores: [n], or [k, n] for k classifiers whose AUCs are averaged.
        patients: [n], the patient of each image.
        draws: number of resamples.
        seed: seed of the resampling.
        statistic: the figure; by default the AUC.

    Returns:
        Mean over classifiers and interval.
    """
    positive, table = _checked(labels, scores)
    means = _resampled(positive, table, patients, (draws, seed), statistic).mean(axis=1)
    return Estimate(float(statistic(positive, table).mean()), _percentiles(means))


def paired_difference(
    labels: NDArray[np.generic],
    first: NDArray[np.generic],
    second: NDArray[np.generic],
    patients: NDArray[np.generic],
    *,
    draws: int = 1000,
    seed: int = 0,
    statistic: Statistic = auc_of_rows,
) -> Estimate:
    """AUC (or another figure) of ``first`` minus that of ``second`` on the same images and resampled patients.

    Args:
        labels: [n], non-zero for the positive class.
        first: [n] or [k, n]; AUCs of several classifiers are averaged.
        second: [n] or [k, n].
        patients: [n], the patient of each image.
        draws: number of resamples.
        seed: seed of the resampling.
        statistic: the figure; by default the AUC.

    Returns:
        Difference and interval.
    """
    positive, one = _checked(labels, first)
    _, two = _checked(labels, second)
    resampled = _resampled(positive, np.concatenate([one, two]), patients, (draws, seed), statistic)
    value = float(statistic(positive, one).mean() - statistic(positive, two).mean())
    return Estimate(value, _percentiles(resampled[:, : len(one)].mean(axis=1) - resampled[:, len(one) :].mean(axis=1)))
