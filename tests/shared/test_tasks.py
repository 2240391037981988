"""Tasks are files: every shipped one reads, maps its classes to phantoms, and a new one needs no code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.documents import Task
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.tasks.files import FOLDER, read_task, shipped_tasks, with_scanners
from sonoshare_shared.science.tasks.phantoms import pathology_shares, start_at_task, task_phantoms

torch.set_num_threads(1)


def written(folder: Path, **changes: Any) -> Path:
    task = {"name": "mine", "question": "Which?", "classes": ["left", "right"]} | changes
    path = folder / "mine.json"
    path.write_text(json.dumps(task))
    return path


def test_the_four_tasks_ship() -> None:
    assert shipped_tasks() == ("birads", "diagnosis", "early-diagnosis", "prognosis")


@pytest.mark.parametrize("name", shipped_tasks())
def test_a_shipped_task_reads_by_name_and_by_path_and_has_phantoms(name: str) -> None:
    task = read_task(name)
    assert task.name == name
    assert read_task(FOLDER / f"{name}.json") == task
    drawn = task_phantoms(task, 2 * len(task.classes), seed=3, size=32)
    assert drawn.labels.tolist() == list(range(len(task.classes))) * 2
    assert drawn.masks.any(axis=(1, 2)).all()


def test_a_new_task_is_a_new_file(tmp_path: Path) -> None:
    phantoms = {"left": {"normal": 1.0}, "right": {"in-situ": 0.5, "malignant": 0.5}}
    task = read_task(written(tmp_path, phantoms=phantoms))
    drawn = task_phantoms(task, 40, seed=1, size=32)
    assert not drawn.masks[drawn.labels == 0].any()
    kinds = [lesion.pathology for lesion in drawn.parameters if lesion is not None]
    assert {"in-situ", "malignant"} == set(kinds)
    later = task_phantoms(task, 5, seed=1, size=32, start_index=35)
    assert np.array_equal(later.images, drawn.images[35:])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"phantoms": {"left": {"benign": 1.0}}}, IntegrityError, "for every class"),
        ({"phantoms": {"left": {}, "right": {"benign": 1.0}}}, IntegrityError, "phantoms.left"),
        ({"phantoms": {"left": {"benign": 0.0}, "right": {"benign": 1.0}}}, IntegrityError, "greater than 0"),
        ({"classes": ["left", "left"]}, IntegrityError, "distinct"),
        ({"classes": ["left"]}, IntegrityError, "classes"),
        ({"wish": 1}, IntegrityError, "wish"),
    ],
)
def test_a_wrong_task_names_its_field(
    tmp_path: Path,
    changes: dict[str, dict[str, dict[str, float]]] | dict[str, list[str]] | dict[str, int],
    error: type[IntegrityError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        read_task(written(tmp_path, **changes))


def test_a_missing_task_names_those_that_ship(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use one of birads, diagnosis"):
        read_task("diagnosys")
    with pytest.raises(InputError, match=r"cannot read task file absent\.json"):
        read_task(tmp_path / "absent.json")


@pytest.mark.parametrize("phantoms", [{}, {"left": {"benign": 1.0}, "right": {"cyst": 1.0}}])
def test_a_pathology_that_the_simulator_lacks_is_named(
    tmp_path: Path, phantoms: dict[Any, Any] | dict[str, dict[str, float]]
) -> None:
    with pytest.raises(InputError, match=r"knows no pathology '(left|cyst)'"):
        pathology_shares(read_task(written(tmp_path, phantoms=phantoms)))


def test_diagnosis_draws_what_the_simulator_draws() -> None:
    ours, plain = task_phantoms(read_task("diagnosis"), 6, seed=4, size=32), simulate(6, seed=4, size=32)
    assert np.array_equal(ours.images, plain.images)
    assert np.array_equal(ours.labels, plain.labels)
    assert np.array_equal(ours.scanners, plain.scanners)


def test_class_embeddings_start_at_the_likeliest_pathology() -> None:
    model, _ = load_base("tiny")
    base = model.class_embedding.weight.detach().clone()
    start_at_task(model, read_task("diagnosis"))
    assert torch.equal(model.class_embedding.weight, base)
    start_at_task(model, read_task("birads"))
    assert torch.equal(model.class_embedding.weight[:4], base[[0, 0, 0, 1]])
    assert torch.equal(model.class_embedding.weight[4:], base[4:])


def test_every_device_of_a_consortium_starts_as_none_in_particular() -> None:
    model, _ = load_base("small")
    absent = model.scanner_embedding.weight[-1].detach().clone()
    assert not torch.equal(model.scanner_embedding.weight[4], absent)  # a style of the simulator's
    start_at_task(model, with_scanners(read_task("diagnosis"), tuple("ABCDEF")))
    assert torch.equal(model.scanner_embedding.weight[:6], absent.expand(6, -1))
    assert not torch.equal(model.scanner_embedding.weight[6], absent)


def test_a_consortium_names_its_scanners() -> None:
    task = with_scanners(read_task("diagnosis"), ("A", "B"))
    assert task.scanners == ("A", "B")
    assert with_scanners(task, ()) == task
    with pytest.raises(IntegrityError, match="distinct"):
        with_scanners(task, ("A", "A"))


def test_a_task_survives_its_canonical_form() -> None:
    task = read_task("birads")
    assert Task.from_bytes(task.canonical()) == task
