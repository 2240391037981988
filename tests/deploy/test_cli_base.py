"""`sonoshare base` as a user's script sees it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sonoshare_deploy.cli.base import command
from sonoshare_shared.canonical import sha256_file
from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.model import phantom_cache
from sonoshare_shared.model.base import base_path


def last_line(output: str) -> dict[str, object]:
    fields: dict[str, object] = json.loads(output.strip().splitlines()[-1])
    return fields


def test_info_describes_the_shipped_base() -> None:
    result = CliRunner().invoke(command, ["info", "--profile", "tiny", "--json"])
    assert result.exit_code == 0
    fields = last_line(result.stdout)
    assert fields["digest"] == sha256_file(base_path("tiny"))
    assert fields["image_size"] == 32
    assert fields["affine_parameters"] < fields["parameters"]
    assert fields["origin"]["data"] == "simulated phantoms only"


def test_train_writes_a_base_that_info_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom_cache, "_SHARD", 10)
    out = tmp_path / "made" / "base.safetensors"
    arguments = ["train", "--profile", "tiny", "--steps", "2", "--batch-size", "2", "--phantoms", "10"]
    result = CliRunner().invoke(command, [*arguments, "--out", str(out), "--work", str(tmp_path / "work"), "--json"])
    assert result.exit_code == 0, result.output
    assert last_line(result.stdout)["step"] == 2
    info = CliRunner().invoke(command, ["info", "--profile", "tiny", "--file", str(out), "--json"])
    assert last_line(info.stdout)["digest"] == last_line(result.stdout)["digest"]


def test_train_wants_one_way_to_say_how_long(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["train", "--out", str(tmp_path / "b"), "--work", str(tmp_path)])
    assert isinstance(result.exception, InputError)


def test_import_keeps_a_base_under_its_digest(tmp_path: Path) -> None:
    arguments = ["import", str(base_path("tiny")), "--profile", "tiny", "--home", str(tmp_path), "--json"]
    fields = last_line(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
    assert fields["digest"] == sha256_file(base_path("tiny"))
    assert sha256_file(Path(str(fields["base"]))) == fields["digest"]
    arguments[1] = str(base_path("small"))
    wrong = CliRunner().invoke(command, arguments)
    assert isinstance(wrong.exception, ModelError)
