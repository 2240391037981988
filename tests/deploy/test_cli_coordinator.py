"""`sonoshare coordinator study` as a user's script sees it: tasks by name or file, trained sets, pinned bases."""

import json
import shutil
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tests.deploy.command import sonoshare
from tests.deploy.members import admit, node_key

from sonoshare_deploy.cli import coordinator_study as study_command
from sonoshare_deploy.cli.coordinator import command
from sonoshare_deploy.cli.study_chance import chance_lines
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.catalogue.accounts import Accounts
from sonoshare_server.catalogue.database import Database
from sonoshare_server.consortium import admission, studies, terms
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium, read_members
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.calibration.ballot import require_ballot_for
from sonoshare_shared.science.model.adapter import adapter_digest, adapter_from_bytes, read_adapter
from sonoshare_shared.science.model.base import IMPORTED, base_path, import_base
from sonoshare_shared.science.model.tensors import read_tensors, write_tensors

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("consortium") / "coordinator"
    consortium = Consortium("test-consortium", audit_policy(1.0, 0.6, 0.97, 0.001))
    create_coordinator(path, consortium, ("localhost",))
    admit(path, "north")
    return path


def create(home: Path, name: str, *arguments: str) -> dict[str, Any]:
    usual = ["--cohort", "north=100", "--delta", "1e-3", "--profile", "tiny", "--rounds", "1", "--json"]
    called = ["study", "create", "--home", str(home), "--name", name, *usual, *arguments]
    result = CliRunner().invoke(command, called, catch_exceptions=False)
    said: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return said


def test_a_shipped_task_with_scanners_and_low_rank_layers(home: Path, tmp_path: Path) -> None:
    create(home, "grades", "--task", "birads", "--scanner", "A", "--scanner", "B", "--trained", "lora")
    study = CoordinatorHome(home).study("grades")
    assert study.plan.task.classes == ("birads-2", "birads-3", "birads-4", "birads-5")
    assert study.plan.task.scanners == ("A", "B")
    study.commit_round(1, study.adapter(), study.state.adapter_digest)
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


def test_the_precision_is_the_coordinators_choice_and_left_out_where_it_is_float32(home: Path) -> None:
    assert create(home, "coarse", "--precision", "bfloat16")["precision"] == "bfloat16"
    assert CoordinatorHome(home).study("coarse").plan.precision == "bfloat16"
    assert create(home, "exact")["precision"] == "float32"
    assert "precision" not in json.loads(CoordinatorHome(home).study("exact").plan.canonical())


def test_training_draws_the_times_that_refining_uses(home: Path) -> None:
    asked = {"usual-times": (), "far": ("--start-time", "250"), "all-times": ("--latest-time", "999")}
    for name, arguments in asked.items():
        create(home, name, *arguments)
    latest = {name: CoordinatorHome(home).study(name).plan.latest_time for name in asked}
    assert latest == {"usual-times": 150, "far": 250, "all-times": None}  # None: older nodes can read the plan
    with pytest.raises(InputError, match=r"later times than are trained.*a --latest-time of 120 or more"):
        create(home, "beyond", "--latest-time", "119")


def test_how_draws_are_spent_is_the_coordinators_choice(home: Path) -> None:
    chosen = ("--rate", "0.5", "--draws", "4", "--learning-rate", "0.01", "--trained", "outer", "--local-steps", "24")
    create(home, "many-draws", *chosen, "--warm-steps", "1")
    study = CoordinatorHome(home).study("many-draws")
    first = adapter_from_bytes(study.adapter())
    base = read_tensors(base_path("tiny"))
    assert not torch.equal(first["conv_out.weight"], base["conv_out.weight"].float())  # it has learned phantoms
    plan = study.plan
    assert (plan.mechanism.rate, plan.mechanism.draws, plan.learning_rate) == (0.5, 4, 0.01)
    assert plan.trained == "outer"
    assert plan.canaries > 0


