"""`sonoshare base` as a user's script sees it."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from tests.deploy.command import sonoshare
from tests.deploy.labelled_folders import SIDE, pictures

from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.cli.base import command
from sonoshare_shared import durable
from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.labels import LABELS_FILE
from sonoshare_shared.science.model import phantom_cache
from sonoshare_shared.science.model.base import base_origin, base_path
from sonoshare_shared.science.model.base_batches import TrainingSet, training_batch
from sonoshare_shared.science.model.conditions import ABSENT
from sonoshare_shared.science.model.phantom_cache import simulate_set
from sonoshare_shared.science.model.public_images import public_part, read_public_images
from sonoshare_shared.science.model.recipe import TrainSettings


def node_in(folder: Path) -> Path:
    """A hospital's folder."""
    return NodeHome.create(folder / "node", "north").path


def last_line(output: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return fields


def test_info_describes_the_shipped_base() -> None:
    result = CliRunner().invoke(command, ["info", "--profile", "tiny", "--json"])
    assert result.exit_code == 0
    fields = last_line(result.stdout)
    assert fields["digest"] == sha256_file(base_path("tiny"))
    assert fields["image_size"] == 32
    assert fields["affine_parameters"] < fields["parameters"]
    assert fields["origin"]["data"] == "simulated phantoms only"


def test_info_shows_a_header_that_it_cannot_parse(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"data": '{"broken'})
    assert base_origin(path) == {"data": '{"broken'}


def test_train_writes_a_base_that_info_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_cache, "_SHARD", 10)
    out = tmp_path / "made" / "base.safetensors"
    arguments = ["train", "--profile", "tiny", "--steps", "2", "--batch-size", "2", "--phantoms", "10"]
    result = CliRunner().invoke(command, [*arguments, "--out", str(out), "--work", str(tmp_path / "work"), "--json"])
    assert result.exit_code == 0, result.output
    assert last_line(result.stdout)["step"] == 2
    info = CliRunner().invoke(command, ["info", "--profile", "tiny", "--file", str(out), "--json"])
    assert last_line(info.stdout)["digest"] == last_line(result.stdout)["digest"]


def test_train_on_public_pictures_names_them_by_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_cache, "_SHARD", 10)
    folder, out = pictures(tmp_path / "public", box=""), tmp_path / "base.safetensors"

    def trained(steps: int, work: str, out: Path = out) -> dict[str, Any]:
        usual = ["train", "--profile", "tiny", "--batch-size", "4", "--phantoms", "10", "--out", str(out), "--json"]
        arguments = [*usual, "--data", str(folder), "--steps", str(steps), "--work", str(tmp_path / work)]
        CliRunner().invoke(command, arguments, catch_exceptions=False)
        info = CliRunner().invoke(command, ["info", "--profile", "tiny", "--file", str(out), "--json"])
        origin: dict[str, Any] = last_line(info.stdout)["origin"]
        return origin

    said = trained(2, "work")["data"]
    source = said["sources"][0]
    assert (said["phantoms"], source["pictures"], source["patients"], source["weight"]) == (10, 6, 6, 6.0)
    card = out.with_suffix(".card.md").read_text()
    assert source["sha256"] in card
    assert source["licence"] == "none stated in the folder"
    assert sha256_file(out) in card
    assert "None" not in card
    assert not re.search(r"\d\.\d{6}", card), "no more figures than a reader wants"
    (folder / "5.png").write_bytes((folder / "4.png").read_bytes())
    with pytest.raises(ModelError, match="another run"):
        trained(3, "work")
    with pytest.raises(InputError, match="is not of this --work"):
        trained(1, "elsewhere")
    other = trained(1, "elsewhere", tmp_path / "other.safetensors")["data"]["sources"][0]
    assert other["sha256"] != source["sha256"]


@pytest.mark.parametrize(
    ("cause", "line"),
    [
        (errno.ENOSPC, "error: No space left on device (make room, then run the same command again)"),
        (
            errno.EFBIG,
            "error: File too large (raise the limit on file sizes, see ulimit -f, then run the same command again)",
        ),
    ],
)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: int, line: str
) -> None:
    monkeypatch.setattr(phantom_cache, "_SHARD", 10)
    out, work = tmp_path / "base.safetensors", tmp_path / "work"
    usual = ["base", "train", "--profile", "tiny", "--batch-size", 2, "--phantoms", 10, "--out", out, "--work", work]
    assert sonoshare(*usual, "--steps", 1).returncode == 0
    before = sha256_file(out)

    def full(_descriptor: int) -> None:
        raise OSError(cause, os.strerror(cause))

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "fsync", full)  # type: ignore[attr-defined]
        run = sonoshare(*usual, "--steps", 2)
    assert run.returncode == 1
    assert run.errors == [line]
    assert "Traceback" not in run.stderr
    assert sha256_file(out) == before
    assert sonoshare(*usual, "--steps", 2).returncode == 0
    assert sha256_file(out) != before


