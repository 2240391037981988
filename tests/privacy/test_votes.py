"""Noisy votes: the law of their noise, their sensitivity by enumeration, and the variants that break it."""

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sonoshare_privacy.mechanisms.votes import ABSTAINS, draw_votes
from sonoshare_shared.errors import InputError

OPTIONS = 3
PEOPLE = tuple(images for count in (1, 2) for images in itertools.product(range(OPTIONS), repeat=count))
"""Kinds of patients: the option of each of their images."""


def one_image_each(cohort: Any) -> list[Any]:
    return [images[-1] for images in cohort]


def every_image(cohort: Any) -> list[Any]:
    return [option for images in cohort for option in images]


def rarest_among_patients(cohort: Any) -> list[Any]:
    counts = np.bincount(every_image(cohort), minlength=OPTIONS)
    return [min(images, key=lambda option: counts[option]) for images in cohort]


def sensitivity(rule: Callable[..., list[Any]] | Callable[..., Any]) -> int:
    """Largest change of all true counts together, over all cohorts of up to three and every patient that joins one."""

    def counts(cohort: list[Any] | tuple[tuple[int, ...], ...]) -> NDArray[Any]:
        return np.bincount(np.array(rule(cohort), dtype=int), minlength=OPTIONS)

    return max(
        int(np.abs(counts([*cohort, joins]) - counts(cohort)).sum())
        for size in range(4)
        for cohort in itertools.combinations_with_replacement(PEOPLE, size)
        for joins in PEOPLE
    )


def test_one_patient_changes_one_count_by_one() -> None:
    assert sensitivity(one_image_each) == 1


@pytest.mark.parametrize("broken", [every_image, rarest_among_patients])
def test_the_broken_variants_break(broken: Callable[..., Any]) -> None:
    assert sensitivity(broken) > 1


def test_those_who_abstain_are_not_counted() -> None:
    drawn = np.array(draw_votes(np.array([ABSTAINS, 2, ABSTAINS]), OPTIONS, 60.0))
    assert drawn.tolist() == [0, 0, 1]  # at epsilon 60 noise is other than 0 with a chance of 2e-26


def test_noisy_counts_are_as_private_as_charged() -> None:
    """Exact: the noise of neighbouring counts differs by at most e^epsilon at every outcome."""
    epsilon = 0.8
    a = np.exp(-epsilon)
    outcomes = np.arange(-30, 31)
    laws = [(1 - a) / (1 + a) * a ** np.abs(outcomes - count) for count in (3, 4)]
    assert np.abs(np.log(laws[0] / laws[1])).max() <= epsilon + 1e-12
    drawn = [draw_votes(np.array([1, 1, -1]), 3, epsilon, random.Random(seed).randrange) for seed in range(2000)]  # noqa: S311
    # Standard error .04: four of them are .16, a chance of 2e-4 in all, and the seeds are fixed.
    np.testing.assert_allclose(np.mean(drawn, axis=0), [0, 2, 0], atol=0.16)


def test_a_vote_for_no_option_is_refused() -> None:
    with pytest.raises(InputError):
        draw_votes(np.array([3]), 3, 1.0)
    assert len(draw_votes(np.empty(0, np.int64), 5, 1.0)) == 5