def test_votes_are_proposed_where_a_ballot_ships() -> None:
    settings: dict[str, Any] = {
        "audit": audit_policy(1.0, 0.6, 0.97, 0.001),
        "epsilon": 8.0,
        "delta": 1e-3,
        "rounds": 1,
    }
    shipped = terms.StudyTerms(
        study="s", task=terms.DIAGNOSIS, cohorts={"north": 100}, local_steps=1, images=10, profile="small", **settings
    )
    assert shipped.voted_on is not None
    assert shipped.voted_on.clusters == 40
    require_ballot_for(shipped.voted_on, terms.DIAGNOSIS, 64)
    none = terms.StudyTerms(
        study="s", task=terms.DIAGNOSIS, cohorts={"north": 100}, local_steps=1, images=10, profile="tiny", **settings
    )
    assert none.voted_on is None


def test_what_the_command_takes_where_nothing_is_said_are_the_terms_own_defaults() -> None:
    """The command says them again, so that its help loads no model."""
    least = ["--home", "C", "--name", "s", "--cohort", "north=100"]
    asked = study_command.create.make_context("create", least).params
    assert asked.pop("candidates") == 2  # a person's study has a second try; terms alone have the policy's number
    own = {field.name: field.default for field in fields(terms.StudyTerms) if field.default is not MISSING}
    said = {name: value for name, value in asked.items() if name in own}
    assert said == {name: own[name] for name in said}
    assert len(said) > 10


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--delta", "0.02"), "the study: delta"),
        (("--cohort", "south=²"), "is not hospital=patients"),
        (("--cohort", "north=300"), "names north twice"),
        (("--cohort", "Not A Name=10"), "Not A Name is not admitted"),
    ],
)
def test_terms_out_of_range_are_refused_in_one_line_before_the_accounting(
    home: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, str], message: str
) -> None:
    def never(*_args: object, **_options: Any) -> float:
        raise AssertionError("minutes of accounting for terms that no plan can hold")

    monkeypatch.setattr(studies, "noise_multiplier_for", never)
    with pytest.raises(InputError, match=message):
        create(home, "never", *arguments)
    assert not (home / "studies" / "never").exists()


@pytest.mark.parametrize(
    "called",
    [
        ("init", "--consortium", "My Consortium"),
        ("admit", "--id", "A B", "--identity-key", "00", "--node-key", "x"),
        ("study", "status", "--name", "../s"),
        ("release", "publish", "--name", "R 1"),
    ],
)
def test_a_name_that_is_none_is_a_usage_error(tmp_path: Path, called: tuple[str, ...]) -> None:
    result = CliRunner().invoke(command, [*called, "--home", str(tmp_path / "home")])
    assert result.exit_code == 2
    assert "is not of lowercase letters, digits and hyphens" in result.output
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("words", "option", "value"),
    [
        (("study", "create", "--name", "s", "--cohort", "north=100"), "--rounds", "0"),
        (("study", "create", "--name", "s", "--cohort", "north=100"), "--delta", "2"),
        (("study", "create", "--name", "s", "--cohort", "north=100"), "--epsilon", "nan"),
        (("init", "--consortium", "c"), "--tolerated-share", "2"),
        (("init", "--consortium", "c"), "--tolerated-auc", "1"),
    ],
)
def test_a_number_out_of_its_range_is_a_usage_error(
    tmp_path: Path, words: tuple[str, ...], option: str, value: str
) -> None:
    result = CliRunner().invoke(command, [*words, option, value, "--home", str(tmp_path / "home")])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output
    assert not (tmp_path / "home").exists()


def test_an_audit_policy_out_of_range_leaves_no_half_made_folder(tmp_path: Path) -> None:
    called = ["init", "--home", str(tmp_path / "home"), "--consortium", "c"]
    with pytest.raises(InputError, match="the audit policy: epsilon_copies"):
        CliRunner().invoke(command, [*called, "--epsilon-audit", "5e-324"], catch_exceptions=False)
    CliRunner().invoke(command, called, catch_exceptions=False)
    assert (tmp_path / "home" / "coordinator.key").exists()


