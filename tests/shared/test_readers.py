import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.evaluation.readers import Ratings, compare_readers, read_ratings


def study(rng: np.random.Generator, gain: float = 0.0, readers: int = 4, cases: int = 60) -> Ratings:
    truth = np.arange(cases) % 2 == 0
    of_case = rng.standard_normal(cases)
    of_reader = rng.normal(1.5, 0.3, readers)
    noise = rng.standard_normal((2, readers, cases))
    better = gain * np.array([0.0, 1.0])[:, None, None]
    ratings = (of_reader[None, :, None] + better) * truth + 0.8 * of_case + 0.6 * noise
    return Ratings(("a", "b"), tuple(f"r{i}" for i in range(readers)), truth, ratings)


def test_the_test_holds_its_level_when_treatments_are_alike() -> None:
    rng = np.random.default_rng(0)
    p = np.array([compare_readers(study(rng)).p for _ in range(400)])
    assert 0.02 <= (p < 0.05).mean() <= 0.09


def test_a_difference_is_found_with_its_sign() -> None:
    found = compare_readers(study(np.random.default_rng(1), gain=1.0))
    assert found.difference is not None
    assert found.difference.interval[0] > 0.0
    assert found.treatments["b"].auc > found.treatments["a"].auc
    for one in found.treatments.values():
        assert one.interval[0] < one.auc < one.interval[1]


def test_f_and_t_are_one_test_for_two_treatments() -> None:
    found = compare_readers(study(np.random.default_rng(2), gain=0.3))
    assert found.difference is not None
    assert found.f == pytest.approx((found.difference.estimate / found.difference.se) ** 2)
    assert found.p == pytest.approx(found.difference.p)
    assert found.df2 == found.difference.df


def test_components_add_up_to_the_mean_squares() -> None:
    ratings = study(np.random.default_rng(3))
    found = compare_readers(ratings)
    c = found.components
    assert c["error"] > c["cov1"] > 0.0
    assert c["error"] > c["cov2"] > 0.0
    fields = found.as_json()
    assert {"treatments", "difference", "F", "df1", "df2", "components"} <= set(fields)
    assert set(c) == {"reader", "treatment_reader", "error", "cov1", "cov2", "cov3"}


def test_readers_who_agree_leave_infinite_degrees_of_freedom() -> None:
    one = study(np.random.default_rng(11), gain=0.5, readers=1)
    both = Ratings(one.treatments, ("r0", "r1"), one.truth, np.repeat(one.ratings, 2, axis=1))
    found = compare_readers(both)
    assert found.difference is not None
    assert found.df2 == np.inf
    assert 0.0 < found.p == pytest.approx(found.difference.p)
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["df2"] is None


@pytest.mark.parametrize(("second", "p"), [(1.0, 0.0), (-1.0, 1.0)])
def test_an_effect_without_error_is_certain_and_none_is_none(second: float, p: float) -> None:
    truth = np.arange(12) % 2 == 0
    right = truth.astype(np.float64)
    ratings = np.stack([np.stack([-right, -right]), np.stack([second * right, second * right])])
    found = compare_readers(Ratings(("a", "b"), ("r0", "r1"), truth, ratings))
    assert found.difference is not None
    assert (found.p, found.difference.p) == (p, p)
    json.dumps(found.as_json(), allow_nan=False)


def write(path: Path, ratings: Ratings) -> Path:
    lines = ["reader,treatment,case,truth,rating"]
    for t, treatment in enumerate(ratings.treatments):
        for r, reader in enumerate(ratings.readers):
            for case, truth in enumerate(ratings.truth):
                lines.append(f"{reader},{treatment},c{case:03d},{int(truth)},{ratings.ratings[t, r, case]!r}")
    path.write_text("\n".join(lines).replace("np.float64(", "").replace(")", "") + "\n")
    return path


def test_ratings_round_trip_through_csv(tmp_path: Path) -> None:
    ratings = study(np.random.default_rng(4))
    assert compare_readers(read_ratings(write(tmp_path / "r.csv", ratings))) == compare_readers(ratings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: ["a,b", *lines[1:]], "no column"),
        (lambda lines: lines[:-1], "fully crossed"),
        (lambda lines: [*lines, lines[-1]], "contradicts"),
        (lambda lines: [*lines[:-1], lines[-1].replace(",0,", ",7,").replace(",1,", ",7,")], "truth"),
        (lambda lines: lines[:1], "no column"),
        (lambda lines: [*lines[:2], "r0,a", *lines[2:]], "line 3 is short of a column"),
    ],
)
def test_wrong_ratings_are_refused(
    tmp_path: Path, change: Callable[..., list[Any]] | Callable[..., Any], message: str
) -> None:
    path = write(tmp_path / "r.csv", study(np.random.default_rng(5), cases=6))
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(InputError, match=message):
        read_ratings(path)


def test_one_reader_is_not_a_comparison() -> None:
    with pytest.raises(InputError):
        compare_readers(study(np.random.default_rng(6), readers=1))
