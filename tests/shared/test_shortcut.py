"""The shortcut test: 0.5 where nothing tells two sets apart, 1 where something does, and no patient on both sides."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.shared.labelled_phantoms import labelled

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.evaluation import classifier
from sonoshare_shared.science.evaluation.folds import patient_folds, within_fold_ranks
from sonoshare_shared.science.evaluation.shortcut import shortcut

FIT = "sonoshare_shared.science.evaluation.shortcut.fit"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_a_mark_in_synthetic_pictures_is_found_and_without_one_there_is_nothing_to_find() -> None:
    real, other = labelled(80, 1, "r"), labelled(80, 2, "s")
    unmarked: dict[str, Any] = shortcut(other, real, folds=2, steps=16).as_json()
    assert set(unmarked) == {"auc", "interval", "images", "patients", "folds", "seeds"}
    assert unmarked["interval"][0] < 0.5 < unmarked["interval"][1] + 0.05
    marked = other.images.copy()
    marked[:, 8:24:2, 8:24:2] = 1.0  # a grid that no scanner draws
    found = shortcut(replace(other, images=marked), real, folds=2, steps=16)
    assert found.area.value > 0.95


def test_levels_finer_than_a_release_has_are_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[NDArray[np.floating]] = []

    def recorded(images: Any, labels: Any, **settings: Any) -> Any:
        seen.append(images)
        return original(images, labels, **settings)

    original = classifier.fit
    monkeypatch.setattr(FIT, recorded)
    shortcut(labelled(12, 1, "s"), labelled(12, 2, "r"), folds=2, steps=1)
    assert all(np.array_equal(images, np.round(images * 255) / np.float32(255)) for images in seen)


def test_nobody_is_trained_on_and_scored_and_both_sides_are_alike_in_class(monkeypatch: pytest.MonkeyPatch) -> None:
    real = labelled(60, 1, "p")
    thin = real.take(np.flatnonzero((real.labels == 0) | (np.arange(60) < 20)))  # ten malignant
    synthetic = labelled(40, 2, "p")  # the same names on the other side
    trained: list[tuple[set[bytes], NDArray[np.int64]]] = []

    class Recorder:
        def __init__(self, images: Any, made: Any) -> None:
            trained.append(({image.tobytes() for image in images}, made))

        def predict(self, images: Any) -> NDArray[np.float64]:
            assert not {image.tobytes() for image in images} & trained[-1][0]
            return np.arange(len(images), dtype=float)

    monkeypatch.setattr(FIT, lambda images, made, **_: Recorder(images, made))
    report = shortcut(synthetic, thin, folds=3)
    assert report.images == 20 + 10
    assert len(trained) == 3


def test_a_patient_stays_in_one_part_and_parts_are_level() -> None:
    patients = np.array([f"p{i // 3}" for i in range(60)])
    part = patient_folds(patients, 4)
    assert np.array_equal(part[::3], part[2::3])
    assert np.bincount(part[::3]).tolist() == [5, 5, 5, 5]
    assert not np.array_equal(patient_folds(patients, 4, seed=1), part)
    with pytest.raises(InputError, match="20 patients in 21 parts"):
        patient_folds(patients, 21)
    assert within_fold_ranks(np.array([3.0, -1.0, 0.5])).tolist() == [2 / 3, 0, 1 / 3]


def test_sets_that_cannot_be_compared_are_refused() -> None:
    one = labelled(12, 1, "s")
    with pytest.raises(InputError, match="classes or sizes"):
        shortcut(one, labelled(12, 2, "r", size=64))
    with pytest.raises(InputError, match="no class"):
        shortcut(one.take(one.labels == 0), one.take(one.labels == 1))


def test_pictures_that_are_on_both_sides_are_refused_and_not_told_apart() -> None:
    """Half of the copies would be known as real, half as synthetic: a set that copies patients would look perfect."""
    real = labelled(24, 1, "r")
    with pytest.raises(InputError, match="24 pictures are on both sides"):
        shortcut(real, real, folds=2, steps=1)
    copied = labelled(24, 2, "s").images.copy()
    copied[3] = np.round(real.images[5] * 255) / np.float32(255)  # as a release writes it
    with pytest.raises(InputError, match="1 picture is on both sides"):
        shortcut(replace(labelled(24, 2, "s"), images=copied), real, folds=2, steps=1)
