"""Pools of later rounds of votes: bred from what was voted for, by public numbers alone."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks._votes_rounds import NEW_SHARE, Pool, drawn, next_pool, parents
from benchmarks._votes_work import diversity
from numpy.typing import NDArray
from tests.small_ballot import CLUSTERS, SIZE, small_ballot

from sonoshare_shared.science.calibration.choice import calibrated_phantoms, chances_of, shares_of
from sonoshare_shared.science.phantom import Recipe, simulate_recipes
from sonoshare_shared.science.tasks.files import read_task

TASK = read_task("diagnosis")
BRED = 32


def chances(pool: Pool) -> NDArray[np.float64]:
    """Of votes for the first kind of each class alone."""
    shares = shares_of(pool.ballot, np.array([9, 0, 0, 0, 9, 0, 0, 0]))
    return chances_of(pool.ballot, shares, 0.0)


@cache
def first() -> Pool:
    return Pool.first(small_ballot())


@cache
def second() -> Pool:
    return next_pool(first(), chances(first()), TASK, 2, BRED)


def one(recipe: Recipe) -> Any:
    return simulate_recipes([recipe], np.zeros(1, np.int64), seed=5, size=SIZE)


def test_a_lesion_of_another_picture_grows_in_the_same_breast() -> None:
    own, crossed = one(Recipe(4, "benign", 1)), one(Recipe(4, "benign", 1, lesion=9))
    donor = one(Recipe(9, "benign", 1))
    words = [(p.shape, p.margin, p.echo_pattern, p.posterior) for p in (crossed.parameters[0], donor.parameters[0])]
    assert words[0] == words[1]
    assert not np.array_equal(own.images, crossed.images)
    alike = np.abs(crossed.images[0] - own.images[0]) < 0.02
    assert alike[: SIZE // 8].mean() > 0.95  # skin and fat above both lesions
    np.testing.assert_array_equal(one(Recipe(4, "benign", 1, lesion=4)).images, own.images)


def test_parents_are_of_one_class_and_of_the_kinds_that_were_voted_for() -> None:
    members = first().ballot.members
    found = parents(first(), chances(first()), 2, 200)
    assert (found % 2 == np.arange(200)[:, None] % 2).all()
    new = found[:, 0] >= len(members)
    assert new.sum() == 2 * round(NEW_SHARE * 100)
    assert (found[new, 0] == found[new, 1]).all()
    assert len(np.unique(found[new, 0])) == new.sum()
    assert (members[found[~new]] == 0).all()
    assert (found[~new, 0] != found[~new, 1]).any()  # breasts and lesions are crossed


def test_a_bred_pool_is_a_function_of_public_numbers_and_reads_back(tmp_path: Path) -> None:
    again = next_pool(first(), chances(first()), TASK, 2, BRED)
    assert again.ballot.to_bytes() == second().ballot.to_bytes()
    assert not np.array_equal(parents(first(), chances(first()), 3, BRED), second().parents)
    second().write(tmp_path / "pool.safetensors")
    read = Pool.read(tmp_path / "pool.safetensors")
    np.testing.assert_array_equal(read.parents, second().parents)
    np.testing.assert_array_equal(read.ballot.basis, first().ballot.basis)


def test_a_phantom_of_a_bred_pool_votes_for_its_own_kind() -> None:
    ballot = second().ballot
    recipes, labels = second().recipes(TASK, range(BRED))
    made = simulate_recipes(recipes, labels, seed=ballot.terms.seed, size=SIZE)
    chosen = ballot.chosen(made.images, made.labels, made.boxes)
    assert (chosen == labels * CLUSTERS + ballot.members).mean() > 0.9


def test_the_first_pool_gives_what_a_release_gives_and_the_last_one_its_own() -> None:
    released = calibrated_phantoms(first().ballot, chances(first()), TASK, 4, seed=1)
    np.testing.assert_array_equal(drawn(first(), chances(first()), TASK, 4, seed=1).images, released.images)
    assert drawn(second(), chances(second()), TASK, 4, seed=1).labels.tolist() == [0, 1, 0, 1]


def test_crosses_of_few_lesions_are_many_pictures_and_few_lesions() -> None:
    count = len(first().ballot.members)
    level = np.full(count, 2 / count)
    assert diversity(first(), level) == pytest.approx((count / 2, count / 2))
    two = first().parents.copy()
    two[:, 1] %= 4  # two lesions a class
    assert diversity(Pool(first().ballot, two), level) == pytest.approx((count / 2, 2.0))
