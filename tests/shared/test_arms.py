"""Train on synthetic, test on real: controls trained as long, few patients, and sets of other places."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.shared.labelled_phantoms import labelled

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.evaluation import arms, classifier
from sonoshare_shared.science.evaluation.arms import AGAINST, ARMS, Training, few_patients, planned_steps, trained_arms
from sonoshare_shared.science.evaluation.auc import paired_difference, patient_bootstrap
from sonoshare_shared.science.evaluation.classifier import Recipe
from sonoshare_shared.science.evaluation.tstr import tstr

SHORT = Training((0, 1), 2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Pictures and steps of every classifier that is trained."""
    seen: list[tuple[int, int]] = []
    original = classifier.fit

    def recorded(images: Any, labels: Any, **settings: Any) -> Any:
        seen.append((len(images), settings["steps"]))
        return original(images, labels, **settings | {"steps": 1})

    monkeypatch.setattr(arms, "fit", recorded)
    return seen


def test_a_control_takes_as_many_steps_as_the_arm_it_stands_beside(
    steps: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arms, "RECIPE", Recipe(least_steps=3, passes=16))  # a step for four pictures
    sets, told = (labelled(40, 1, "s"), labelled(20, 2, "r")), list[int]()
    trained = trained_arms(*sets, 4, Training((0,), told=told.append))
    assert told == [count for _, count in steps]
    assert planned_steps(*sets, 4, Training((0,))) == sum(told)
    assert set(trained) == set(ARMS)
    assert steps == [
        (40, 10),  # synthetic
        (20, 5),  # real
        (60, 15),  # both
        (20, 15),  # real_as_long
        (20, 5),  # pretrained, on from synthetic: 15 in all
        (20, 10),  # the first part of real_longer
        (20, 5),  # real_longer: 15 in all
        (8, 3),  # few
        (48, 12),  # few_both
        (8, 12),  # few_as_long
    ]


def test_a_control_that_would_be_what_is_there_is_not_trained_again(steps: list[tuple[int, int]]) -> None:
    trained = trained_arms(labelled(40, 1, "s"), labelled(20, 2, "r"), 4, Training((0,), 7))
    assert len(steps) == 7
    assert trained["real_as_long"] is trained["real"]
    assert trained["few_as_long"] is trained["few"]
    assert trained["real_longer"] is not trained["real"]


def test_every_arm_has_figures_and_a_control(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sonoshare_shared.science.evaluation.features.pooled", lambda x, _: x.reshape(len(x), -1)[:, :4]
    )
    for resampled in (patient_bootstrap, paired_difference):
        monkeypatch.setattr(
            f"sonoshare_shared.science.evaluation.tstr.{resampled.__name__}", partial(resampled, draws=20)
        )
    sets = labelled(40, 1, "s"), labelled(40, 2, "t"), labelled(24, 3, "r")
    said: dict[str, Any] = tstr(*sets, training=SHORT, few=4, external={"elsewhere": labelled(30, 4, "e")}).as_json()
    elsewhere = said["external"]["elsewhere"]
    assert (elsewhere["images"], elsewhere["patients"]) == (30, 15)
    assert said["few_patients"] == 4
    for found in (said, elsewhere):
        assert {arm: each["against"] for arm, each in found["minus_real"].items()} == dict(AGAINST)
        for arm in ARMS:
            low, high = found[arm]["interval"]
            assert 0 <= low <= found[arm]["auc"] <= high <= 1
        for arm, against in AGAINST.items():
            expected = found[arm]["auc"] - found[against]["auc"]
            assert found["minus_real"][arm]["auc"]["difference"] == pytest.approx(expected)
    assert elsewhere["real"]["auc"] != said["real"]["auc"]
    without: dict[str, Any] = tstr(sets[0], sets[1], training=SHORT, external={"e": labelled(30, 4, "e")}).as_json()
    assert without["external"]["e"]["real"] is None
    assert without["few"] is None
    assert 0 <= without["external"]["e"]["synthetic"]["auc"] <= 1


def test_an_external_set_that_is_trained_on_or_lacks_a_class_is_refused() -> None:
    synthetic, test, train = labelled(8, 1, "s"), labelled(8, 2, "t"), labelled(8, 3, "r")
    renamed = replace(train.take(np.arange(4)), patients=np.array(["x", "y", "z", "w"]))
    with pytest.raises(InputError, match="training pictures"):
        tstr(synthetic, test, train, training=SHORT, external={"e": renamed})
    benign = labelled(8, 4, "e")
    with pytest.raises(InputError, match="lacks a class"):
        tstr(synthetic, test, train, training=SHORT, external={"e": benign.take(benign.labels == 0)})


def test_few_patients_that_are_not_there_are_found_out_before_anything_is_trained(steps: list[tuple[int, int]]) -> None:
    with pytest.raises(InputError, match="11 of 10"):
        trained_arms(labelled(8, 1, "s"), labelled(20, 2, "r"), 11, SHORT)
    assert steps == []


def test_the_few_are_whole_patients_and_others_for_another_seed() -> None:
    train = labelled(40, 3, "r")
    some = few_patients(train, 5, 0)
    assert len(np.unique(some.patients)) == 5
    assert len(some) == 10
    assert set(few_patients(train, 5, 1).patients) != set(some.patients)
    with pytest.raises(InputError, match="21 of 20"):
        few_patients(train, 21, 0)
    apart = replace(train, patients=np.array([f"p{i}" for i in range(40)]))
    with pytest.raises(InputError, match="lack a class"):
        few_patients(apart, 1, 0)
