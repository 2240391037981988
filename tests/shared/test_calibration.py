"""The ballot and the choice of phantoms by its outcome: both public, both a function of what they say they are."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from tests.small_ballot import CLUSTERS, SIZE, small_ballot

from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.science.calibration.ballot import (
    Ballot,
    ballot_from,
    make_ballot,
    require_ballot_for,
    shipped_ballot,
)
from sonoshare_shared.science.calibration.choice import calibrated_phantoms, chances_of, shares_of, typicality
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.tasks.files import read_task

TASK = read_task("diagnosis")


@pytest.fixture(scope="module")
def ballot() -> Ballot:
    return small_ballot()


def uniform(ballot: Ballot) -> NDArray[Any]:
    return np.full((ballot.classes, ballot.clusters), 1 / ballot.clusters)


def as_voted(ballot: Ballot, shares: NDArray[np.float64] | NDArray[Any]) -> NDArray[np.float64]:
    return chances_of(ballot, shares, 0.0)


def test_a_ballot_reads_back_and_its_digest_names_it(ballot: Ballot) -> None:
    again = ballot_from(ballot.to_bytes())
    assert again.digest() == ballot.digest()
    np.testing.assert_array_equal(again.centroids, ballot.centroids)
    assert again.pool_counts().sum(axis=1).tolist() == [48, 48]
    require_ballot_for(again, TASK, SIZE)


def test_the_same_terms_make_the_same_ballot() -> None:
    made = [make_ballot(TASK, SIZE, seed=5, pool=16, clusters=2) for _ in range(2)]
    assert made[0].to_bytes() == made[1].to_bytes()


def test_a_picture_of_the_pool_chooses_its_own_cluster(ballot: Ballot) -> None:
    pool = simulate(96, seed=3, size=SIZE)
    chosen = ballot.chosen(pool.images, pool.labels, pool.boxes)
    assert (chosen == pool.labels * CLUSTERS + ballot.members).mean() > 0.98
    rows = [slice(i, i + 1) for i in range(0, 96, 12)]
    alone = [ballot.chosen(pool.images[row], pool.labels[row], pool.boxes[row])[0] for row in rows]
    assert alone == chosen[::12].tolist()  # nobody's choice depends on whoever else votes


def test_without_a_known_box_the_whole_picture_chooses(ballot: Ballot) -> None:
    pool = simulate(96, seed=3, size=SIZE)
    unknown = np.full((96, 4), np.nan, np.float32)
    chosen = ballot.chosen(pool.images, pool.labels, unknown)
    # Another box cannot matter where none is known; and the picture alone still finds its own kind rather often.
    assert ((chosen >= 0) & (chosen < ballot.options)).all()
    assert (chosen // CLUSTERS == pool.labels).all()
    assert (chosen % CLUSTERS == ballot.members).mean() > 0.5
    half = np.where(np.arange(4) < 2, np.nan, pool.boxes).astype(np.float32)
    np.testing.assert_array_equal(ballot.chosen(pool.images, pool.labels, half), chosen)


def test_a_picture_without_a_lesion_is_its_own_crop(ballot: Ballot) -> None:
    pool = simulate(4, seed=3, size=SIZE)
    boxes = [np.tile(np.float32(box), (4, 1)) for box in ((0.3, 0.4, 0, 0), (0, 0, 1, 1))]  # type: ignore[arg-type]
    np.testing.assert_array_equal(*(ballot.chosen(pool.images, pool.labels, box) for box in boxes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    {
        "a cluster that is not there": ({"members": np.full(96, 4, np.int16)}, "not there"),
        "an empty cluster": ({"members": np.zeros(96, np.int16)}, "no phantom"),
        "NaN": ({"mean": np.full((2, 1280), np.nan, np.float32)}, "NaN"),
        "a lesion that is NaN": ({"lesions": np.full((96, 24), np.nan, np.float16)}, "NaN"),
        "another width": ({"mean": np.zeros((2, 10), np.float32)}, "do not fit"),
        "another type": ({"mean": np.zeros((2, 1280), np.float64)}, "do not fit"),
        "one view": ({"mean": np.zeros((1, 1280), np.float32)}, "do not fit"),
        "lesions of another pool": ({"lesions": np.zeros((95, 24), np.float16)}, "do not fit"),
        "lesions of another type": ({"lesions": np.zeros((96, 24), np.float32)}, "do not fit"),
        "another rank": ({"members": np.zeros((96, 1), np.int16)}, "parts are not"),
    }.values(),
)
def test_a_ballot_that_does_not_fit_itself_is_refused(ballot: Ballot, changes: Any, message: Any) -> None:
    with pytest.raises(ModelError, match=message):
        ballot_from(replace(ballot, **changes).to_bytes())


def test_what_is_no_ballot_is_refused(ballot: Ballot) -> None:
    with pytest.raises(ModelError):
        ballot_from(b"\x80\x04 a pickle")
    with pytest.raises(ModelError):
        ballot_from(ballot.to_bytes()[:-1])


def test_a_ballot_of_another_task_or_size_is_refused(ballot: Ballot) -> None:
    for task, size in ((read_task("birads"), SIZE), (TASK, 64)):
        with pytest.raises(InputError, match="was not made for"):
            require_ballot_for(ballot, task, size)
    assert shipped_ballot(read_task("birads"), SIZE) is None


def test_too_few_phantoms_for_the_clusters_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        make_ballot(TASK, SIZE, pool=31, clusters=4)


@given(arrays(np.int64, 8, elements=st.integers(-6, 40)))
def test_shares_are_shares_whatever_the_noise(votes: Any) -> None:
    shares = shares_of(small_ballot(), votes)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    for row, counts in zip(shares, votes.reshape(2, 4), strict=True):
        if counts.sum() > 0:
            order = np.argsort(counts, kind="stable")
            assert (np.diff(row[order]) >= -1e-12).all()  # more votes are never a smaller share
        if counts.sum() > 0 and (counts >= 0).all():
            np.testing.assert_allclose(row, counts / counts.sum())


def test_negative_counts_are_taken_from_all_and_no_votes_leave_the_pool(ballot: Ballot) -> None:
    shares = shares_of(ballot, np.array([9, 5, -2, 0, 1, -1, 0, -1]))
    np.testing.assert_allclose(shares[0], [8 / 12, 4 / 12, 0, 0])
    np.testing.assert_allclose(shares[1], ballot.pool_counts()[1] / 48)
    with pytest.raises(InputError, match="votes for the 8 options"):
        shares_of(ballot, np.zeros(7, np.int64))


def test_phantoms_do_not_depend_on_the_batch(ballot: Ballot) -> None:
    chances = chances_of(ballot, uniform(ballot), 2.0)
    whole = calibrated_phantoms(ballot, chances, TASK, 6, seed=1)
    part = calibrated_phantoms(ballot, chances, TASK, 2, seed=1, start_index=3)
    np.testing.assert_array_equal(whole.images[3:5], part.images)
    assert whole.labels.tolist() == [0, 1, 0, 1, 0, 1]
    other = calibrated_phantoms(ballot, chances, TASK, 6, seed=2)
    assert not np.array_equal(whole.images, other.images)


def test_kinds_without_votes_are_not_drawn_and_a_repeated_phantom_is_scanned_anew(ballot: Ballot) -> None:
    shares = np.zeros((2, CLUSTERS))
    rarest = np.argmin(ballot.pool_counts(), axis=1)
    shares[[0, 1], rarest] = 1
    drawn = calibrated_phantoms(ballot, as_voted(ballot, shares), TASK, 40, seed=1)
    pool = simulate(96, seed=3, size=SIZE)
    allowed = {tuple(box) for box in pool.boxes[ballot.members == rarest[pool.labels]].tolist()}
    boxes = [tuple(box) for box in drawn.boxes.tolist()]
    assert set(boxes) <= allowed
    repeated = next(box for box in boxes if boxes.count(box) > 1)
    first, second = [i for i, box in enumerate(boxes) if box == repeated][:2]
    assert not np.array_equal(drawn.images[first], drawn.images[second])
    # Speckle and overlays differ, the breast is the same: far more alike than two of one kind.
    assert np.corrcoef(drawn.images[first].ravel(), drawn.images[second].ravel())[0, 1] > 0.7


def test_chances_as_voted_are_the_shares_of_the_kinds(ballot: Ballot) -> None:
    shares = shares_of(ballot, np.array([6, 3, 1, 0, 2, 2, 2, 4]))
    chances = as_voted(ballot, shares)
    for label in (0, 1):
        own, members = chances[label::2], ballot.members[label::2]
        np.testing.assert_allclose(np.bincount(members, own, minlength=CLUSTERS), shares[label])
        assert len(np.unique(own[members == 1].round(12))) == 1  # within a kind all are alike


@given(arrays(np.int64, 8, elements=st.integers(-6, 40)), st.floats(0, 20))
def test_chances_are_chances_whatever_the_votes_and_the_sharpness(votes: Any, sharpness: Any) -> None:
    ballot = small_ballot()
    chances = chances_of(ballot, shares_of(ballot, votes), sharpness)
    assert (chances >= 0).all()
    np.testing.assert_allclose([chances[label::2].sum() for label in (0, 1)], 1)


def test_votes_for_lesions_that_are_anything_but_typical_still_give_chances(ballot: Ballot) -> None:
    """Far apart class means, and every vote of each class for kinds that lie at the other's: no phantom is likely."""
    centroids = ballot.centroids.copy()
    centroids[0, :, 1], centroids[1, :, 1] = 500, -500
    chances = chances_of(replace(ballot, centroids=centroids), uniform(ballot), 20.0)
    np.testing.assert_allclose([chances[label::2].sum() for label in (0, 1)], 1)


