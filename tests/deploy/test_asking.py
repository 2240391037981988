"""When a question closes: patience with hospitals in trouble, messages that come back, agents that were started again.

Nobody trains here: hospitals are asked for their views, by a fleet whose clock moves when it is looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.in_process import HOSPITALS, World, copied

from sonoshare_server.federation.asking import RETRY_SECONDS, SHORTEST_PATIENCE_SECONDS, Question
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.exchange import heard
from sonoshare_shared.errors import FederationError
from sonoshare_shared.protocol.documents.exchange import KeysRequest, Refusal, Reply, encode_frame
from sonoshare_shared.protocol.log_index import Entry, plan_entry

DEADLINE = 600.0
UNSHOWN = encode_frame(Reply(refusal=Refusal(error="WitnessError", message="not shown enough", remedy="show more")))


@dataclass
class Clocked:
    """A fleet over real agents, with a clock of its own.

    Attributes:
        world: the consortium.
        hung: hospitals that never answer what is asked of them (but introduce themselves).
        errors: how many of a hospital's messages come back with an error.
        unshown: how many of a hospital's answers say that it was not shown enough.
        seconds: how long a hospital needs.
    """

    world: World
    hung: set[str] = field(default_factory=set)
    errors: dict[str, int] = field(default_factory=dict)
    unshown: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    now: float = 0.0
    asked: list[tuple[str, float]] = field(default_factory=list)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def ask(self, requests: Any, deadline_seconds: float) -> Iterator[dict[str, bytes | None]]:
        start, waiting, asks_itself = self.now, dict(requests), any(b'"log":null' in f for f in requests.values())
        if not asks_itself:  # an introduction, which shows the log
            yield {hospital: self.world.fleet.agents[hospital].answer(frame) for hospital, frame in requests.items()}
            return
        self.asked += [(hospital, self.now) for hospital in requests]
        while waiting and self.now < start + deadline_seconds:
            due = [h for h in waiting if h not in self.hung and self.now >= start + self.seconds.get(h, 0.0)]
            yield {hospital: self._answer(hospital, waiting.pop(hospital)) for hospital in due}
            self.now += 1.0

    def _answer(self, hospital: str, frame: bytes) -> bytes | None:
        if self.errors.get(hospital, 0) > 0:
            self.errors[hospital] -= 1
            return None
        if self.unshown.get(hospital, 0) > 0:
            self.unshown[hospital] -= 1
            return UNSHOWN
        return self.world.fleet.agents[hospital].answer(frame)


@pytest.fixture
def fleet(pristine: World, tmp_path: Path) -> Clocked:
    return Clocked(copied(pristine, tmp_path / "world"))


@pytest.fixture
def coordinator(fleet: Clocked) -> Coordinator:
    world = fleet.world
    made = Coordinator(world.home, world.study, fleet, world.home.log(), clock=lambda: fleet.now, pause=fleet.wait)
    made.logged(entry_of(world))
    return made


def entry_of(world: World) -> Entry:
    return plan_entry(world.study.plan.study, world.study.plan.digest())


def question(coordinator: Coordinator, quorum: int = 1) -> Question[str]:
    return Question(
        request=lambda _shown: KeysRequest(),
        payload=b"",
        after=plan_entry(coordinator.study.plan.study, coordinator.study.plan.digest()),
        deadline_seconds=DEADLINE,
        verify=lambda hospital, _answer: hospital,
        record=lambda _hospital, _said: None,
        about={},
        quorum=quorum,
    )


def test_a_hung_hospital_costs_the_deadline_once_and_then_as_long_again_as_the_others_need(
    fleet: Clocked, coordinator: Coordinator
) -> None:
    fleet.hung, fleet.seconds = {"south"}, {"north": 40.0}
    first = heard(coordinator, question(coordinator))
    assert first.said.keys() == {"north"}
    assert fleet.now == pytest.approx(DEADLINE, abs=2)
    begun = fleet.now
    again = heard(coordinator, question(coordinator))
    assert again.left.keys() == {"south"}
    assert fleet.now - begun == pytest.approx(80.0, abs=4)
    begun, fleet.seconds = fleet.now, {}
    heard(coordinator, question(coordinator))
    assert fleet.now - begun == pytest.approx(SHORTEST_PATIENCE_SECONDS, abs=3)
    # Back in time, it is in again, and in good standing.
    fleet.hung, fleet.seconds = set(), {"north": 20.0, "south": 30.0}
    assert heard(coordinator, question(coordinator)).said.keys() == set(HOSPITALS)
    assert coordinator.absent == set()


def test_below_the_quorum_a_hung_hospital_is_waited_for_to_the_deadline(
    fleet: Clocked, coordinator: Coordinator
) -> None:
    fleet.hung = {"south"}
    for _ in range(2):
        begun = fleet.now
        assert heard(coordinator, question(coordinator, quorum=2)).said.keys() == {"north"}
        assert fleet.now - begun == pytest.approx(DEADLINE, abs=2)


def test_a_message_that_comes_back_is_sent_again_after_a_while(fleet: Clocked, coordinator: Coordinator) -> None:
    """An agent that is started again: two messages find nobody, the third is answered."""
    fleet.errors = {"south": 2}
    assert heard(coordinator, question(coordinator, quorum=2)).said.keys() == set(HOSPITALS)
    moments = [moment for hospital, moment in fleet.asked if hospital == "south"]
    assert len(moments) == 3
    assert all(later - earlier >= RETRY_SECONDS for earlier, later in pairwise(moments))


def test_a_dead_hospital_is_given_up_when_the_others_are_done(fleet: Clocked, coordinator: Coordinator) -> None:
    fleet.errors = {"south": 99}
    asked = heard(coordinator, question(coordinator))
    assert asked.said.keys() == {"north"}
    assert asked.left["south"].startswith("no answer within")
    assert fleet.now < 2 * SHORTEST_PATIENCE_SECONDS


def test_an_agent_that_was_started_again_is_asked_once_more_and_not_for_ever(
    fleet: Clocked, coordinator: Coordinator
) -> None:
    fleet.unshown = {"south": 1}
    assert heard(coordinator, question(coordinator)).said.keys() == set(HOSPITALS)
    fleet.unshown = {"south": 99}
    asked = heard(coordinator, question(coordinator))
    assert "not shown enough" in asked.left["south"]
    assert 99 - fleet.unshown["south"] <= 3


def test_while_it_waits_it_says_for_whom(fleet: Clocked, coordinator: Coordinator) -> None:
    fleet.seconds = {"south": 30.0}
    heard(coordinator, question(coordinator))
    told = [e for e in coordinator.study.events() if e["kind"] == "waiting"]
    assert [(event["answered"], event["awaited"]) for event in told] == [([], list(HOSPITALS)), (["north"], ["south"])]


def test_the_newest_log_is_wanted_before_anybody_is_asked(fleet: Clocked, coordinator: Coordinator) -> None:
    unknown = plan_entry("another", "0" * 64)
    with pytest.raises(FederationError, match="the step is not in the log"):
        heard(coordinator, Question(**{**vars(question(coordinator)), "after": unknown}))
    assert fleet.asked == []
