"""Two stages: the same scores as over all pairs, sensitivity one, bounded reading, and a recall that is measured."""

import itertools
import weakref
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sonoshare_privacy.audits import copies, nearest
from sonoshare_privacy.audits.correlation import IMAGES_PER_BLOCK, posed_windows
from sonoshare_privacy.audits.edits import EDITS
from sonoshare_privacy.audits.nearest import BytePictures, first_pass_limits, looks_for
from sonoshare_privacy.audits.reference import reference_images
from sonoshare_privacy.mechanisms.histograms import PublicBins
from sonoshare_shared.science.phantom import simulate

SIZE, LOOKS = 64, 4


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "SHARD", 25)
    monkeypatch.setattr(nearest, "_READ_AT_ONCE", 10)


@pytest.fixture(scope="module")
def pictures() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Patient images (12) and candidates (60), among them edited copies of the first six."""
    images = simulate(72, seed=15, size=SIZE).images
    patients, candidates = images[:12], images[12:].copy()
    rng = np.random.default_rng(0)
    for place, name in enumerate(("exact", "flip", "crop90", "rotate3", "speckle", "gamma1.7")):
        edit = next(edit for edit in EDITS if edit.name == name)
        candidates[9 * place] = edit.apply(patients[place], candidates[-1], rng)
    return patients, candidates


def test_planted_copies_score_as_over_all_pairs_and_nobody_scores_more(
    pictures: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    patients, candidates = pictures
    every, two = (nearest.nearest(candidates, patients, looks=looks) for looks in (None, LOOKS))
    np.testing.assert_array_equal(two.places[:6], 9 * np.arange(6))
    np.testing.assert_allclose(two.scores[:6], every.scores[:6], atol=1e-6)
    assert (two.scores <= every.scores + 1e-6).all()


def test_looking_at_all_of_a_shard_is_looking_at_every_pair(
    pictures: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    patients, candidates = pictures
    every, two = (nearest.nearest(candidates, patients, looks=looks) for looks in (None, 25))
    np.testing.assert_array_equal(two.places, every.places)
    np.testing.assert_allclose(two.scores, every.scores, atol=1e-6)


def test_a_score_does_not_depend_on_other_patients_to_the_last_bit(
    pictures: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    patients, candidates = pictures
    for looks in (None, LOOKS):
        together = nearest.nearest(candidates, patients, looks=looks)
        for first, last in ((0, 1), (5, 6), (3, 12)):
            apart = nearest.nearest(candidates, patients[first:last], looks=looks)
            np.testing.assert_array_equal(apart.scores, together.scores[first:last])
            np.testing.assert_array_equal(apart.places, together.places[first:last])


def histogram(scores: Any) -> NDArray[Any]:
    return np.array(PublicBins((0.3, 0.4, 0.5, 0.7)).counts(scores))


def ours(candidates: Any, cohort: Any) -> NDArray[np.float64]:
    return copies.patient_nearest(candidates, cohort, looks=2).scores


def looks_shared_by_all(candidates: Any, cohort: Any) -> NDArray[Any]:
    """Broken: the pairs worth a look are ranked over all patients, so that one takes another's place."""
    scores = copies.patient_nearest(candidates, cohort).scores
    chosen = np.argsort(-scores, kind="stable")[:1]
    return np.where(np.isin(np.arange(len(scores)), chosen), scores, -1.0)


def sensitivity(rule: Callable[..., Any], candidates: NDArray[np.float32], people: list[Any]) -> int:
    """Largest change of all counts together, over all small cohorts and every patient that joins one."""
    cohorts = [c for size in (0, 1, 2) for c in itertools.combinations_with_replacement(people, size)]
    before = [histogram(rule(candidates, [*cohort])) for cohort in cohorts]
    return max(
        int(np.abs(histogram(rule(candidates, [*cohort, joins])) - counts).sum())
        for cohort, counts in zip(cohorts, before, strict=True)
        for joins in people
    )


