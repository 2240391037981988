"""What users give that cannot be right, through the real command: one line that says what and how to mend it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.deploy.command import sonoshare
from tests.deploy.labelled_folders import SIDE, pictures

from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.science.model import phantom_cache
from sonoshare_shared.science.model.adapter import adapter_bytes, adapter_digest, adapter_from_bytes
from sonoshare_shared.science.model.base import base_path, load_base
from sonoshare_shared.science.model.base_checkpoint import Checkpoint, save_checkpoint
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.sampler import refine
from sonoshare_shared.science.model.tensors import read_tensors, write_tensors
from sonoshare_shared.science.phantom import simulate


def refused(*arguments: object) -> str:
    run = sonoshare(*arguments)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    (line,) = run.errors
    assert line.endswith(")")  # the remedy
    return line


WRONG_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "a label outside the task": ({"label": "cystic"}, "unknown class cystic"),
    "a box outside the picture": ({"box": "20,4,30,8"}, "0.png: the box is empty or reaches outside the picture"),
    "a box of no size": ({"box": "4,4,0,8"}, "the box is empty"),
    "a picture that is not there": ({"image": "gone.png"}, "file gone.png does not exist"),
}


@pytest.mark.parametrize("case", WRONG_ROWS)
def test_rows_at_base_train(case: str, tmp_path: Path) -> None:
    row, message = WRONG_ROWS[case]
    folder = pictures(tmp_path / "in", **row)
    out, work = tmp_path / "out.safetensors", tmp_path / "work"
    line = refused("base", "train", "--profile", "tiny", "--steps", 1, "--data", folder, "--out", out, "--work", work)
    assert message in line
    assert not out.exists()
    assert not work.exists()


@pytest.mark.parametrize("side", ["synthetic", "real", "train"])
@pytest.mark.parametrize("case", WRONG_ROWS)
def test_rows_at_evaluate(case: str, side: str, tmp_path: Path) -> None:
    row, message = WRONG_ROWS[case]
    sets = {name: pictures(tmp_path / name, **(row if name == side else {})) for name in ("synthetic", "real", "train")}
    options = [part for name, folder in sets.items() for part in (f"--{name}", folder)]
    assert message in refused("evaluate", "tstr", *options, "--size", SIDE, "--steps", 1, "--seeds", 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"label": "cystic"}, "the class is not one of this task's"),
        ({"box": "20,4,30,8"}, "the box is empty or reaches outside the picture"),
    ],
)
def test_rows_at_ingest_are_set_aside_and_the_others_taken(row: dict[str, str], reason: str, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", **row)  # type: ignore[arg-type]
    home = tmp_path / "home"
    assert sonoshare("hospital", "init", "--home", home, "--id", "north", "--patients", 50).returncode == 0
    run = sonoshare("hospital", "ingest", folder, "--home", home, "--task", "diagnosis", "--json")
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["accepted"] == 5
    (aside,) = report["quarantined"]
    assert aside["source"] == "0.png"
    assert reason in aside["reason"]


def damaged(path: Path, value: float) -> Path:
    state = read_tensors(base_path("tiny"))
    state["conv_out.weight"].view(-1)[7] = value
    write_tensors(path, state)
    return path


def node_folder(folder: Path) -> Path:
    """What is taken for a hospital's folder."""
    (folder / "home.toml").touch()
    return folder


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("verb", [("info", "--file"), ("import",)])
def test_bases_that_hold_no_numbers(verb: tuple[str, ...], value: float, tmp_path: Path) -> None:
    home = () if verb[0] == "info" else ("--home", node_folder(tmp_path))
    line = refused("base", *verb, damaged(tmp_path / "own.safetensors", value), "--profile", "tiny", *home)
    assert "'conv_out.weight' holds NaN or infinity" in line
    assert not list(tmp_path.glob("bases/*"))


