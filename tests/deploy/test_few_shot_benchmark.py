"""The few-shot benchmark on phantoms that stand for patients: few patients of other folds, resumable."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks._few_shot_work import FLOOR, QUESTIONS, WAYS, Arm, FewShot, Settings
from benchmarks._utility_adapters import Training
from benchmarks.few_shot import labelled_by, not_carried
from tests.shared.labelled_phantoms import one_each

from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.evaluation.units import Units

torch.set_num_threads(1)
SETTINGS = Settings(
    images=8,
    sampler_steps=2,
    classifier_steps=1,
    training=Training(profile="tiny", rate=1.0, steps=1),
    pool=32,
    kinds=2,
)
ARMS = (Arm("adapter", 4), Arm("votes", 4), Arm("votes_eps1", 4))
QUESTION = QUESTIONS["birads"]


@pytest.fixture(scope="module")
def stand_in() -> LabelledImages:
    return replace(one_each(32), labels=np.arange(32) % 4, classes=QUESTION.task.classes)


def test_few_patients_come_from_other_folds_and_from_every_class(stand_in: LabelledImages, tmp_path: Path) -> None:
    bench = FewShot(QUESTION, stand_in, Units(tmp_path, {}), SETTINGS)
    few = bench.few(1, 8)
    assert len(np.unique(few.patients)) == 8
    assert set(few.folds) == {2}
    assert np.bincount(few.labels).tolist() == [2, 2, 2, 2]
    assert set(bench.few(1, 100).patients) == set(stand_in.patients[stand_in.folds == 2])
    assert bench.positive(np.arange(4)).tolist() == [0, 0, 1, 1]


def test_a_second_run_computes_nothing_and_says_the_same(stand_in: LabelledImages, tmp_path: Path) -> None:
    said: list[str] = []
    first: dict[str, Any] = FewShot(QUESTION, stand_in, Units(tmp_path, {}, say=said.append), SETTINGS).figures(
        (1,), ARMS, 1
    )
    assert first["test"] == {"patients": 16, "images": 16, "positive_images": 8}
    assert {"auc", "interval", "denoising", "difference"} == set(first["adapter_4"])
    assert {"auc", "interval", "difference"} == set(first["votes_4"]) == set(first["votes_eps1_4"])
    made = len(said)
    reading = FewShot(QUESTION, stand_in, Units(tmp_path, {}, compute=False, say=said.append), SETTINGS)
    assert reading.figures((1,), ARMS, 1) == first
    assert reading.figures((1,), (Arm("adapter", 8), Arm("votes", 8)), 1)["votes_8"] is None
    assert len(said) == made


def test_exact_votes_are_one_a_patient_and_draw_what_was_voted_for(stand_in: LabelledImages, tmp_path: Path) -> None:
    bench = FewShot(QUESTION, stand_in, Units(tmp_path, {}), SETTINGS)
    chances = bench.chances(1, Arm("votes", 4), WAYS["votes"])
    votes = np.array(json.loads((tmp_path / "votes-birads-fold1-votes_4.json").read_text())["votes"])
    assert votes.sum() == 4  # of four patients, one of each class
    assert votes.reshape(4, 2).sum(axis=1).tolist() == [1, 1, 1, 1]
    ballot = bench.ballot()
    kinds = np.arange(len(ballot.members)) % 4 * 2 + ballot.members
    assert set(kinds[chances > 0]) == set(np.flatnonzero(votes))


def test_own_pictures_are_trained_on_alone_or_beside_synthetic_ones(stand_in: LabelledImages, tmp_path: Path) -> None:
    bench = FewShot(QUESTION, stand_in, Units(tmp_path, {}), SETTINGS)
    own, _ = bench.training_set(1, Arm("own", 4), 0)
    beside, labels = bench.training_set(1, Arm("own_phantoms", 4), 0)
    assert np.array_equal(own, bench.few(1, 4).images)
    assert np.array_equal(beside[-len(own) :], own)
    assert np.array_equal(beside[: -len(own)], bench.synthetic(1, FLOOR, 0)[0])
    assert labels[-len(own) :].tolist() == bench.few(1, 4).labels.tolist()
    voted, _ = bench.training_set(1, Arm("own_votes", 4), 0)
    assert not np.array_equal(voted[: -len(own)], beside[: -len(own)])


def test_hard_diagnosis_leaves_out_what_was_plain_to_see(busbra: Path) -> None:
    everything = len(labelled_by(QUESTIONS["diagnosis"], busbra))
    assert len(labelled_by(QUESTIONS["hard-diagnosis"], busbra)) < everything == 1875
    found: Any = not_carried(busbra)
    assert 0 < found["early-diagnosis"]["in_situ_patients"] < 10


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_class_of_a_question_is_in_busbra(name: str, busbra: Path) -> None:
    question = QUESTIONS[name]
    table = labelled_by(question, busbra)
    assert set(table.labels) == set(question.task.classes)
    assert {row.fold for row in table} == {1, 2, 3, 4, 5}
