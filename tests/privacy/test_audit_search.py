"""Exact search: what brute force finds, ties included, in bounded memory."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sonoshare_privacy.audits import search
from sonoshare_privacy.audits.search import best_matches
from sonoshare_shared.errors import InputError


def whole_numbers(seed: int, *shape: int, most: int = 3) -> torch.Tensor:
    """Vectors of small whole numbers: products are exact, and many are equal."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-most, most + 1, shape).astype(np.float32))


def by_brute_force(members: torch.Tensor, queries: torch.Tensor, best: int) -> tuple[NDArray[Any], NDArray[Any]]:
    scores = np.einsum("nd,mpd->mpn", members.numpy(), queries.numpy()).max(axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :best]
    return np.take_along_axis(scores, order, 1), order


@pytest.mark.parametrize("poses", [1, 3])
@pytest.mark.parametrize("best", [1, 2, 7, 50])
def test_the_best_are_those_of_brute_force_and_the_first_of_equal_ones(
    monkeypatch: pytest.MonkeyPatch, poses: int, best: int
) -> None:
    members, queries = whole_numbers(0, 41, 4), whole_numbers(1, 9, poses, 4)
    scores, places = by_brute_force(members, queries, best)
    for rows, floats in itertools.product((1, 4, 100), (1, 12, 10_000)):
        monkeypatch.setattr(search, "_ROWS_PER_BLOCK", rows)
        monkeypatch.setattr(search, "BLOCK_BYTES", 4 * floats)
        found = best_matches(members, queries, best)
        np.testing.assert_array_equal(found.scores.numpy(), scores)
        np.testing.assert_array_equal(found.places.numpy(), places)


def test_every_planted_neighbour_is_found() -> None:
    rng = np.random.default_rng(2)
    members = rng.standard_normal((3000, 64), dtype=np.float32)
    owners = rng.choice(3000, 200, replace=False)
    queries = members[owners] + 0.3 * rng.standard_normal((200, 64), dtype=np.float32)
    found = best_matches(torch.from_numpy(members), torch.from_numpy(queries)[:, None])
    np.testing.assert_array_equal(found.places[:, 0].numpy(), owners)


def test_a_querys_answer_does_not_depend_on_the_other_queries_to_the_last_bit() -> None:
    rng = np.random.default_rng(3)
    members, queries = (torch.from_numpy(rng.standard_normal(s, dtype=np.float32)) for s in ((500, 31), (7, 5, 31)))
    together = best_matches(members, queries, 3)
    for first, last in ((0, 1), (3, 4), (2, 7)):
        apart = best_matches(members, queries[first:last], 3)
        assert torch.equal(apart.scores, together.scores[first:last])
        assert torch.equal(apart.places, together.places[first:last])


@pytest.mark.parametrize("best", [1, 5])
def test_no_block_of_products_is_larger_than_stated(monkeypatch: pytest.MonkeyPatch, best: int) -> None:
    monkeypatch.setattr(search, "_ROWS_PER_BLOCK", 10)
    monkeypatch.setattr(search, "BLOCK_BYTES", 4000)
    sizes = []
    real = search.products

    def watched(left: Any, right: Any, out: Any) -> torch.Tensor:
        sizes.append((out.numel(), out.untyped_storage().nbytes()))
        return real(left, right, out)

    monkeypatch.setattr(search, "products", watched)
    best_matches(whole_numbers(4, 1000, 8), whole_numbers(5, 35, 1, 8), best)
    assert sum(numbers for numbers, _ in sizes) == 35_000  # every pair, once
    assert max(held for _, held in sizes) <= 4000


def test_nothing_to_search() -> None:
    members, queries = whole_numbers(6, 5, 4), whole_numbers(7, 3, 2, 4)
    assert best_matches(members[:0], queries).scores.shape == (3, 0)
    assert best_matches(members, queries[:0], 2).places.shape == (0, 2)
    assert best_matches(members, queries, 9).places.shape == (3, 5)


def test_shapes_that_do_not_fit_are_refused() -> None:
    members, queries = whole_numbers(8, 5, 4), whole_numbers(9, 3, 2, 4)
    for left, right, best in ((members, queries[:, 0], 1), (members[0], queries, 1), (members[:, :3], queries, 1)):
        with pytest.raises(InputError):
            best_matches(left, right, best)
    with pytest.raises(InputError):
        best_matches(members, queries, 0)
