"""`sonoshare coordinator study` as a user's script sees it: tasks by name or file, trained sets, pinned bases."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from sonoshare_deploy import terms
from sonoshare_deploy.cli.coordinator import command
from sonoshare_deploy.coordinator import Consortium
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.federation.home import CoordinatorHome
from sonoshare_shared.canonical import sha256_file
from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.model.adapter import adapter_digest, read_adapter
from sonoshare_shared.model.base import IMPORTED, base_path, import_base
from sonoshare_shared.model.tensors import read_tensors, write_tensors

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("consortium") / "coordinator"
    create_coordinator(path, ("localhost",))
    Consortium("test-consortium", terms.audit_policy(1.0, 0.6, 0.97, 0.001)).write(path)
    return path


def create(home: Path, name: str, *arguments: str) -> dict[str, object]:
    usual = ["--cohort", "north=100", "--delta", "1e-3", "--profile", "tiny", "--rounds", "1", "--json"]
    called = ["study", "create", "--home", str(home), "--name", name, *usual, *arguments]
    result = CliRunner().invoke(command, called, catch_exceptions=False)
    fields: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return fields


def test_a_shipped_task_with_scanners_and_low_rank_layers(home: Path, tmp_path: Path) -> None:
    create(home, "grades", "--task", "birads", "--scanner", "A", "--scanner", "B", "--trained", "lora")
    study = CoordinatorHome(home).study("grades")
    assert study.plan.task.classes == ("birads-2", "birads-3", "birads-4", "birads-5")
    assert study.plan.task.scanners == ("A", "B")
    out = ["study", "adapter", "--home", str(home), "--name", "grades", "--out", str(tmp_path), "--json"]
    fields = json.loads(CliRunner().invoke(command, out, catch_exceptions=False).stdout)
    assert Path(fields["adapter"]) == tmp_path / "birads.safetensors"
    state = read_adapter(tmp_path / "birads.safetensors")
    assert adapter_digest(state) == fields["digest"] == study.state.adapter_digest
    assert any(name.endswith(".up.weight") for name in state)


def test_a_task_file_and_a_base_of_ones_own(home: Path, tmp_path: Path) -> None:
    state = read_tensors(base_path("tiny"))
    state["conv_out.bias"] = state["conv_out.bias"] + 0.25
    write_tensors(tmp_path / "own.safetensors", state)
    digest = import_base(tmp_path / "own.safetensors", "tiny", home / IMPORTED)
    task = {"name": "cysts", "question": "Which?", "classes": ["benign", "normal"]}
    (tmp_path / "cysts.json").write_text(json.dumps(task))
    create(home, "cysts", "--task", str(tmp_path / "cysts.json"), "--base", digest)
    plan = CoordinatorHome(home).study("cysts").plan
    assert plan.base_digest == digest != sha256_file(base_path("tiny"))
    assert plan.task.name == "cysts"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--task", "birad"), InputError, "unknown task"),
        (("--base", "0" * 64), ModelError, "no base of that digest"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_written(
    home: Path, arguments: tuple[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        create(home, "never", *arguments)
    assert not (home / "studies" / "never").exists()
