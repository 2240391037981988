"""One patient, one bin: sensitivity by exhaustive enumeration, and the ways to get it wrong."""

import math
import random
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from sonoshare_privacy.audits.membership import noisy_quantiles
from sonoshare_privacy.mechanisms import geometric
from sonoshare_privacy.mechanisms.histograms import NoisyHistogram, PublicBins, draw_split
from sonoshare_shared.errors import InputError


def seeded(seed: int) -> Callable[..., int]:
    """A source of uniform integers for tests (the real one is the system's)."""
    return random.Random(seed).randrange  # noqa: S311


BINS = PublicBins((0.3, 0.7))
LEVELS = (0.1, 0.5, 0.9)
# A patient is one or two images; a score per image.
PATIENTS = [(a,) for a in LEVELS] + [(a, b) for a in LEVELS for b in LEVELS]


def by_patient(database: tuple[tuple[float, ...], ...]) -> tuple[int, ...]:
    return BINS.counts([max(images) for images in database])


def by_image(database: Any) -> tuple[int, ...]:
    return BINS.counts([score for images in database for score in images])


def by_margin(database: Any) -> tuple[int, ...]:
    """Each patient's score minus the best score of the others: one patient moves many."""
    best = [max(images) for images in database]
    margins = [own - max([b for j, b in enumerate(best) if j != i], default=0.0) + 0.5 for i, own in enumerate(best)]
    return BINS.counts(margins)


def by_own_quantiles(database: Any) -> tuple[int, int, int] | tuple[Any, ...]:
    """Edges taken from the patients themselves."""
    best = sorted(max(images) for images in database)
    if len(best) < 2 or best[0] == best[-1]:
        return (len(best), 0, 0)
    middle = best[len(best) // 2]
    return tuple(PublicBins((middle - 1e-9, middle + 1e-9)).counts(best))


def worst_change(
    count: Callable[[tuple[tuple[float, ...], ...]], tuple[int, ...]] | Callable[..., Any],
    patients: list[tuple[float, float] | tuple[float]],
    size: int = 3,
) -> int:
    worst = 0
    for database in product(patients, repeat=size):
        whole = count(database)
        for gone in range(size):
            part = count(database[:gone] + database[gone + 1 :])
            worst = max(worst, sum(abs(a - b) for a, b in zip(whole, part, strict=True)))
    return worst


def test_one_patient_changes_one_count_by_one() -> None:
    assert worst_change(by_patient, PATIENTS) == 1


@pytest.mark.parametrize(("broken", "at_least"), [(by_image, 2), (by_margin, 3), (by_own_quantiles, 3)])
def test_broken_variants_are_more_sensitive(broken: Callable[..., Any], at_least: int) -> None:
    assert worst_change(broken, PATIENTS) >= at_least


def test_log_ratio_of_the_output_is_at_most_epsilon() -> None:
    """The exact law of all noisy counts, for every pair of neighbouring databases and output near them."""
    epsilon = 0.7
    mass, width = geometric.mass(epsilon)

    def log_law(counts: tuple[int, ...], output: tuple[int, ...]) -> Any:
        return sum(math.log(mass[o - c + width]) for c, o in zip(counts, output, strict=True))

    worst = 0.0
    for database in product([(0.1,), (0.5, 0.9), (0.5,)], repeat=3):
        whole, part = by_patient(database), by_patient(database[1:])
        for output in product(range(-2, 5), repeat=3):
            worst = max(worst, abs(log_law(whole, output) - log_law(part, output)))
    assert worst == pytest.approx(epsilon, rel=1e-9)


def test_trained_and_held_out_cost_epsilon_once() -> None:
    """A patient is in one of the two groups, so both histograms together change by one count."""
    for trained, held_out in product(product(LEVELS, repeat=2), repeat=2):
        whole = (*BINS.counts(trained), *BINS.counts(held_out))
        for part in ((trained[1:], held_out), (trained, held_out[1:])):
            fewer = (*BINS.counts(part[0]), *BINS.counts(part[1]))
            assert sum(abs(a - b) for a, b in zip(whole, fewer, strict=True)) == 1


def test_every_patient_is_counted_once_whatever_the_score() -> None:
    scores = [-math.inf, 0.3, 0.7, math.inf, math.nan]
    assert BINS.counts(scores) == (1, 1, 3)


def test_noise_is_fresh_for_every_count() -> None:
    split = draw_split(np.zeros(10), np.zeros(5), BINS, 0.05, seeded(3))
    noise = [*split.trained.counts, *split.held_out.counts]
    noise[0] -= 10
    noise[3] -= 5
    assert len(set(noise)) > 3


@pytest.mark.parametrize("edges", [(), (0.5, 0.5), (0.7, 0.3), (math.nan,), (0.1, math.inf)])
def test_edges_that_are_no_edges_are_refused(edges: tuple[()] | tuple[float, float] | tuple[float]) -> None:
    with pytest.raises(InputError):
        PublicBins(edges)


def test_noisy_quantiles_increase_even_when_everybody_is_in_one_bin() -> None:
    bins = PublicBins(tuple(np.linspace(-1, 1, 9)))
    for counts in ((0,) * 10, (100,) + (0,) * 9, (0,) * 9 + (100,), (-3, 5, -2, 80, 1, 0, -4, 2, 0, 1)):
        edges = noisy_quantiles(NoisyHistogram(counts, 0.2), bins, (0.25, 0.5, 0.75))
        PublicBins(edges)


def test_noisy_quantiles_find_the_quartiles_of_many_patients() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0.3, 0.4, 100_000)
    bins = PublicBins(tuple(np.linspace(-2, 2, 17)))
    edges = noisy_quantiles(NoisyHistogram(bins.counts(scores), 1.0), bins, (0.25, 0.5, 0.75))
    assert edges == pytest.approx(np.quantile(scores, (0.25, 0.5, 0.75)), abs=0.02)
