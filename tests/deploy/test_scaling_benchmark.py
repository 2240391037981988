"""The scaling benchmark: what is pooled over folds keeps the order within each, and only points that all have."""

import numpy as np
from benchmarks.scaling import numbers, pooled

from sonoshare_shared.science.evaluation.scaling import Scores, curves


def fold(
    scale: float, sizes: tuple[int, int] | tuple[()] = (10, 20), shares: tuple[()] | tuple[float] = (0.1,)
) -> Scores:
    rng = np.random.default_rng(len(sizes))
    return Scores(
        {n: scale * rng.random((3, 8)) for n in sizes},
        {share: (scale * rng.random((3, 8)), scale * rng.random((3, 8))) for share in shares},
    )


def test_scores_are_pooled_as_ranks_of_their_fold() -> None:
    one, two = fold(1.0), fold(1000.0)
    both = pooled([one, two])
    assert set(both.amount) == {10, 20}
    assert both.amount[10].shape == (3, 16)
    assert both.amount[10].max() < 1  # a fold of larger logits does not outvote the other
    for part, source in ((both.amount[10][:, :8], one), (both.amount[10][:, 8:], two)):
        np.testing.assert_array_equal(np.argsort(part, axis=1), np.argsort(source.amount[10], axis=1))


def test_points_that_a_fold_lacks_are_left_out() -> None:
    both = pooled([fold(1.0), fold(1.0, sizes=(20, 30), shares=())])
    assert list(both.amount) == [20]
    assert both.rarity == {}


def test_the_curves_of_pooled_scores_count_every_patient_and_classifier() -> None:
    both = pooled([fold(1.0), fold(1.0)])
    found = curves(both, np.arange(16) % 2, np.array([f"p{i // 2}" for i in range(16)]))
    assert found.seeds == 3
    assert set(found.rarity) == {0.1}
    assert curves(pooled([fold(1.0, sizes=(), shares=())]), np.arange(8) % 2, np.arange(8).astype(str)).amount == {}


def test_lists_may_be_empty() -> None:
    assert numbers("") == []
    assert numbers("1,2.5") == [1.0, 2.5]
