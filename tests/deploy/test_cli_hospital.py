"""``sonoshare hospital``: the JSON that scripts rest on, one clear line for every failure, exit 0 or 1."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.deploy import command
from tests.deploy.command import Run

from sonoshare_client.agent.node import Node
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_deploy.cli.main import cli
from sonoshare_deploy.provision import create_coordinator
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_server.consortium.admission import admit
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_shared.errors import LedgerError, VerificationError
from sonoshare_shared.protocol.documents.charge import PureDP
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.phantom.dicom_study import write_studies


def sonoshare(*arguments: str | Path, stdin: str = "") -> Run:
    return command.sonoshare("hospital", *arguments, stdin=stdin)


def result_of(*arguments: Any, stdin: str = "") -> Any:
    run = sonoshare(*arguments, "--json", stdin=stdin)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "in"
    write_studies(folder, patients=12, seed=3, size=128)
    return folder


@pytest.fixture(scope="module")
def home(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("node") / "home"
    made = result_of("init", "--home", path, "--id", "north", "--patients", "50")
    assert set(made) == {"id", "identity_public_key", "node_public_key"}
    assert made["id"] == "north"
    report = result_of("ingest", studies, "--home", path, "--jobs", "2")
    assert {"accepted", "quarantined", "patients", "duplicates"} <= set(report)
    assert (report["quarantined"], report["patients"], report["duplicates"]) == ([], 12, 0)
    return path


def test_ingest_again_finds_duplicates_only(home: Path, studies: Path) -> None:
    report = result_of("ingest", studies, "--home", home, "--labels", studies / "labels.csv")
    assert (report["accepted"], report["patients"]) == (0, 12)
    assert report["duplicates"] >= 12


def test_ingest_for_people_names_what_was_set_aside(home: Path, studies: Path, tmp_path: Path) -> None:
    (tmp_path / "junk.dcm").write_bytes(b"junk")
    (tmp_path / "labels.csv").write_text("image,patient,label\njunk.dcm,Ann Secret,benign\n")
    run = sonoshare("ingest", tmp_path, "--home", home)
    assert run.returncode == 1
    assert run.errors == ["error: every picture was set aside (see the reasons, then ingest again)"]
    assert "junk.dcm (line 2): neither DICOM, PNG nor JPEG" in run.stdout
    assert "Secret" not in run.stdout + run.stderr


def test_review_status_and_ledger_have_their_fields(home: Path, tmp_path: Path) -> None:
    images = result_of("review", "--home", home, "--out", tmp_path / "out")["images"]
    status = result_of("status", "--home", home)
    assert set(status) == {
        *("patients", "held_out", "images", "twins", "held_back"),
        *("studies", "budget", "connection", "evidence"),
        *("quarantined", "older_rules", "other_policy"),
        *("link", "agent", "last_request", "roster"),
    }
    assert status["evidence"] is None
    assert (status["connection"], status["agent"]["state"], status["link"]) == ("stopped", "stopped", None)
    assert (status["patients"], status["images"], status["studies"]) == (12, images, [])
    assert 0 <= status["held_out"] <= 12
    assert (status["budget"]["spent"], status["budget"]["spent_is_exact"]) == (0, True)
    ledger = result_of("ledger", "--home", home)
    assert {"spent", "budget", "entries", "head", "intact"} <= set(ledger)
    assert ledger["intact"] is True
    assert ledger["spent"]["epsilon"] == 0
    assert set(ledger["budget"]) == set(ledger["spent"]) == {"epsilon", "delta"}
    for noun in ("status", "ledger"):
        assert sonoshare(noun, "--home", home).returncode == 0


def test_status_says_that_evidence_of_misconduct_stops_the_node(tmp_path: Path) -> None:
    path = tmp_path / "home"
    result_of("init", "--home", path, "--id", "north")
    state = NodeHome.open(path).state
    folder = state.evidence_path
    folder.mkdir(parents=True)
    (folder / f"{'ab' * 32}.json").write_text("{}")
    assert result_of("status", "--home", path)["evidence"] == "ab" * 32
    check = f" verify {folder / ('ab' * 32)}.json --roster {state.roster_path}; "
    assert check in sonoshare("status", "--home", path).stdout  # from wherever the reader stands


def test_twins_are_listed_drawn_and_decided(tmp_path: Path) -> None:
    picture = simulate(1, seed=4, size=128).images[0]
    for name, image in (("a", picture), ("b", picture**0.7)):
        save_png(tmp_path / f"{name}.png", image)
    (tmp_path / "labels.csv").write_text("image,patient,label\na.png,Ann,benign\nb.png,Bob,benign\n")
    path = tmp_path / "home"
    result_of("init", "--home", path, "--id", "north")
    (twin,) = result_of("ingest", tmp_path, "--home", path)["twins"]
    assert twin["sources"] == ["a.png", "b.png"]
    assert "hospital twins" in sonoshare("ingest", tmp_path, "--home", path).stdout
    status = result_of("status", "--home", path)
    assert (status["patients"], status["twins"], status["held_back"]) == (0, 1, 2)
    found = result_of("twins", "--home", path, "--out", tmp_path / "out")
    listed = found["twins"]
    assert found["held_back"] == 2
    assert [pair["two_people"] for pair in listed] == [False]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["pair-1.png"]
    assert result_of("twins", "--home", path, "--two-people", twin["pair"])["twins"][0]["two_people"] is True
    status = result_of("status", "--home", path)
    assert (status["patients"], status["twins"], status["held_back"]) == (2, 0, 0)
    assert "two people" in sonoshare("twins", "--home", path).stdout


def test_a_ledger_that_is_not_intact_exits_1(studies: Path, tmp_path: Path) -> None:
    path = tmp_path / "home"
    result_of("init", "--home", path, "--id", "north")
    result_of("ledger", "--home", path)
    NodeHome.open(path).ledger_path.write_bytes(b"not a database" * 100)
    for leftover in path.glob("ledger.db-*"):
        leftover.unlink()
    run = sonoshare("ledger", "--home", path, "--json")
    assert run.returncode == 1
    assert json.loads(run.stdout.splitlines()[-1])["intact"] is False
    assert run.stderr.startswith("error: ")


@pytest.mark.parametrize("left", [None, b""])
def test_a_ledger_that_is_gone_is_not_made_anew(member: tuple[Path, Path], left: bytes | None) -> None:
    root = (member[1].parent / "root.pub").read_text().strip()
    result_of("enrol", "--home", member[0], "--roster", member[1], "--root-key", root)
    path = NodeHome.open(member[0]).ledger_path
    for file in path.parent.glob("ledger.db*"):
        file.unlink()
    if left is not None:
        path.write_bytes(left)
    run = sonoshare("ledger", "--home", member[0])
    assert run.returncode == 1
    assert "ledger.db is missing, and with it the record of what was spent" in run.errors[0]
    assert "ledger.db is missing" in sonoshare("status", "--home", member[0]).stdout
    with pytest.raises(LedgerError, match="missing"):
        Node.open(NodeHome.open(member[0]))
    assert path.exists() == (left is not None)


def test_an_export_takes_no_other_files_place(member: tuple[Path, Path]) -> None:
    key = member[0] / "identity.key"
    before = key.read_bytes()
    run = sonoshare("ledger", "--home", member[0], "--export", key)
    assert (run.returncode, key.read_bytes()) == (1, before)
    assert run.errors == ["error: identity.key exists (give the name of a new file)"]


def test_init_prints_both_keys_that_the_coordinator_needs(tmp_path: Path) -> None:
    run = sonoshare("init", "--home", tmp_path / "node", "--id", "north")
    home = NodeHome.open(tmp_path / "node")
    for key in (home.identity().public.hex, home.node_public_key):
        assert any(line.endswith(key.strip()) for line in run.stdout.splitlines())


@pytest.fixture
def member(tmp_path: Path) -> tuple[Path, Path]:
    """A node with one charge, and the signed roster of a consortium that admitted it."""
    node = NodeHome.create(tmp_path / "node", "north")
    with closing(open_ledger(node, lambda: datetime.now(UTC))) as ledger:
        ledger.commit(ledger.reserve(ChargeRequest("s1", "audit", (PureDP(0.5),), 1e-4, 50)))
    consortium = Consortium("c", audit_policy(1.0, 0.1, 0.7, 0.05))
    coordinator = create_coordinator(tmp_path / "coordinator", consortium, ("localhost",))
    admit(coordinator, "north", node.identity().public.hex, node.node_public_key)
    return node.path, coordinator.roster_path


def test_an_exported_ledger_is_verified_by_anybody_with_the_roster(member: tuple[Path, Path], tmp_path: Path) -> None:
    home, roster = member
    head = result_of("ledger", "--home", home, "--export", tmp_path / "ledger.json")["head"]
    outcome = CliRunner().invoke(cli, ["verify", str(tmp_path / "ledger.json"), "--roster", str(roster), "--json"])
    verified = json.loads(outcome.output.splitlines()[-1])
    assert (verified["verified"], verified["hospital"], verified["entries"]) == (True, "north", 3)
    assert verified["head"] == head
    assert 0.49 < verified["epsilon_lifetime"] <= 0.5


def cheaper(body: Any) -> str:
    return json.dumps(json.loads(body) | {"epsilon_lifetime": 0.1}, separators=(",", ":"))


@pytest.mark.parametrize(
    "change",
    [
        lambda export: export["entries"][1].update(body=cheaper(export["entries"][1]["body"])),
        lambda export: export["entries"][1].update(body=export["entries"][1]["body"] + " "),
        lambda export: export["entries"].pop(),
        lambda export: export["entries"].pop(1),
        lambda export: export.update(entries=[], head="0" * 64),
        lambda export: export.update(hospital="south"),
    ],
)
def test_a_changed_export_is_not_verified_and_names_the_cause(
    member: tuple[Path, Path], tmp_path: Path, change: Callable[..., Any]
) -> None:
    home, roster = member
    result_of("ledger", "--home", home, "--export", tmp_path / "ledger.json")
    export = json.loads((tmp_path / "ledger.json").read_text())
    change(export)
    (tmp_path / "ledger.json").write_text(json.dumps(export))
    outcome = CliRunner().invoke(cli, ["verify", str(tmp_path / "ledger.json"), "--roster", str(roster)])
    assert isinstance(outcome.exception, VerificationError)
    assert outcome.exception.cause == "ledger"


def test_policy_is_shown_and_a_wrong_file_exits_1(tmp_path: Path) -> None:
    path = tmp_path / "home"
    result_of("init", "--home", path, "--id", "north")
    shown = result_of("policy", "show", "--home", path)
    assert shown["budget"]["lifetime_epsilon"] == 20.0
    (path / "policy.toml").write_text("[budget]\nlifetime_epsilon = -1\n")
    run = sonoshare("policy", "show", "--home", path)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.count("\n") == 1
    assert "lifetime_epsilon" in run.stderr


def test_forget_removes_patients_named_on_standard_input(studies: Path, tmp_path: Path) -> None:
    path = tmp_path / "home"
    result_of("init", "--home", path, "--id", "north")
    result_of("ingest", studies, "--home", path)
    patient = (studies / "labels.csv").read_text().splitlines()[1].split(",")[1]
    run = sonoshare("forget", "--home", path, "--patients", "-", "--json", stdin=f"{patient}\n\nnobody\n{patient}\n")
    removed = json.loads(run.stdout.splitlines()[-1])
    assert removed["patients"] == 1
    assert removed["images"] >= 1
    assert removed["unknown"] == [3]
    assert run.returncode == 1
    assert "the patients of line 3 are not in the vault" in run.errors[0]
    assert "nobody" not in run.errors[0]
    assert result_of("status", "--home", path)["patients"] == 11


@pytest.mark.parametrize(
    "arguments",
    [
        ("init", "--home", "{tmp}/home", "--id", "Not An Id"),
        ("ingest", "{tmp}/nowhere", "--home", "{home}"),
        ("ingest", "{tmp}", "--home", "{home}"),
        ("ingest", "{tmp}", "--home", "{tmp}"),
        ("review", "--home", "{tmp}", "--out", "{tmp}/out"),
        ("review", "--home", "{home}", "--out", "{home}"),
        ("status", "--home", "{tmp}"),
        ("ledger", "--home", "{tmp}"),
        ("policy", "check", "{tmp}/no-plan.json", "--home", "{home}"),
    ],
)
def test_every_failure_is_one_line_and_exit_1(
    arguments: tuple[str, str, str, str, str] | tuple[str, str, str, str] | tuple[str, str, str],
    home: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "something").touch()
    run = sonoshare(*(argument.format(tmp=tmp_path, home=home) for argument in arguments))
    assert run.returncode == 1
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["something"]


def test_help_is_fast_and_needs_no_imaging() -> None:
    listed = "import sys; sys.argv = ['sonoshare', 'hospital', '--help']; from sonoshare_deploy.cli.main import main\n"
    check = "try:\n main()\nexcept SystemExit: print({'numpy', 'pydicom', 'torch', 'cryptography'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", listed + check], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.splitlines()[-1] == "set()"
    assert "ingest" in run.stdout


def test_usage_errors_exit_2() -> None:
    assert sonoshare("ingest").returncode == 2
    assert sonoshare("dance").returncode == 2


def test_the_ledger_can_be_drawn(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(cli, ["hospital", "init", "--home", str(tmp_path / "n"), "--id", "north"]).exit_code == 0
    picture = tmp_path / "ledger.png"
    drawn = runner.invoke(cli, ["hospital", "ledger", "--home", str(tmp_path / "n"), "--plot", str(picture)])
    assert drawn.exit_code == 0, drawn.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_roster_that_is_not_there_is_said_without_a_word_for_scripts(home: Path, tmp_path: Path) -> None:
    asked = ("enrol", "--home", home, "--root-key", "0" * 64, "--roster")
    assert sonoshare(*asked, tmp_path / "nowhere.json").stderr.startswith(
        "error: cannot read nowhere.json: No such file"
    )
    (tmp_path / "torn.json").write_text("{")
    assert sonoshare(*asked, tmp_path / "torn.json").stderr.startswith(
        "error: torn.json is not a roster: it is no signed file (give roster.dsse.json, "
    )
