"""Stop means stop: whoever asked for an action ends, and the action ends at the next look; nothing is lost by it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.in_process import STUDY, DirectFleet, World

from sonoshare_deploy import coordinator as commands
from sonoshare_server.federation import fleet as fleet_module
from sonoshare_server.federation import rounds
from sonoshare_server.federation.control import RunStatus
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.fleet import FlowerFleet, answers_of
from sonoshare_server.queue.actions import Action, begun
from sonoshare_server.queue.wanted import want
from sonoshare_shared.errors import FederationError, StoppedError


class Ending(DirectFleet):
    """Something happens as soon as the first hospital has trained."""

    def __init__(self, world: World, then: Any) -> None:
        super().__init__(world.fleet.agents)
        self.then = then

    def ask(self, requests: Any, deadline_seconds: Any) -> Iterator[dict[Any, Any]]:
        for arrived in super().ask(requests, deadline_seconds):
            if "train" in self.kinds():
                self.then()
            yield arrived


def acting(world: World, action: Action, then: Any) -> Coordinator:
    study = world.home.study(STUDY, action.run)
    return Coordinator(world.home, study, Ending(world, then), world.home.log(), action=action)


def charges(world: World) -> dict[str, int]:
    return {hospital: len(node.ledger.entries()) for hospital, node in world.nodes.items()}


@pytest.mark.parametrize("by", ["the command's end", "study stop"])
def test_case_34_a_stopped_round_is_given_again_and_charged_once(world: World, by: str) -> None:
    holding = begun(world.study, "train")
    action = holding.__enter__()
    ends = {
        "the command's end": lambda: holding.__exit__(None, None, None),
        "study stop": lambda: want(world.study, "paused"),
    }
    with pytest.raises(StoppedError):
        rounds.train(acting(world, action, ends[by]))
    assert world.study.state.rounds_done == 0
    before = charges(world)
    assert before == {"north": 3, "south": 1}  # opened; in north reserved and settled
    holding.__exit__(None, None, None)
    want(world.study, "run")
    with begun(world.study, "train") as again:
        rounds.run_round(acting(world, again, lambda: None), 1)
    assert world.study.state.rounds_done == 1
    assert charges(world) == {"north": 3, "south": 3}


def test_events_carry_their_action_and_a_failure_is_never_an_older_one_s(world: World) -> None:
    older, newer = Action("train"), Action("audit", "r1")
    world.home.study(STUDY, older.run).event("failed", reason="round 1 has 2 of 3 answers it needs")
    silent = commands._failure(world.study, newer, RunStatus(finished=True, succeeded=False, details="heartbeat"))
    assert silent.message == "audit r1 failed: heartbeat"
    world.home.study(STUDY, newer.run).event("failed", reason="north gave no verdict")
    told = commands._failure(world.study, newer, RunStatus(finished=True, succeeded=False, details="heartbeat"))
    assert told.message == "audit r1 failed: north gave no verdict"
    world.home.study(STUDY, newer.run).event("stopped", reason="study study was paused")
    assert isinstance(commands._failure(world.study, newer, RunStatus(True, False, "")), StoppedError)


class Silent:
    """A grid whose hospitals never answer."""

    def __init__(self) -> None:
        self.looks = 0

    def get_node_ids(self) -> list[int]:
        return []

    def push_messages(self, messages: Any) -> list[str]:
        return [str(number) for number, _ in enumerate(messages)]

    def pull_messages(self, message_ids: Any) -> list[Any]:
        return []


@pytest.mark.parametrize("wait", ["for hospitals", "for answers"])
def test_every_wait_for_hospitals_can_be_ended(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(fleet_module, "Message", lambda *_, **__: None)  # Flower makes one inside a run alone

    def look() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise StoppedError("nobody waits")

    fleet = FlowerFleet(Silent(), lambda: {"north": (1,)}, look)  # type: ignore[arg-type]
    waits: dict[str, Any] = {
        "for hospitals": lambda: fleet.wait_for({"north"}, 3600, enough=1, grace_seconds=3600),
        "for answers": lambda: answers_of(fleet.ask({"north": b"x"}, 3600)),
    }
    with pytest.raises(StoppedError):
        waits[wait]()


class Runs:
    """A SuperLink with one run, which ends by itself or only when it is told to."""

    def __init__(self, *, ends: bool) -> None:
        self.ends, self.stopped, self.finished = ends, [], False  # type: ignore[var-annotated]

    def start(self, app: Path, config: dict[str, str]) -> int:
        return 17

    def wait(self, run: int, timeout_seconds: float, *, watch: Any = None) -> RunStatus:
        if timeout_seconds == commands.ACTION_SECONDS:
            raise KeyboardInterrupt
        if not self.ends:
            raise FederationError("the run did not end in time")
        return RunStatus(finished=True, succeeded=False, details="")

    def stop(self, run: int) -> None:
        self.stopped.append(run)


@pytest.mark.parametrize("ends", [True, False])
def test_an_interrupted_command_leaves_no_run(world: World, monkeypatch: pytest.MonkeyPatch, *, ends: bool) -> None:
    runs = Runs(ends=ends)
    monkeypatch.setattr(commands, "control_of", lambda _home: runs)
    with pytest.raises(KeyboardInterrupt):
        commands.act(world.home, world.study, "train")
    assert runs.stopped == ([] if ends else [17])
    with begun(world.study, "train"):
        pass  # nobody holds it