def test_pictures_are_compared_in_blocks_of_one_shape_however_many_there_are(
    pictures: tuple[NDArray[np.float32], NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels are chosen by shape: a smaller last block could move a bit of all in it when one patient leaves."""
    patients, candidates = pictures
    shapes, posed = set(), posed_windows

    def watched(images: NDArray[np.float32], *arguments: Any) -> Any:
        shapes.add(images.shape)
        return posed(images, *arguments)

    monkeypatch.setattr(nearest, "posed_windows", watched)
    for count in (1, 8, 11, 12):
        found = nearest.nearest(candidates, patients[:count], looks=LOOKS)
        assert (len(found.scores), len(found.places)) == (count, count)
    assert shapes == {(8, SIZE, SIZE)}


def test_one_patient_changes_one_count_by_one(pictures: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    patients, candidates = pictures
    people = [patients[0:1], patients[1:3], patients[8:9]]
    assert sensitivity(ours, candidates[:30], people) == 1
    assert sensitivity(looks_shared_by_all, candidates[:30], people) > 1


def test_which_way_is_taken_follows_from_public_numbers() -> None:
    assert looks_for(1000, 1000) is None
    assert looks_for(100_000, 1000) == nearest.LOOKS
    assert looks_for(nearest.EVERY_PAIR_UP_TO, 1) is None
    assert looks_for(nearest.EVERY_PAIR_UP_TO + 1, 1) == nearest.LOOKS


def test_the_declared_recall_is_that_of_the_search_in_use(
    pictures: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    _, candidates = pictures
    reference = reference_images(SIZE)
    every, few = (copies.calibrate(candidates, reference, looks=looks) for looks in (None, 1))
    assert every.threshold == few.threshold
    assert (every.looks, few.looks) == (None, 1)
    assert all(few.recall[name] <= share for name, share in every.recall.items())
    assert few.rates.recall <= every.rates.recall
    out_of_reach = np.full((2, copies.PLANTED_SOURCES), -np.inf, np.float32)
    out_of_reach[1] = 1.1  # in one of two shards no copy would be looked at
    halved = copies.planted_recall(reference, every.threshold, limits=out_of_reach)
    assert halved == pytest.approx({name: share / 2 for name, share in every.recall.items()})


def test_what_exceeds_the_limit_is_looked_at(pictures: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    patients, candidates = pictures
    limits = first_pass_limits(candidates, patients, LOOKS)
    assert limits.shape == (3, 12)
    assert np.isfinite(limits).all()
    assert np.isneginf(first_pass_limits(candidates, patients, 26)).all()  # all of a shard are looked at
    assert np.isneginf(first_pass_limits(candidates[:27], patients, LOOKS)[1]).all()  # a last shard of two


class Watched:
    """Candidates that tell how many of them are asked for at a time."""

    def __init__(self, pictures: BytePictures) -> None:
        self.pictures = pictures
        self.asked: list[Any] = []

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, span: Any) -> NDArray[np.float32]:
        self.asked.append(len(range(*span.indices(len(self)))))
        return self.pictures[span]


def test_candidates_are_read_in_small_parts(pictures: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    patients, candidates = pictures
    watched = Watched(BytePictures(np.rint(candidates * 255).astype(np.uint8)))
    told: list[tuple[int, int]] = []
    nearest.nearest(watched, patients, looks=LOOKS, told=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] >= len(patients)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert max(watched.asked) == 10
    assert sum(watched.asked) == 60


def test_pictures_of_a_byte_a_pixel() -> None:
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    pictures = BytePictures(pixels)
    assert len(pictures) == 2
    np.testing.assert_allclose(pictures[0:1] * 255, pixels[:1], atol=1e-5)
    assert pictures[:1].dtype == np.float32
    assert pictures.digest() != BytePictures(pixels[::-1]).digest()


class MadeOnDemand(Sequence[NDArray[np.float32]]):
    """Patients whose images are made when they are asked for; counts how many were held at once."""

    def __init__(self, groups: list[NDArray[np.float32]]) -> None:
        self.groups, self.held, self.most = groups, 0, 0

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, place: Any) -> Any:
        if place >= len(self.groups):
            raise IndexError
        made = self.groups[place].copy()
        self.held += 1
        self.most = max(self.most, self.held)
        weakref.finalize(made, self._gone)
        return made

    def _gone(self) -> None:
        self.held -= 1


def test_patients_who_are_made_on_demand_score_as_if_they_all_lay_there_and_few_are_held_at_once() -> None:
    pictures = simulate(60, seed=5, size=32).images
    candidates, rest = pictures[:10], pictures[10:]
    groups = [rest[first:last] for first, last in pairwise([0, 1, 2, 20, 21, 24, 40, *range(41, 51)])]
    lazy = MadeOnDemand(groups)
    found, whole = copies.patient_nearest(candidates, lazy), copies.patient_nearest(candidates, groups)
    assert np.array_equal(found.scores, whole.scores)
    assert np.array_equal(found.own, whole.own)
    assert lazy.most <= IMAGES_PER_BLOCK + 2  # of sixteen patients: a block's, and the one before
    joined, together = nearest.JoinedPictures(groups), np.concatenate(groups)
    for span in (slice(0, 8), slice(1, 3), slice(19, 22), slice(48, 99)):
        assert np.array_equal(joined[span], together[span])
