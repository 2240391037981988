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
from sonoshare_shared.calibration.ballot import require_ballot_for
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


def test_a_ballot_is_made_and_its_votes_are_part_of_epsilon(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "ballots" / "mine.safetensors"
    terms_of = ["--task", "diagnosis", "--profile", "tiny", "--phantoms", "32", "--clusters", "2", "--out", str(out)]
    made = json.loads(CliRunner().invoke(command, ["ballot", *terms_of, "--json"], catch_exceptions=False).stdout)
    assert made["ballot"] == sha256_file(out)
    voted = create(home, "voted", "--ballot", str(out), "--epsilon-calibration", "2")
    study = CoordinatorHome(home).study("voted")
    assert study.plan.calibration is not None
    assert (study.plan.calibration.epsilon, study.plan.calibration.ballot) == (2.0, made["ballot"])
    assert study.plan.calibration.sharpness == terms.SHARPNESS
    assert study.ballot() == out.read_bytes()
    create(home, "flat", "--ballot", str(out), "--sharpness", "0")
    flat = CoordinatorHome(home).study("flat").plan.calibration
    assert flat is not None
    assert flat.sharpness == 0
    plain = create(home, "plain", "--epsilon-calibration", "0", "--ballot", str(out))
    assert CoordinatorHome(home).study("plain").plan.calibration is None
    # What votes cost is taken from training: more noise for the same epsilon in all.
    assert float(str(voted["noise_multiplier"])) > float(str(plain["noise_multiplier"]))
    with pytest.raises(InputError, match="was not made for task birads"):
        create(home, "other", "--task", "birads", "--ballot", str(out))


def test_how_far_phantoms_are_refined_is_the_coordinators_choice(home: Path) -> None:
    create(home, "near", "--start-time", "8")
    create(home, "usual")
    near, usual = (CoordinatorHome(home).study(name).plan.release for name in ("near", "usual"))
    assert (near.start_time, usual.start_time) == (8, 120)
    assert near.sampler_steps <= near.start_time


def test_votes_are_proposed_where_a_ballot_ships() -> None:
    settings = {"audit": terms.audit_policy(1.0, 0.6, 0.97, 0.001), "epsilon": 8.0, "delta": 1e-3, "rounds": 1}
    shipped = terms.study_terms(
        "s", terms.DIAGNOSIS, {"north": 100}, local_steps=1, images=10, profile="small", **settings
    )
    assert shipped.ballot is not None
    assert shipped.ballot.clusters == 40
    require_ballot_for(shipped.ballot, terms.DIAGNOSIS, 64)
    none = terms.study_terms("s", terms.DIAGNOSIS, {"north": 100}, local_steps=1, images=10, profile="tiny", **settings)
    assert none.ballot is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--task", "birad"), InputError, "unknown task"),
        (("--base", "0" * 64), ModelError, "no base of that digest"),
        (("--ballot", "no/such.safetensors"), InputError, "such.safetensors cannot be read"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_written(
    home: Path, arguments: tuple[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        create(home, "never", *arguments)
    assert not (home / "studies" / "never").exists()
