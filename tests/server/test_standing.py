"""Where a study stands, at any moment, with nothing but its files; and two studies on one federation."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.command import sonoshare
from tests.deploy.members import admit
from tests.shared.consortium import make_plan

from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.queue.actions import Action, begun
from sonoshare_server.queue.standing import standing
from sonoshare_shared.protocol.documents import ReleasePlan

ROUNDS = 2


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    made = create_coordinator(
        tmp_path / "C", Consortium("test-consortium", audit_policy(1.0, 0.6, 0.97, 0.001)), ("localhost",)
    )
    admit(made.path, "north")
    release = ReleasePlan(images=8, sampler_steps=2, start="phantom", seed=7)
    for name in ("s1", "s2"):
        changes = {"study": name, "rounds": ROUNDS, "release": release}
        made.create_study(make_plan(8).model_copy(update=changes), b"adapter", "0" * 64)
    return made


def acting(home: CoordinatorHome, action: Action) -> Study:
    return home.study("s1", action.run)


def now(home: CoordinatorHome) -> tuple[str, str]:
    found = standing(home, home.study("s1"))
    return found.state, found.why


def test_a_study_that_runs_says_what_it_waits_for_and_one_whose_command_was_killed_is_paused(
    home: CoordinatorHome,
) -> None:
    assert now(home) == ("created", "")
    with begun(home.study("s1"), "train") as action:
        study = acting(home, action)
        assert now(home) == ("waiting", "for hospitals to connect (train)")
        study.event("queued", ahead=[{"study": "s2", "what": "audit r1"}])
        assert now(home) == ("waiting", "for its turn after s2 (audit r1)")
        study.event("round", round=1, rounds=ROUNDS)
        study.event("waiting", round=1, awaited=["north"], until="2026-11-28T15:41:00+00:00")
        assert now(home) == ("training", "round 1, awaits north until 15:41 UTC")
    assert now(home) == ("paused", "the command that ran it ended")
    study.event("failed", action="train", reason="round 1 has 0 of 1 updates it needs")
    assert now(home) == ("paused", "train failed: round 1 has 0 of 1 updates it needs")
    study.commit_round(1, b"one", "1" * 64)
    study.commit_round(ROUNDS, b"two", "2" * 64)
    assert now(home)[0] == "trained"
    with begun(home.study("s1"), "audit", "r1") as audit:
        acting(home, audit).event("online", hospitals=["north"])
        assert now(home) == ("releasing", "audit r1")


def run(*arguments: Any) -> Any:
    done = sonoshare("coordinator", "study", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_studies_are_listed_stopped_cancelled_and_retired(home: CoordinatorHome) -> None:
    study = home.study("s1")
    study.event("started", action="train", release="")
    study.event("round", round=1, rounds=ROUNDS)
    assert run("stop", "--home", home.path, "--name", "s1")["state"] == "paused"
    listed = run("list", "--home", home.path)["studies"]
    assert [(one["study"], one["state"], one["rounds_done"]) for one in listed] == [
        ("s1", "paused", 0),
        ("s2", "created", 0),
    ]
    assert "north not asked" in sonoshare("coordinator", "study", "list", "--home", home.path).stdout
    cancelled = run("cancel", "--home", home.path, "--name", "s1")
    assert cancelled["state"] == "cancelled"
    assert cancelled["epsilon_spent_at_most"] > 0  # its first round was asked for
    untouched = run("retire", "--home", home.path, "--name", "s2")
    assert (untouched["state"], untouched["epsilon_spent_at_most"]) == ("retired", 0.0)
    again = sonoshare("coordinator", "study", "stop", "--home", home.path, "--name", "s1")
    assert again.errors == ["error: study s1 was cancelled, and that is final (create a study of another name)"]


def test_a_cancelled_study_is_neither_run_nor_released(home: CoordinatorHome) -> None:
    run("cancel", "--home", home.path, "--name", "s1")
    release = ("release", "create", "--home", home.path, "--study", "s1", "--name", "r1")
    assert "was cancelled" in sonoshare("coordinator", *release).errors[0]
