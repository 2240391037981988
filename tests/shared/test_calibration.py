"""The ballot and the choice of phantoms by its outcome: both public, both a function of what they say they are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.small_ballot import CLUSTERS, SIZE, small_ballot

from sonoshare_shared.calibration.ballot import ballot_from, make_ballot, require_ballot_for, shipped_ballot
from sonoshare_shared.calibration.choice import calibrated_phantoms, shares_of
from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.phantom import simulate
from sonoshare_shared.tasks.files import read_task

TASK = read_task("diagnosis")


@pytest.fixture(scope="module")
def ballot():
    return small_ballot()


def uniform(ballot):
    return np.full((ballot.classes, ballot.clusters), 1 / ballot.clusters)


def test_a_ballot_reads_back_and_its_digest_names_it(ballot):
    again = ballot_from(ballot.to_bytes())
    assert again.digest() == ballot.digest()
    np.testing.assert_array_equal(again.centroids, ballot.centroids)
    assert again.pool_counts().sum(axis=1).tolist() == [48, 48]
    require_ballot_for(again, TASK, SIZE)


def test_the_same_terms_make_the_same_ballot():
    made = [make_ballot(TASK, SIZE, seed=5, pool=16, clusters=2) for _ in range(2)]
    assert made[0].to_bytes() == made[1].to_bytes()


def test_a_picture_of_the_pool_chooses_its_own_cluster(ballot):
    pool = simulate(96, seed=3, size=SIZE)
    chosen = ballot.chosen(pool.images, pool.labels)
    assert (chosen == pool.labels * CLUSTERS + ballot.members).mean() > 0.98
    alone = [ballot.chosen(pool.images[i : i + 1], pool.labels[i : i + 1])[0] for i in range(0, 96, 12)]
    assert alone == chosen[::12].tolist()  # nobody's choice depends on whoever else votes


@pytest.mark.parametrize(
    ("changes", "message"),
    {
        "a cluster that is not there": ({"members": np.full(96, 4, np.int16)}, "not there"),
        "an empty cluster": ({"members": np.zeros(96, np.int16)}, "no phantom"),
        "NaN": ({"mean": np.full(1280, np.nan, np.float32)}, "NaN"),
        "another width": ({"mean": np.zeros(10, np.float32)}, "do not fit"),
        "another type": ({"mean": np.zeros(1280, np.float64)}, "do not fit"),
        "another rank": ({"members": np.zeros((96, 1), np.int16)}, "parts are not"),
    }.values(),
)
def test_a_ballot_that_does_not_fit_itself_is_refused(ballot, changes, message):
    with pytest.raises(ModelError, match=message):
        ballot_from(replace(ballot, **changes).to_bytes())


def test_what_is_no_ballot_is_refused(ballot):
    with pytest.raises(ModelError):
        ballot_from(b"\x80\x04 a pickle")
    with pytest.raises(ModelError):
        ballot_from(ballot.to_bytes()[:-1])


def test_a_ballot_of_another_task_or_size_is_refused(ballot):
    for task, size in ((read_task("birads"), SIZE), (TASK, 64)):
        with pytest.raises(InputError, match="was not made for"):
            require_ballot_for(ballot, task, size)
    assert shipped_ballot(read_task("birads"), SIZE) is None


def test_too_few_phantoms_for_the_clusters_are_refused():
    with pytest.raises(InputError, match="too few"):
        make_ballot(TASK, SIZE, pool=31, clusters=4)


@given(arrays(np.int64, 8, elements=st.integers(-6, 40)))
def test_shares_are_shares_whatever_the_noise(votes):
    shares = shares_of(small_ballot(), votes)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    for row, counts in zip(shares, votes.reshape(2, 4), strict=True):
        if counts.sum() > 0:
            order = np.argsort(counts, kind="stable")
            assert (np.diff(row[order]) >= -1e-12).all()  # more votes are never a smaller share
        if counts.sum() > 0 and (counts >= 0).all():
            np.testing.assert_allclose(row, counts / counts.sum())


def test_negative_counts_are_taken_from_all_and_no_votes_leave_the_pool(ballot):
    shares = shares_of(ballot, np.array([9, 5, -2, 0, 1, -1, 0, -1]))
    np.testing.assert_allclose(shares[0], [8 / 12, 4 / 12, 0, 0])
    np.testing.assert_allclose(shares[1], ballot.pool_counts()[1] / 48)
    with pytest.raises(InputError, match="votes for the 8 options"):
        shares_of(ballot, np.zeros(7, np.int64))


def test_phantoms_do_not_depend_on_the_batch(ballot):
    whole = calibrated_phantoms(ballot, uniform(ballot), TASK, 6, seed=1)
    part = calibrated_phantoms(ballot, uniform(ballot), TASK, 2, seed=1, start_index=3)
    np.testing.assert_array_equal(whole.images[3:5], part.images)
    assert whole.labels.tolist() == [0, 1, 0, 1, 0, 1]
    other = calibrated_phantoms(ballot, uniform(ballot), TASK, 6, seed=2)
    assert not np.array_equal(whole.images, other.images)


def test_kinds_without_votes_are_not_drawn_and_a_repeated_phantom_is_scanned_anew(ballot):
    shares = np.zeros((2, CLUSTERS))
    rarest = np.argmin(ballot.pool_counts(), axis=1)
    shares[[0, 1], rarest] = 1
    drawn = calibrated_phantoms(ballot, shares, TASK, 40, seed=1)
    pool = simulate(96, seed=3, size=SIZE)
    allowed = {tuple(box) for box in pool.boxes[ballot.members == rarest[pool.labels]].tolist()}
    boxes = [tuple(box) for box in drawn.boxes.tolist()]
    assert set(boxes) <= allowed
    repeated = next(box for box in boxes if boxes.count(box) > 1)
    first, second = [i for i, box in enumerate(boxes) if box == repeated][:2]
    assert not np.array_equal(drawn.images[first], drawn.images[second])
    # Speckle and overlays differ, the breast is the same: far more alike than two of one kind.
    assert np.corrcoef(drawn.images[first].ravel(), drawn.images[second].ravel())[0, 1] > 0.7
