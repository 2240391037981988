"""One person under two identifiers is found among many patients; nobody else is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sonoshare_privacy.audits import twins
from sonoshare_privacy.audits.edits import EDITS
from sonoshare_privacy.audits.twins import find_twins
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.imaging import to_grid
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.pictures.reading import read_file

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.float32]:
    return simulate(60, seed=12, size=64).images


def all_new(images: NDArray[np.float32] | NDArray[Any] | range) -> NDArray[Any]:
    return np.ones(len(images), np.bool_)


def test_unrelated_patients_are_no_twins(pictures: NDArray[np.float32]) -> None:
    assert find_twins(pictures, np.arange(60), all_new(pictures)).twins == ()
    assert find_twins(pictures[:0], np.arange(0), all_new(pictures[:0])).twins == ()


def test_nearly_the_same_view_under_another_identifier_is_found(pictures: NDArray[np.float32]) -> None:
    names = ("flip", "crop90", "gamma0.6", "speckle")
    images, rng = pictures.copy(), np.random.default_rng(0)
    for place, name in enumerate(names):
        edit = next(edit for edit in EDITS if edit.name == name)
        images[40 + place] = edit.apply(pictures[place], pictures[8], rng)
    found = find_twins(images, np.arange(60), all_new(images)).twins
    assert sorted((one.first, one.second) for one in found) == [(place, 40 + place) for place in range(len(names))]
    assert all(one.score >= twins.THRESHOLD for one in found)
    owners = np.arange(60) % 40  # both pictures of a pair are one patient's
    assert find_twins(images, owners, all_new(images)).twins == ()


def test_only_pairs_with_a_new_image_are_compared(pictures: NDArray[np.float32]) -> None:
    images = pictures.copy()
    images[41], images[59] = pictures[7], pictures[3]
    new = np.arange(60) >= 50
    (found,) = find_twins(images, np.arange(60), new).twins
    assert (found.first, found.second) == (3, 59)


def test_two_patients_with_many_like_images_do_not_crowd_out_another_pair(pictures: NDArray[np.float32]) -> None:
    images = np.concatenate([pictures[:20], np.repeat(pictures[20:21], 40, axis=0), pictures[:1]])
    owners = np.concatenate([np.arange(20), np.repeat([20, 21], 20), [22]])
    found = find_twins(images, owners, all_new(images)).twins
    assert {frozenset(owners[[one.first, one.second]].tolist()) for one in found} == {
        frozenset({20, 21}),
        frozenset({0, 22}),
    }


def many_couples(people: int) -> NDArray[np.float32]:
    """Each person's picture, then each of them again, paler."""
    one = np.random.default_rng(5).random((people, 16, 16), np.float32)
    large = one.repeat(4, axis=1).repeat(4, axis=2)
    return np.concatenate([large, large**0.8])


def test_the_search_goes_on_while_it_finds_pairs() -> None:
    found = find_twins(many_couples(150), np.arange(300), all_new(range(300)))
    assert found.complete
    assert sorted((one.first, one.second) for one in found.twins) == [(place, 150 + place) for place in range(150)]


def test_a_search_that_must_stop_says_so_and_goes_on_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "_LEAST_MOST", 30)
    monkeypatch.setattr(twins, "_MOST_PER_IMAGE", 0)
    images, owners, known = many_couples(40), np.arange(80), list[tuple[int, int]]()
    for most, complete in ((30, False), (10, True)):
        found = find_twins(images, owners, all_new(images), known=known)
        assert (len(found.twins), found.complete) == (most, complete)
        known += [(one.first, one.second) for one in found.twins]
    assert sorted(known) == [(place, 40 + place) for place in range(40)]


def test_more_pairs_raise_the_threshold() -> None:
    one, many = (twins.threshold(np.arange(count), all_new(range(count))) for count in (1000, 20_000))
    assert one == twins.THRESHOLD
    assert twins.THRESHOLD + 0.1 < many < twins.HIGHEST
    with pytest.raises(InputError):
        find_twins(np.zeros((2, 64, 64), np.float32), np.arange(3), all_new(range(2)))


def test_the_twins_of_busbra_are_found(busbra: Path) -> None:
    rows = [row for row in read_labels(busbra) if 40 <= int(row.patient) <= 95]
    images = np.stack([to_grid(read_file(row.image).pixels, 64) for row in rows])
    names, owners = np.unique([row.patient for row in rows], return_inverse=True)
    found = find_twins(images, owners, all_new(images)).twins
    pairs = {frozenset(names[owners[[one.first, one.second]]].tolist()) for one in found}
    assert pairs == {frozenset({"56", "91"}), frozenset({"44", "65"})}