def test_typical_is_what_the_votes_call_typical(ballot: Ballot) -> None:
    """Classes that patients tell apart by one coordinate, and the reverse: the same phantoms change sides."""
    coordinate = ballot.lesions[1::2, 0].astype(float)
    for direction in (1.0, -1.0):
        centroids = np.zeros_like(ballot.centroids)
        centroids[1, :, 1, 0] = direction
        found = typicality(replace(ballot, centroids=centroids), uniform(ballot))
        assert (found <= 0).all()
        assert direction * np.corrcoef(found[1::2], coordinate)[0, 1] > 0.5


def test_typicality_is_the_posterior_of_a_linear_discriminant(ballot: Ballot) -> None:
    labels = np.arange(96) % 2
    lesions = ballot.lesions.astype(np.float64)
    # The votes of the pool itself make the pool's own class means, up to the half precision of its lesions.
    shares = ballot.pool_counts() / 48
    fitted = LinearDiscriminantAnalysis(solver="lsqr", priors=[0.5, 0.5]).fit(lesions, labels)
    expected = fitted.predict_log_proba(lesions)[np.arange(96), labels]
    np.testing.assert_allclose(typicality(ballot, shares), expected, atol=0.05)


def test_a_sharper_release_holds_more_typical_phantoms(ballot: Ballot) -> None:
    shares = shares_of(ballot, np.array([6, 3, 1, 2, 2, 2, 5, 4]))
    found = typicality(ballot, shares)
    means = [(chances_of(ballot, shares, sharpness) * found).sum() for sharpness in (0.0, 1.0, 2.0, 8.0)]
    assert means == sorted(means)
    assert means[0] < means[2] - 1e-3


def test_classes_that_patients_do_not_tell_apart_stay_as_voted(ballot: Ballot) -> None:
    """Node status, say: where both classes' mean lesions are one, no phantom is preferred."""
    alike = replace(ballot, centroids=np.repeat(ballot.centroids[:1], 2, axis=0))
    shares = uniform(ballot)
    np.testing.assert_allclose(typicality(alike, shares), np.log(0.5))
    np.testing.assert_allclose(chances_of(alike, shares, 2.0), as_voted(alike, shares))


def test_a_ballot_too_small_for_its_directions_still_gives_chances() -> None:
    ballot = make_ballot(TASK, SIZE, seed=5, pool=16, clusters=2)
    chances = chances_of(ballot, shares_of(ballot, np.array([3, 1, 2, 2])), 2.0)
    assert np.isfinite(chances).all()