def test_a_base_of_another_run_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_cache, "_SHARD", 10)
    usual = ["base", "train", "--profile", "tiny", "--batch-size", 2, "--phantoms", 10]
    for seed in (0, 1):
        run = sonoshare(
            *usual,
            "--steps",
            1,
            "--seed",
            seed,
            "--out",
            tmp_path / f"{seed}.safetensors",
            "--work",
            tmp_path / f"work{seed}",
        )
        assert run.returncode == 0, run.stderr
    first = tmp_path / "0.safetensors"
    before = sha256_file(first)
    run = sonoshare(*usual, "--steps", 2, "--seed", 1, "--out", first, "--work", tmp_path / "work1")
    assert run.returncode == 1
    assert run.errors == ["error: 0.safetensors exists and is of another run (give the name of a new file)"]
    assert sha256_file(first) == before


def test_what_is_not_known_of_a_public_picture_is_absent(tmp_path: Path) -> None:
    outlined = np.zeros((SIDE, SIDE), np.float32)
    outlined[4:12, 4:13] = 1
    folder = pictures(tmp_path / "public", box="")
    save_png(folder / "mask.png", outlined)
    lines = (folder / LABELS_FILE).read_text().splitlines()
    lines = [lines[0] + ",mask", lines[1] + ",", *(line + ",mask.png" for line in lines[2:])]
    (folder / LABELS_FILE).write_text("\n".join(lines))
    images = read_public_images(folder, SIDE)
    found = images.pictures
    assert found.has_mask.tolist() == [False, *[True] * 5]
    assert torch.isnan(found.boxes[0]).all()
    data = TrainingSet(simulate_set(10, seed=0, size=SIDE), public_part([images]))
    batch = training_batch(data, TrainSettings(batch_size=64, drop=0.0), 0)
    unknown = torch.isnan(batch.condition.boxes).any(dim=1)
    public = slice(64 - round(0.4 * 64), 64)
    assert 0 < int(unknown[public].sum()) < 26
    assert not unknown[: public.start].any()
    assert torch.equal(torch.isnan(batch.masks).flatten(1).all(dim=1), unknown)
    assert (batch.condition.scanners[public] == ABSENT).all()


def test_train_wants_one_way_to_say_how_long(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["train", "--out", str(tmp_path / "b"), "--work", str(tmp_path)])
    assert isinstance(result.exception, InputError)


def test_import_keeps_a_base_under_its_digest(tmp_path: Path) -> None:
    arguments = ["import", str(base_path("tiny")), "--profile", "tiny", "--home", str(node_in(tmp_path)), "--json"]
    fields = last_line(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
    assert fields["digest"] == sha256_file(base_path("tiny"))
    assert sha256_file(Path(str(fields["base"]))) == fields["digest"]
    arguments[1] = str(base_path("small"))
    wrong = CliRunner().invoke(command, arguments)
    assert isinstance(wrong.exception, ModelError)


def test_a_base_is_exported_as_parts_that_import_and_info_take(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    run = sonoshare("base", "export", base_path("tiny"), "--profile", "tiny", "--out", parts, "--json")
    digest = sha256_file(base_path("tiny"))
    assert last_line(run.stdout)["digest"] == digest
    home = node_in(tmp_path)
    imported = sonoshare("base", "import", parts, "--profile", "tiny", "--home", home, "--json")
    assert last_line(imported.stdout)["digest"] == digest
    info = sonoshare("base", "info", "--profile", "tiny", "--file", parts / "index.json", "--json")
    assert last_line(info.stdout)["digest"] == digest
    (parts / "base-tiny.safetensors.000").unlink()
    refused = sonoshare("base", "import", parts, "--profile", "tiny", "--home", home)
    assert (refused.returncode, "part base-tiny.safetensors.000 is missing" in refused.stderr) == (1, True)


@pytest.mark.parametrize("data", ["nowhere", "nowhere:2", "{folder}:", "{folder}:x", "{folder}:0", "{folder}:nan"])
def test_a_source_that_is_not_there_or_has_no_weight_is_a_usage_error(tmp_path: Path, data: str) -> None:
    words = [
        "train",
        "--data",
        data.format(folder=tmp_path),
        "--steps",
        "1",
        "--out",
        str(tmp_path / "b"),
        "--work",
        "w",
    ]
    assert CliRunner().invoke(command, words).exit_code == 2


def test_a_run_begins_with_a_base_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_cache, "_SHARD", 10)
    out = tmp_path / "own.safetensors"
    words = ["train", "--profile", "tiny", "--batch-size", "2", "--phantoms", "10", "--steps", "1", "--out", str(out)]
    words += ["--work", str(tmp_path / "work"), "--start", str(base_path("tiny")), "--device", "cpu", "--json"]
    said = last_line(CliRunner().invoke(command, words, catch_exceptions=False).stdout)
    assert said["validation"] < 0.5, "one step from trained weights, where random ones are at .9"
    begun = {"base": sha256_file(base_path("tiny")), "data": "simulated phantoms only"}
    assert base_origin(out)["data"]["began_with"] == begun
    assert begun["base"] in out.with_suffix(".card.md").read_text()
    assert (said["device"][:3], said["precision"], said["device_memory_mib"]) == ("cpu", "float32", None)
    refused = CliRunner().invoke(command, [*words[:-3], "--this-time", "1", "--length", "100"])
    assert isinstance(refused.exception, InputError)
