"""What the commands show of the event logs."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.deploy.command import sonoshare

from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.events import EventLog

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)


def write(path: Path, kind: str, hours: float, **fields: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    EventLog(path, lambda: START + timedelta(hours=hours)).record(kind, **fields)


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    made = create_coordinator(tmp_path / "C", Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001)), ("localhost",))
    write(made.events_path, "started", 0, roles=["coordinator"])
    write(made.studies_path / "s2" / "events.jsonl", "round", 1, round=1, rounds=3)
    write(made.studies_path / "s1" / "events.jsonl", "refused", 2, hospital="north", reason="[bold]no[/bold]\nbudget")
    write(made.events_path, "ended", 2.9, part="superlink", cause="killed")
    return made


def kinds(home: CoordinatorHome, *options: str) -> list[str]:
    run = sonoshare("coordinator", "events", "--home", home.path, *options, "--json")
    assert run.returncode == 0
    return [event["kind"] for event in json.loads(run.stdout.splitlines()[-1])["events"]]


def test_events_of_all_studies_and_of_the_role_are_one_list_in_order(home: CoordinatorHome) -> None:
    assert kinds(home) == ["started", "round", "refused", "ended"]
    assert kinds(home, "--last", "2") == ["refused", "ended"]
    assert kinds(home, "--study", "s1") == ["refused"]
    run = sonoshare("coordinator", "events", "--home", home.path, "--json")
    assert [event.get("study") for event in json.loads(run.stdout)["events"]] == [None, "s2", "s1", None]


def test_since_takes_so_long_ago_and_a_time(home: CoordinatorHome) -> None:
    assert kinds(home, "--since", "90m") == ["refused", "ended"]
    assert kinds(home, "--since", "1d") == ["started", "round", "refused", "ended"]
    assert kinds(home, "--since", (START + timedelta(hours=1)).replace(tzinfo=None).isoformat()) == [
        "round",
        "refused",
        "ended",
    ]
    wrong = sonoshare("coordinator", "events", "--home", home.path, "--since", "yesterday")
    assert (wrong.returncode, "neither like 30m" in wrong.stderr) == (2, True)
    missing = sonoshare("coordinator", "events", "--home", home.path, "--study", "s3")
    see = f"see: sonoshare coordinator study list --home {home.path}"
    assert (missing.returncode, missing.errors) == (1, [f"error: there is no study s3 ({see})"])


def test_the_table_shows_a_peers_words_as_they_are(home: CoordinatorHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    run = sonoshare("coordinator", "events", "--home", home.path)
    assert "hospital north; reason [bold]no[/bold]?budget; study s1" in run.stdout
    assert "superlink" in run.stdout


def test_a_hospital_sees_what_was_asked_and_refused(tmp_path: Path) -> None:
    home = NodeHome.create(tmp_path / "H", "north", device="cpu")
    assert "nothing yet" in sonoshare("hospital", "events", "--home", home.path).stdout
    write(home.state.events_path, "request", 0, request="train", study="s1", round=2)
    write(home.state.events_path, "refused", 1, error="PolicyError", reason="sigma")
    run = sonoshare("hospital", "events", "--home", home.path)
    assert "request train; study s1; round 2" in run.stdout
    assert "error PolicyError; reason sigma" in run.stdout