def test_a_ballots_seed_is_checked_before_its_pool_is_drawn(tmp_path: Path) -> None:
    called = ["ballot", "--out", str(tmp_path / "b.safetensors"), "--seed", str(2**53), "--phantoms", "1000000"]
    with pytest.raises(InputError, match="the ballot: seed"):
        CliRunner().invoke(command, called, catch_exceptions=False)


def test_a_file_of_another_number_type_is_no_ballot(home: Path, tmp_path: Path) -> None:
    write_tensors(tmp_path / "b.safetensors", {"terms": torch.zeros(3, dtype=torch.bfloat16)})
    with pytest.raises(ModelError, match="not a ballot"):
        create(home, "never", "--ballot", str(tmp_path / "b.safetensors"))


def test_a_study_is_of_admitted_hospitals_and_need_not_name_them_all(tmp_path: Path) -> None:
    home = tmp_path / "coordinator"
    consortium = Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001))
    folder = create_coordinator(home, consortium, ("localhost",))
    admit(home, "north", "south")
    with pytest.raises(InputError, match=r"nobody is not admitted .see who is: sonoshare coordinator status"):
        create(home, "s", "--cohort", "nobody=50")
    create(home, "wider")
    called = ["expel", "--home", str(home), "--id", "south", "--json"]
    version = json.loads(CliRunner().invoke(command, called, catch_exceptions=False).stdout)["roster_version"]
    assert (version, [entry.id for entry in CoordinatorHome(home).roster.hospitals]) == (3, ["north"])
    create(home, "s")
    with pytest.raises(InputError, match="south is not admitted"):
        CliRunner().invoke(command, called, catch_exceptions=False)
    with pytest.raises(InputError, match="the only hospital, and study s is of it"):
        admission.expel(folder, "north")
    admit(home, "south")


def test_unusable_and_foreign_keys_are_refused_before_a_roster_is_signed(home: Path) -> None:
    before = (home / "roster.dsse.json").read_bytes()
    fresh, north = SigningKey.generate().public.hex, read_members(CoordinatorHome(home))["north"]
    for identity, node, message in (
        (fresh, "foo", "not an OpenSSH public key"),
        (north.identity_key, node_key(), "north is admitted with one of these keys"),
        (fresh, north.node_key, "north is admitted with one of these keys"),
    ):
        with pytest.raises(InputError, match=message):
            admission.admit(CoordinatorHome(home), "other", identity, node)
    assert (home / "roster.dsse.json").read_bytes() == before


@pytest.mark.parametrize(
    "called",
    ["study run --name", "study propose --name", "study status --name", "study stop --name", "events --study",
     "release create --name r --study", "release draw --name r --study"],
)  # fmt: skip
def test_a_name_that_is_wrong_is_said_before_anything_that_is_not_running(home: Path, called: str) -> None:
    run = sonoshare("coordinator", *called.split(), "s9", "--home", home)
    see = f"see: sonoshare coordinator study list --home {home}"
    assert (run.returncode, run.errors) == (1, [f"error: there is no study s9 ({see})"])