@pytest.mark.parametrize("verb", [("info", "--file"), ("import",)])
def test_a_base_of_another_architecture(verb: tuple[str, ...], tmp_path: Path) -> None:
    home = () if verb[0] == "info" else ("--home", node_folder(tmp_path))
    assert "another architecture" in refused("base", *verb, base_path("small"), "--profile", "tiny", *home)
    # The same file without a header says nothing of its architecture: the tensors give it away.
    write_tensors(tmp_path / "nameless.safetensors", read_tensors(base_path("small")))
    line = refused("base", *verb, tmp_path / "nameless.safetensors", "--profile", "tiny", *home)
    assert "tensor" in line
    assert not list(tmp_path.glob("bases/*"))


def half(checkpoints: Path) -> None:
    part = next(checkpoints.glob("step-*/checkpoint.safetensors.000"))
    part.write_bytes(part.read_bytes()[:100])


def of_another_architecture(checkpoints: Path) -> None:
    save_checkpoint(checkpoints, 9, Checkpoint({"weight/x": torch.zeros(1)}, {}))


@pytest.mark.parametrize(
    ("change", "message"),
    [(half, "no set of parts"), (of_another_architecture, "belongs to another run")],
    ids=["half", "of another architecture"],
)
def test_checkpoints_at_base_train(
    change: Callable[[Path], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phantom_cache, "_SHARD", 10)
    out, work = tmp_path / "out.safetensors", tmp_path / "work"
    usual = ["base", "train", "--profile", "tiny", "--phantoms", 10, "--batch-size", 2, "--out", out, "--work", work]
    assert sonoshare(*usual, "--steps", 1).returncode == 0
    change(work / "checkpoint-tiny")
    assert message in refused(*usual, "--steps", 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_adapters_that_hold_no_numbers(value: float, trained: Path, tmp_path: Path) -> None:
    study = CoordinatorHome(trained).study("study")
    sound = study.adapter()
    state = adapter_from_bytes(sound)
    state["conv_out.bias"][0] = value
    study.commit_round(1, adapter_bytes(state), adapter_digest(state))
    try:
        line = refused("coordinator", "release", "draw", "--home", trained, "--study", "study", "--name", "bad")
    finally:
        study.commit_round(1, sound, adapter_digest(adapter_from_bytes(sound)))
    assert "'conv_out.bias' holds NaN or infinity" in line
    assert not (study.path / "candidates").exists()


@pytest.mark.parametrize("size", [16, 64])
def test_phantoms_of_another_size(size: int) -> None:
    model, _ = load_base("tiny")
    phantoms = simulate(2, seed=1, size=size)
    with pytest.raises(InputError, match=rf"\(2, {size}, {size}\).*give \(2, 32, 32\)"):
        refine(model, phantoms.images, phantoms.masks, Condition.of(phantoms.labels), seed=0)


def test_an_empty_list_of_conditions() -> None:
    model, _ = load_base("tiny")
    none = np.zeros((0, SIDE, SIDE), np.float32)
    drawn = refine(model, none, none.astype(bool), Condition.absent(0), seed=0)
    assert drawn.images.shape == drawn.masks.shape == (0, SIDE, SIDE)
    with pytest.raises((InputError, ModelError), match="conditions"):
        refine(model, *(np.zeros((2, SIDE, SIDE), kind) for kind in (np.float32, bool)), Condition.absent(0), seed=0)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"classes": []}, "classes"),
        ({"classes": ["benign"]}, "classes"),
        ({"classes": ["benign", "strange"]}, "knows no pathology 'strange'"),
    ],
)
def test_tasks_without_classes_to_draw(task: dict[str, Any], message: str, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"name": "own", "question": "Which?", **task}))
    options = ["--cohort", "north=100", "--delta", "1e-3", "--profile", "tiny", "--rounds", 1]
    line = refused("coordinator", "study", "create", "--home", trained, "--name", "x", "--task", path, *options)
    assert message in line


@pytest.mark.parametrize("images", ["0", "1"])
def test_a_release_of_no_images_is_refused_by_the_option(images: str, tmp_path: Path) -> None:
    run = sonoshare(
        *("coordinator", "study", "create", "--home", tmp_path, "--name", "x", "--cohort", "north=9"),
        *("--images", images),
    )
    assert run.returncode == 2
    assert "--images" in run.stderr
