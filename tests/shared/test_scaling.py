"""Curves over amount and rarity: resumable, patient-disjoint, and thinned by patients."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.science.evaluation.auc import auc
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.evaluation.scaling import (
    Scaling,
    Scores,
    curves,
    draw_scaling,
    filled_up,
    pinned,
    score_scaling,
    thinned,
)
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.phantom import simulate

SIZES, SHARES = (4, 20, 9999), (0.001, 0.2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def labelled(n: int, seed: int, prefix: str) -> LabelledImages:
    batch = simulate(n, seed=seed, size=32)
    return LabelledImages(
        images=batch.images,
        masks=batch.masks,
        labels=batch.labels,
        boxes=batch.boxes,
        patients=np.array([f"{prefix}{label}-{i // 4}" for i, label in enumerate(batch.labels)]),
        devices=np.array(["A"] * n),
        folds=np.full(n, -1),
        classes=("benign", "malignant"),
    )


@pytest.fixture(scope="module")
def sets() -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    torch.set_num_threads(1)
    return labelled(24, 1, "s"), labelled(20, 2, "t"), labelled(40, 3, "r")


def test_curves_are_resumed_and_say_the_same(
    sets: tuple[LabelledImages, LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    said: list[str] = []
    units = Units(tmp_path, pinned(*sets, steps=2), say=said.append)
    test = sets[1]

    def measured(where: Units) -> Scaling:
        scores = score_scaling(*sets, where, sizes=SIZES, shares=SHARES, steps=2)
        return curves(scores, test.labels, test.patients)

    first = measured(units)
    assert list(first.amount) == [4, 20]  # more than there are is left out
    assert list(first.rarity) == [0.2]  # so is a share that leaves no positive image
    assert len(said) == 3 * (2 + 2)
    (tmp_path / "synthetic-4-seed1.json").unlink()
    again = Units(tmp_path, pinned(*sets, steps=2), say=said.append)
    assert measured(again) == first
    assert said[12:] == ["synthetic-4-seed1"]
    draw_scaling(first, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    fields: dict[str, Any] = first.as_json()
    assert [point["n"] for point in fields["n_synthetic"]] == [4, 20]
    assert set(fields["imbalance"][0]) == {"share", "real", "both", "minus_real"}
    point = first.rarity[0.2]
    assert point.minus_real.value == pytest.approx(point.both.value - point.real.value)
    assert point.minus_real.interval[0] <= point.minus_real.value <= point.minus_real.interval[1]


def test_the_slope_is_the_line_through_the_points_with_an_interval_over_patients() -> None:
    rng = np.random.default_rng(0)
    labels, patients = np.arange(80) % 2, np.array([f"p{i // 2}" for i in range(80)])
    noise = rng.standard_normal((2, 80))
    amount = {n: noise + signal * labels for n, signal in ((100, 0.2), (1000, 0.8), (10_000, 1.4))}
    found = curves(Scores(amount, {}), labels, patients)
    slope = found.slope
    assert slope is not None
    expected = [np.polyfit([2, 3, 4], [auc(labels, table[seed]) for table in amount.values()], 1)[0] for seed in (0, 1)]
    assert slope.by_seed == pytest.approx(expected)
    assert slope.per_decade.value == pytest.approx(np.mean(expected))
    assert 0 < slope.per_decade.interval[0] < slope.per_decade.value < slope.per_decade.interval[1]
    said: Any = found.as_json()["slope"]
    assert set(said) == {"auc_per_decade", "interval", "by_seed"}
    assert curves(Scores({100: noise}, {}), labels, patients).as_json()["slope"] is None


def test_another_release_does_not_go_on_in_the_same_folder(
    sets: tuple[LabelledImages, LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    synthetic, test, train = sets
    Units(tmp_path, pinned(synthetic, test, train))
    with pytest.raises(InputError, match="other settings"):
        Units(tmp_path, pinned(train, test, train))


def test_a_full_disk_at_the_first_write_leaves_a_folder_to_go_on_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sonoshare_shared.durable.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            Units(tmp_path, {"steps": 2})
    units = Units(tmp_path, {"steps": 2})
    with monkeypatch.context() as patch:
        patch.setattr("sonoshare_shared.durable.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            units.get("unit", lambda: {"figure": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
    assert units.get("unit", lambda: {"figure": 2}) == {"figure": 2}


@pytest.mark.parametrize("name", ["settings.json", "unit.json"])
def test_a_torn_file_of_a_work_folder_is_one_line_with_a_remedy(tmp_path: Path, name: str) -> None:
    Units(tmp_path, {"steps": 2}).get("unit", lambda: {"figure": 1})
    (tmp_path / name).write_text('{"ste')
    with pytest.raises(IntegrityError, match=f"{name} is damaged"):
        Units(tmp_path, {"steps": 2}).get("unit", lambda: {"figure": 1})


def test_thinning_keeps_whole_patients_and_the_share(
    sets: tuple[LabelledImages, LabelledImages, LabelledImages],
) -> None:
    train = sets[2]
    thin = thinned(train, 0.2, seed=0)
    assert (thin.labels == 0).sum() == 20
    assert 0 < (thin.labels == 1).mean() <= 0.2
    for patient in np.unique(thin.patients):
        assert (thin.patients == patient).sum() == (train.patients == patient).sum()
    other = thinned(train, 0.2, seed=1)
    assert set(other.patients) != set(thin.patients)
    level = filled_up(thin, sets[0])
    assert (level.labels == 1).sum() == min(20, (thin.labels == 1).sum() + 12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"seeds": 2}, "3 or more"), ({"sizes": (1,)}, "start at 2"), ({"shares": (1.0,)}, "between 0 and 1")],
)
def test_what_has_no_meaning_is_refused(
    sets: tuple[LabelledImages, LabelledImages, LabelledImages], tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        score_scaling(*sets, Units(tmp_path, {}), **{"steps": 1, **wrong})


def test_a_patient_on_both_sides_is_refused(
    sets: tuple[LabelledImages, LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="training and test"):
        score_scaling(sets[0], sets[1], sets[1], Units(tmp_path, {}), steps=1)
