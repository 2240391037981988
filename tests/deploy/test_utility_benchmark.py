"""The utility benchmark on phantoms that stand for patients: patient-disjoint, resumable, figures as they should be."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks._utility_adapters import Training
from benchmarks._utility_work import ARMS, Bench, Settings
from benchmarks.utility import compute, figures
from tests.shared.labelled_phantoms import one_each
from tests.small_ballot import small_ballot

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.evaluation.auc import auc
from sonoshare_shared.science.evaluation.folds import within_fold_ranks
from sonoshare_shared.science.evaluation.labelled import LabelledImages

torch.set_num_threads(1)
TRAINING = Training(profile="tiny", rate=1.0, steps=3)
SETTINGS = Settings(images=8, sampler_steps=2, classifier_steps=1, few=6, training=TRAINING)


@pytest.fixture(scope="module")
def stand_in() -> LabelledImages:
    devices = np.array(["A", "B"] * 24)
    devices[[0, 1, 4, 5]] = "C"  # two patients in each fold: too few to be a hospital
    return replace(one_each(48), devices=devices)


def test_a_second_run_computes_nothing_and_says_the_same(
    stand_in: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.utility.extras", lambda *_: {})
    said: list[str] = []
    bench = Bench(stand_in, tmp_path, SETTINGS, small_ballot(), compute=True, say=said.append)
    compute(bench, (1,), 1)
    first: dict[str, Any] = figures(bench, (1,), 1)
    made = len(said)
    assert made > 0
    assert first["real_plus_synthetic"] == first["real_plus_calibrated"]
    assert all(set(first[arm]) >= {"auc", "interval"} for arm in ARMS)
    assert first["dp_eps8"]["against"] == "phantom_only"
    at_last = {arm: bench.units.get(f"scores-{arm}-fold1-seed0", dict) for arm in ("real50", "calibrated_then_real50")}
    assert len({unit["trained_on"] for unit in at_last.values()}) == 1  # the synthetic set came before, not beside
    assert at_last["real50"]["scores"] != at_last["calibrated_then_real50"]["scores"]
    again = Bench(stand_in, tmp_path, SETTINGS, small_ballot(), compute=False, say=said.append)
    assert figures(again, (1,), 1) == first
    assert len(said) == made


def test_a_missing_fold_gives_no_figure(stand_in: LabelledImages, tmp_path: Path) -> None:
    bench = Bench(stand_in, tmp_path, SETTINGS, small_ballot(), compute=True, say=lambda _: None)
    bench.scores(1, "real50", 0)
    reading = Bench(stand_in, tmp_path, SETTINGS, small_ballot(), compute=False, say=lambda _: None)
    assert figures(reading, (1, 2), 1)["real50"] is None


def test_a_folder_of_other_settings_is_refused(stand_in: LabelledImages, tmp_path: Path) -> None:
    Bench(stand_in, tmp_path, SETTINGS, small_ballot(), compute=True, say=lambda _: None)
    with pytest.raises(InputError, match="other settings"):
        Bench(stand_in, tmp_path, Settings(images=13), small_ballot(), compute=True, say=lambda _: None)


def test_ranks_within_a_fold_keep_its_auc() -> None:
    scores, labels = np.array([3.0, -1.0, 0.5, 9.0]), np.array([1, 0, 0, 1])
    assert auc(labels, within_fold_ranks(scores)) == auc(labels, scores)
