"""The veto: sensitivity one by exhaustive enumeration, the variants that break it, and its exact chances."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sonoshare_privacy.audits.veto import Clusters, flags, operating
from sonoshare_shared.science.phantom import simulate

THRESHOLD = 0.7
CLUSTERS = (0, 1, 1, 2)
"""Four candidates in three clusters."""

PEOPLE = tuple(itertools.product((0.2, 0.75, 0.9), repeat=4))[::7]
"""Kinds of patients: the score with each candidate."""


def counts_of(
    patients: list[Any] | tuple[tuple[float, ...], ...], rule: Callable[..., NDArray[np.int64]] | Callable[..., Any]
) -> NDArray[Any]:
    return np.bincount(np.array(rule(patients), dtype=int), minlength=3)


def ours(patients: Any) -> NDArray[np.int64]:
    scores = np.array(patients, dtype=float).reshape(-1, 4)
    cast = flags(scores.max(axis=1, initial=-1), scores.argmax(axis=1), CLUSTERS, THRESHOLD)
    return cast[cast >= 0]


def every_near_image(patients: Any) -> list[Any]:
    return [CLUSTERS[image] for one in patients for image in range(4) if one[image] >= THRESHOLD]


def global_top_two(patients: Any) -> list[Any]:
    pairs = sorted(((one[image], image) for one in patients for image in range(4)), reverse=True)
    return [CLUSTERS[image] for score, image in pairs[:2] if score >= THRESHOLD]


def margin_over_others(patients: Any) -> list[int]:
    cast = []
    for place, one in enumerate(patients):
        others = [max(other) for at, other in enumerate(patients) if at != place]
        if max(one) >= THRESHOLD and all(max(one) > other for other in others):
            cast.append(CLUSTERS[int(np.argmax(one))])
    return cast


def sensitivity(rule: Callable[..., NDArray[np.int64]] | Callable[..., Any]) -> int:
    """Largest change of all counts together, over all small cohorts and every patient that joins one."""
    return max(
        int(np.abs(counts_of([*cohort, joins], rule) - counts_of(cohort, rule)).sum())
        for size in (0, 1, 2)
        for cohort in itertools.combinations_with_replacement(PEOPLE, size)
        for joins in PEOPLE
    )


def test_one_patient_changes_one_count_by_one() -> None:
    assert sensitivity(ours) == 1


@pytest.mark.parametrize("broken", [every_near_image, global_top_two, margin_over_others])
def test_the_broken_variants_break(broken: Callable[..., Any]) -> None:
    assert sensitivity(broken) > 1


@pytest.mark.parametrize(("epsilon", "found", "lost"), [(1, 0.731, 0.269), (2, 0.881, 0.119), (3, 0.953, 0.047)])
def test_chances_of_one_noise_are_the_known_ones(epsilon: int, found: float, lost: float) -> None:
    odds = operating(epsilon, threshold=1, hospitals=1)
    assert odds.found == pytest.approx(found, abs=5e-4)
    assert odds.lost == pytest.approx(lost, abs=5e-4)


def test_chances_of_several_noises_agree_with_simulation() -> None:
    rng, a = np.random.default_rng(0), np.exp(-2.0)
    noise = (rng.geometric(1 - a, (20_000, 5)) - rng.geometric(1 - a, (20_000, 5))).sum(axis=1)
    odds = operating(2.0, threshold=1, hospitals=5)
    # Standard error at most .0036; four of them.
    assert odds.lost == pytest.approx((noise >= 1).mean(), abs=0.015)
    assert odds.found == pytest.approx((noise >= 0).mean(), abs=0.015)
    assert operating(2.0, threshold=3, hospitals=5).lost < odds.lost


def test_near_copies_fall_together_and_unrelated_images_do_not() -> None:
    images = simulate(12, seed=2, size=64).images
    copies = np.stack([images[0], images[0][:, ::-1], images[0] ** 0.7, images[3]])
    together = Clusters()
    assert together.add(images) == list(range(12))
    assert together.add(copies) == [0, 0, 0, 3]