def test_a_name_that_is_taken_is_said_before_the_planning(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(home, "taken")
    monkeypatch.setattr(studies, "draft_study", lambda *_: pytest.fail("it was planned"))
    with pytest.raises(InputError, match="study taken exists"):
        create(home, "taken")
    run = sonoshare("coordinator", "release", "create", "--home", home, "--study", "taken", "--name", "r")
    train = f"run: sonoshare coordinator study run --home {home} --name taken"
    assert run.errors == [f"error: study taken has 0 of 1 rounds ({train})"]


def test_a_study_without_a_round_has_no_trained_adapter(home: Path, tmp_path: Path) -> None:
    create(home, "new")
    called = ["study", "adapter", "--home", str(home), "--name", "new", "--out", str(tmp_path)]
    with pytest.raises(InputError, match="not trained yet"):
        CliRunner().invoke(command, called, catch_exceptions=False)


def test_a_ballot_takes_no_other_files_place(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("precious")
    with pytest.raises(InputError, match="b exists"):
        CliRunner().invoke(command, ["ballot", "--out", str(tmp_path / "b")], catch_exceptions=False)
    assert (tmp_path / "b").read_text() == "precious"


@pytest.mark.parametrize("option", ["--epsilon-calibration", "--sharpness"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_not_a_number_is_a_usage_error(home: Path, option: str, value: str) -> None:
    called = ["study", "create", "--home", str(home), "--name", "x", "--cohort", "north=100", option, value]
    assert CliRunner().invoke(command, called).exit_code == 2


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("members.json", ("status",)),
        ("consortium.json", ("study", "create", "--name", "s", "--cohort", "north=100")),
        ("addresses.json", ("study", "run", "--name", "usual")),
        ("nodes.json", ("expel", "--id", "south")),
        ("studies/usual/state.json", ("study", "status", "--name", "usual")),
    ],
)
@pytest.mark.parametrize("content", ["", '{"nor', "[]", '{"other": "program"}'])
def test_a_torn_or_foreign_file_is_one_line_with_a_remedy(
    home: Path, tmp_path: Path, name: str, called: tuple[str, ...], content: str
) -> None:
    if name in {"members.json", "nodes.json"} and content == "[]":
        return  # nobody is admitted
    own = tmp_path / "coordinator"
    shutil.copytree(home, own)
    admit(own, "south")
    if not (own / "studies" / "usual").exists():
        create(own, "usual", "--cohort", "south=100")
    (own / name).write_text(content)
    run = sonoshare("coordinator", *called, "--home", own)
    assert run.returncode == 1
    (line,) = run.errors
    assert Path(name).name in line
    assert line.endswith(")")  # the remedy


def test_no_hospital_is_called_coordinator(home: Path) -> None:
    """Evidence and revocations name the coordinator so."""
    with pytest.raises(InputError, match="names the coordinator"):
        admit(home, "coordinator")


def test_a_release_that_is_not_published_cannot_be_taken_off_the_list(home: Path) -> None:
    run = sonoshare("coordinator", "release", "unpublish", "--home", home, "--name", "r1")
    assert run.errors == ["error: r1 is not published (list what is: sonoshare releases)"]


def test_roles_are_given_to_accounts_alone_and_the_access_log_is_written(home: Path, tmp_path: Path) -> None:
    asked = ("coordinator", "people", "role", "--home", home, "--email", "a@example.org", "--role", "auditor")
    assert sonoshare(*asked).errors == ["error: no account has this address (let them sign up first)"]
    Accounts(Database(home / "catalogue.db")).sign_up("a@example.org", "A", "a long password", now=datetime.now(UTC))
    assert sonoshare(*asked).returncode == 0
    written = sonoshare("coordinator", "people", "accesses", "--home", home, "--out", tmp_path / "log.csv")
    assert written.returncode == 0
    assert (tmp_path / "log.csv").read_text().split() == ["day,release,token,agreement,name,email,purpose"]


def test_the_chance_of_an_honest_release_is_printed_before_anything_is_spent(home: Path) -> None:
    fields = create(home, "chances", "--candidates", "3")
    assert fields["candidates"] == CoordinatorHome(home).study("chances").plan.planned_candidates == 3
    chance = fields["chance"]
    at_north = chance["hospitals"]["north"]
    assert 0 <= at_north["one_candidate"] <= at_north["all_candidates"] == chance["together"]["all_candidates"]
    alpha = CoordinatorHome(home).study("chances").plan.audit.alpha
    assert chance["leak_passes_at_most"] == pytest.approx(3 * alpha)
    lines = chance_lines(chance, 3)
    assert lines[0].endswith("with the first, and with one of 3 candidates:")
    assert lines[1].split() == ["north", f"{at_north['one_candidate']:.2f}", f"{at_north['all_candidates']:.2f}"]
    assert len(chance["changes"]) == sum("audits charge epsilon" in line for line in lines)


def test_two_candidates_are_planned_by_default_and_a_refused_number_is_a_usage_error(home: Path) -> None:
    assert create(home, "by-default")["candidates"] == 2
    called = ["study", "create", "--home", str(home), "--name", "x", "--cohort", "north=100", "--candidates", "17"]
    assert CliRunner().invoke(command, called).exit_code == 2
