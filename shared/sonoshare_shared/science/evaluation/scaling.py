"""How much synthetic data is worth having: over its amount, and over how rare the positive class is.

*Amount*: the small CNN trained on the first n synthetic images of each class in turn. *Rarity*: real training images
whose positive class is thinned out by patients to a share of all images, alone and filled up with synthetic positives
until the classes are level. Tested on real images of other patients; mean over seeds (which also choose the patients
that stay), interval over resampled test patients.

*Slope*: AUC won by ten times as many images, the line of least squares over the logarithm of the amounts, on the same
resamples as the points; ``by_seed`` beside it, because the interval knows nothing of the variance of training.

Every classifier is a unit of ``Units``: stopped at any time, the same call goes on. Not promised: that a curve goes on
beyond its last point, or that the points are independent (they share test patients, and smaller sets lie in larger).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.evaluation.arms import joined
from sonoshare_shared.science.evaluation.auc import (
    Estimate,
    auc_of_rows,
    paired_difference,
    patient_bootstrap,
)
from sonoshare_shared.science.evaluation.classifier import RECIPE, fit
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.evaluation.units import Units

Array = NDArray[np.float64]

SIZES: Final = (100, 300, 1000, 3000, 10_000)
SHARES: Final = (0.01, 0.02, 0.05, 0.1, 0.2)
LEAST_SEEDS: Final = 3
LEAST_POSITIVES: Final = 2  # images; fewer cannot be trained on


@dataclass(frozen=True)
class Rare:
    """Training on real images whose positive class is rare.

    Attributes:
        real: as they are.
        both: filled up with synthetic positives.
        minus_real: the second minus the first, on the same resampled patients.
    """

    real: Estimate
    both: Estimate
    minus_real: Estimate

    def as_json(self) -> dict[str, object]:
        """Its figures by name."""
        return {
            "real": self.real.as_json(),
            "both": self.both.as_json(),
            "minus_real": self.minus_real.as_json("difference"),
        }


@dataclass(frozen=True)
class Slope:
    """AUC won by ten times as many synthetic images.

    Attributes:
        per_decade: mean over seeds, with its interval over resampled test patients.
        by_seed: of each classifier's own curve.
    """

    per_decade: Estimate
    by_seed: tuple[float, ...]

    def as_json(self) -> dict[str, object]:
        """Its figures by name."""
        return {**self.per_decade.as_json("auc_per_decade"), "by_seed": list(self.by_seed)}


@dataclass(frozen=True)
class Scaling:
    """Two curves; a point that could not be measured is left out.

    Attributes:
        amount: by number of synthetic images.
        rarity: by share of positive images.
        seeds: classifiers of each figure.
        slope: of the first curve; None with fewer than two points.
    """

    amount: dict[int, Estimate]
    rarity: dict[float, Rare]
    seeds: int
    slope: Slope | None = None

    def as_json(self) -> dict[str, object]:
        """Fields as ``sonoshare evaluate scaling --json`` prints them."""
        return {
            "n_synthetic": [{"n": n, **figure.as_json()} for n, figure in self.amount.items()],
            "slope": None if self.slope is None else self.slope.as_json(),
            "imbalance": [{"share": share, **point.as_json()} for share, point in self.rarity.items()],
            "seeds": self.seeds,
        }


@dataclass(frozen=True)
class Scores:
    """What every classifier of both curves says of the test images; arrays float64 [seeds, n].

    Attributes:
        amount: by number of synthetic images.
        rarity: by share of positive images, of real images as they are and filled up.
    """

    amount: dict[int, Array]
    rarity: dict[float, tuple[Array, Array]]


def require_curves(
    test: LabelledImages, train: LabelledImages, *, sizes: Sequence[float], shares: Sequence[float], seeds: int
) -> None:
    """Check what is asked for, before anything is kept or trained.

    Raises:
        InputError: fewer than three seeds, a patient on both sides, or a size or share that has no meaning.
    """
    if seeds < LEAST_SEEDS:
        raise InputError(f"{seeds} seeds do not show a curve", remedy=f"use {LEAST_SEEDS} or more")
    if any(size < 2 for size in sizes) or not all(0 < share < 1 for share in shares):
        raise InputError("sizes start at 2, shares lie between 0 and 1", remedy="correct --sizes or --shares")
    if set(train.patients) & set(test.patients):
        raise InputError("some patients are in training and test", remedy="split by patient")


def score_scaling(
    synthetic: LabelledImages,
    test: LabelledImages,
    train: LabelledImages,
    units: Units,
    *,
    sizes: Sequence[int] = SIZES,
    shares: Sequence[float] = SHARES,
    seeds: int = LEAST_SEEDS,
    steps: int | None = None,
    device: torch.device = CPU,
) -> Scores:
    """Train every classifier of both curves, and score the test images by it.

    Args:
        synthetic: labelled synthetic images, two classes.
        test: real images to test on.
        train: real images of other patients, for the curve over rarity.
        units: where finished classifiers are kept; pin it by `pinned`.
        sizes: numbers of synthetic images; those beyond the set are left out.
        shares: shares of the positive class; those that leave fewer than two positive images are left out.
        seeds: classifiers of each figure, three or more.
        steps: optimiser steps of each; by default those of the rule for the set at hand.
        device: where classifiers are trained.

    Raises:
        InputError: fewer than three seeds, a patient on both sides, or a size or share that has no meaning.
    """
    require_curves(test, train, sizes=sizes, shares=shares, seeds=seeds)

    def scores(name: str, sets: Sequence[LabelledImages]) -> Array:
        def of(seed: int) -> Array:
            def make() -> dict[str, Any]:
                network = fit(sets[seed].images, sets[seed].labels, steps=steps, seed=seed, device=device)
                return {"scores": network.predict(test.images).tolist()}

            return np.asarray((units.get(f"{name}-seed{seed}", make) or {})["scores"])

        return np.stack([of(seed) for seed in range(seeds)])

    ordered = synthetic.take(_in_turn(synthetic.labels))
    amount = {
        size: scores(f"synthetic-{size}", [ordered.take(np.arange(size))] * seeds)
        for size in sorted(set(sizes))
        if size <= len(ordered)
    }
    rarity = {}
    for share in sorted(set(shares)):
        thin = [thinned(train, share, seed) for seed in range(seeds)]
        if min(int((each.labels == 1).sum()) for each in thin) >= LEAST_POSITIVES:
            filled = [filled_up(each, synthetic) for each in thin]
            rarity[share] = scores(f"rare-{share:g}-real", thin), scores(f"rare-{share:g}-both", filled)
    return Scores(amount, rarity)


def curves(scores: Scores, labels: NDArray[np.int64], patients: NDArray[np.str_]) -> Scaling:
    """Both curves of the scores, with intervals over resampled test patients.

    Args:
        scores: of n test images, one or more classifiers.
        labels: int64 [n].
        patients: str [n], whose image it is.
    """

    def figure(table: Array) -> Estimate:
        return patient_bootstrap(labels, table, patients)

    rarity = {
        share: Rare(figure(alone), figure(both), paired_difference(labels, both, alone, patients))
        for share, (alone, both) in scores.rarity.items()
    }
    tables = [*scores.amount.values(), *(alone for alone, _ in scores.rarity.values())]
    seeds = len(tables[0]) if tables else 0
    amount = {size: figure(table) for size, table in scores.amount.items()}
    return Scaling(amount, rarity, seeds, slope_of(scores.amount, labels, patients))


def slope_of(amount: dict[int, Array], labels: NDArray[np.int64], patients: NDArray[np.str_]) -> Slope | None:
    """How steeply the AUC rises over the logarithm of the amount; None with fewer than two amounts.

    Args:
        amount: scores [seeds, n] by number of synthetic images.
        labels: int64 [n].
        patients: str [n], whose image it is.
    """
    if len(amount) < 2:
        return None
    decades = np.array([math.log10(size) for size in amount])
    apart = decades - decades.mean()
    weights = apart / np.square(apart).sum()  # of the points' AUCs in the slope of least squares
    tables = np.stack(list(amount.values()))
    points, seeds, _ = tables.shape

    def by_seed(positive: NDArray[np.bool_], scores: Array) -> Array:
        return np.asarray(weights @ auc_of_rows(positive, scores).reshape(points, seeds))

    flat = tables.reshape(points * seeds, -1)
    figure = patient_bootstrap(labels, flat, patients, statistic=by_seed)
    return Slope(figure, tuple(by_seed(labels == 1, flat).tolist()))


def pinned(
    synthetic: LabelledImages, test: LabelledImages, train: LabelledImages, *, steps: int | None = None
) -> dict[str, object]:
    """What a folder of units belongs to: the three sets and how classifiers are trained."""
    sets = {"synthetic": synthetic, "test": test, "train": train}
    return {"steps": asdict(RECIPE) if steps is None else steps, **{name: _digest(each) for name, each in sets.items()}}


def thinned(images: LabelledImages, share: float, seed: int) -> LabelledImages:
    """Drop patients of the positive class until it makes up at most ``share`` of all images."""
    positive = images.labels == 1
    most = int(share / (1 - share) * int((~positive).sum()))
    order = np.random.default_rng(seed).permutation(np.unique(images.patients[positive]))
    kept: list[NDArray[np.intp]] = []
    room = most
    for patient in order:
        rows = np.flatnonzero(positive & (images.patients == patient))
        if len(rows) <= room:
            kept.append(rows)
            room -= len(rows)
    return images.take(np.sort(np.concatenate([np.flatnonzero(~positive), *kept])))


def filled_up(real: LabelledImages, synthetic: LabelledImages) -> LabelledImages:
    """Real images and as many synthetic positives as make the classes level, or as many as there are."""
    missing = int((real.labels == 0).sum() - (real.labels == 1).sum())
    return joined(real, synthetic.take(np.flatnonzero(synthetic.labels == 1)[: max(missing, 0)]))


def draw_scaling(scaling: Scaling, path: Path) -> None:
    """Write a PNG of both curves with their intervals."""
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to import, and only for pictures

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _curve(left, list(scaling.amount), list(scaling.amount.values()), "synthetic only")
    left.set(xlabel="synthetic images", ylabel="AUC on real test patients", xscale="log")
    shares, points = [100 * share for share in scaling.rarity], list(scaling.rarity.values())
    _curve(right, shares, [point.real for point in points], "real only")
    _curve(right, shares, [point.both for point in points], "real and synthetic positives")
    right.set(xlabel="share of the positive class in real training images, %", xscale="log")
    right.set_xticks(shares, [f"{share:g}" for share in shares])
    right.minorticks_off()  # their labels would be powers of ten between few points
    for axes in (left, right):
        axes.axhline(0.5, color="#888888", linewidth=0.8)
        if axes.lines[:-1]:
            axes.legend(frameon=False)
    figure.suptitle(f"mean of {scaling.seeds} classifiers, 95 % over patients", fontsize=10)
    figure.savefig(path, dpi=130)


def _curve(axes: Any, places: list[float] | list[int], figures: list[Estimate], name: str) -> None:
    if figures:
        axes.plot(places, [each.value for each in figures], "o-", label=name)
        axes.fill_between(places, *zip(*(each.interval for each in figures), strict=True), alpha=0.2)


def _in_turn(labels: NDArray[np.int64]) -> NDArray[np.intp]:
    """Rows so ordered that every prefix has the classes in equal parts, as long as both last."""
    place = np.empty(len(labels), dtype=np.int64)
    for value in np.unique(labels):
        rows = labels == value
        place[rows] = np.arange(int(rows.sum()))
    return np.lexsort((labels, place))


def _digest(images: LabelledImages) -> str:
    parts = (images.images.tobytes(), images.labels.tobytes(), "\n".join(images.patients).encode())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
