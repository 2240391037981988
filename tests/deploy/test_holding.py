"""A candidate goes to the hospitals in batches: lost ones, restarts, swaps, and what is refused before a byte is kept.

Nobody trains here: the model of the study's beginning is audited, on phantoms.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.hostile import Hostile, reply_of, said
from tests.deploy.in_process import HOSPITALS, DirectFleet, World, copied, kind_of

from sonoshare_client.agent import service
from sonoshare_server.federation import holding
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.holding import Holding, outgoing
from sonoshare_server.federation.statements import AUDIT_DEADLINE_SECONDS, collect_statements
from sonoshare_shared.protocol.documents.exchange import decode_frame, encode_frame
from sonoshare_shared.protocol.documents.holding import HoldRequest
from sonoshare_shared.protocol.log_index import candidate_entry, plan_entry

NORTH, SOUTH = HOSPITALS
RELEASE = "r1"
BATCH = 4000


@dataclass
class Line(DirectFleet):
    """A direct fleet over which things happen: each is told the hospital and the frame before it is answered.

    What returns True loses the answer of that frame; its message comes back with an error.
    """

    happens: list[Callable[[str, bytes], bool]] = field(default_factory=list)

    def ask(self, requests: Any, deadline_seconds: Any) -> Iterator[dict[Any, Any]]:
        for hospital, frame in requests.items():
            lost = [happening(hospital, frame) for happening in self.happens]
            arrived = next(super().ask({hospital: frame}, deadline_seconds))
            yield {hospital: None} if any(lost) else arrived


@dataclass
class Travel:
    """A candidate that is about to be sent, by a coordinator with a clock of its own."""

    world: World
    line: Line
    now: float = 0.0

    def coordinator(self) -> Coordinator:
        log = self.world.home.log()
        return Coordinator(self.world.home, self.world.study, self.line, log, clock=lambda: self.now, pause=self.wait)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def holding(self, coordinator: Coordinator) -> Holding:
        study = coordinator.study
        source = outgoing(study, RELEASE)
        for entry in (
            plan_entry(study.plan.study, study.plan.digest()),
            candidate_entry(study.plan.study, RELEASE, source.digest),
        ):
            coordinator.logged(entry)
        return Holding(coordinator, RELEASE, source, AUDIT_DEADLINE_SECONDS)

    @property
    def size(self) -> int:
        return outgoing(self.world.study, RELEASE).size

    def inbox(self, hospital: str) -> list[Path]:
        return sorted(self.world.nodes[hospital].home.state.inbox_path.glob("*"))

    def audited(self) -> set[str]:
        return {path.name.split(".")[0] for path in self.world.study.candidate(RELEASE).statements_path.glob("*")}


@pytest.fixture
def travel(pristine: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Travel:
    monkeypatch.setattr(holding, "BATCH_BYTES", BATCH)
    world = copied(pristine, tmp_path / "world")
    plan, adapter = world.study.plan, world.study.adapter()
    Hostile(world, NORTH).candidate(plan, world.study.candidate(RELEASE).path, adapter)
    return Travel(world, Line(world.fleet.agents))


@pytest.fixture
def _no_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit itself is another test's."""
    monkeypatch.setattr(service, "audit_candidate", pytest.fail)


def test_it_is_sent_in_batches_audited_and_let_go_of_with_nothing_charged_before(travel: Travel) -> None:
    charged: list[int] = []

    def look(hospital: str, frame: bytes) -> bool:
        if kind_of(frame) == "audit":
            charged.append(len(travel.world.nodes[hospital].ledger.entries()))
            (held,) = travel.inbox(hospital)
            assert held.stat().st_size == travel.size
            assert decode_frame(frame)[1] == b""
        return False

    travel.line.happens.append(look)
    collect_statements(travel.coordinator(), RELEASE)
    assert travel.audited() == set(HOSPITALS)
    assert charged == [1, 1]
    for hospital in HOSPITALS:
        kinds = [kind for kind in travel.line.kinds(hospital) if kind != "keys"]
        assert kinds == ["hold"] * -(-travel.size // BATCH) + ["audit"]
        assert travel.inbox(hospital) == []
    told = [event["percent"] for event in travel.world.study.events() if event["kind"] == "sending"]
    assert told == sorted(set(told))
    assert len(told) <= 100 // 5 + 1
    assert told[-1] == 100
    _is_given_again(travel)


def _is_given_again(travel: Travel) -> None:
    """A candidate that was audited is not kept again, and its statement costs nothing."""
    (statement,) = travel.world.study.candidate(RELEASE).statements_path.glob(f"{NORTH}*")
    before = statement.read_bytes()
    statement.unlink()
    travel.line.happens.clear()
    charged, asked = len(travel.world.nodes[NORTH].ledger.entries()), len(travel.line.asked)
    collect_statements(travel.coordinator(), RELEASE)
    assert statement.read_bytes() == before
    assert len(travel.world.nodes[NORTH].ledger.entries()) == charged
    assert [kind_of(frame) for hospital, frame in travel.line.asked[asked:] if hospital == NORTH].count("hold") == 1
    assert travel.inbox(NORTH) == []


@pytest.mark.usefixtures("_no_audit")
def test_a_batch_whose_answer_is_lost_is_sent_again_and_none_other(travel: Travel) -> None:
    held: list[int] = []

    def lose(hospital: str, frame: bytes) -> bool:
        if hospital == NORTH and kind_of(frame) == "hold":
            held.append(1)
        return hospital == NORTH and len(held) in {2, 5}

    travel.line.happens.append(lose)
    assert travel.holding(travel.coordinator()).send(HOSPITALS) == set(HOSPITALS)
    assert len(held) == -(-travel.size // BATCH) + 2
    (file,) = travel.inbox(NORTH)
    assert file.read_bytes() == outgoing(travel.world.study, RELEASE).read(0, travel.size)


@pytest.mark.usefixtures("_no_audit")
def test_a_restart_of_agent_and_action_goes_on_from_what_is_held(travel: Travel) -> None:
    class KilledError(Exception):
        """The action."""

    def kill(hospital: str, frame: bytes) -> bool:
        if travel.line.kinds(SOUTH).count("hold") == 4:
            raise KilledError
        return False

    travel.line.happens.append(kill)
    with pytest.raises(KilledError):
        travel.holding(travel.coordinator()).send(HOSPITALS)
    travel.line.happens.clear()
    for hospital in HOSPITALS:
        travel.line.agents[hospital] = service.Agent(travel.world.reopen(hospital))
    (before,) = travel.inbox(NORTH)
    lay, asked = before.stat().st_size, len(travel.line.asked)
    assert lay >= 4 * BATCH
    assert travel.holding(travel.coordinator()).send(HOSPITALS) == set(HOSPITALS)
    sent = [frame for hospital, frame in travel.line.asked[asked:] if (hospital, kind_of(frame)) == (NORTH, "hold")]
    offsets = [HoldRequest.from_bytes(decode_frame(frame)[0]).offset for frame in sent]
    assert offsets[0] == 0
    assert 0 < offsets[1] <= lay
    assert len(offsets) < 1 + -(-(travel.size - offsets[1]) // BATCH) + 1


def test_who_was_away_and_who_has_lost_it_are_sent_it_again_when_the_others_are_done(travel: Travel) -> None:
    """North's file is another by the time of the audit; south is silent until north was asked for its audit."""
    north: list[int] = []

    def happen(hospital: str, frame: bytes) -> bool:
        if (hospital, kind_of(frame)) == (NORTH, "audit"):
            north.append(len(travel.world.nodes[NORTH].ledger.entries()))
            if len(north) == 1:
                (file,) = travel.inbox(NORTH)
                file.write_bytes(file.read_bytes()[:-100] + bytes(100))
        return hospital == SOUTH and kind_of(frame) == "hold" and not north

    travel.line.happens.append(happen)
    collect_statements(travel.coordinator(), RELEASE)
    assert travel.audited() == set(HOSPITALS)
    assert north == [1, 1]  # the changed file was refused before any charge
    refusals = [event["reason"] for event in travel.world.study.events() if event["kind"] == "refused"]
    assert len(refusals) == 1
    assert "has changed on the disk (send it again)" in refusals[0]


def test_a_hospital_that_says_for_ever_that_it_lacks_something_is_left(
    travel: Travel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(hospital: str, frame: bytes) -> bool:
        if hospital == NORTH and kind_of(frame) == "hold":
            travel.world.nodes[NORTH].inbox.drop(outgoing(travel.world.study, RELEASE).digest)
        return False

    monkeypatch.setattr(holding, "BATCH_BYTES", 20_000)
    travel.line.happens.append(lose)
    coordinator = travel.coordinator()
    assert travel.holding(coordinator).send([NORTH]) == set()
    assert travel.line.kinds(NORTH).count("hold") == 2 * (travel.size // 20_000) + 4


@pytest.mark.usefixtures("_no_audit")
def test_what_is_not_shown_or_not_planned_is_refused_before_a_byte_is_kept(pristine: World, tmp_path: Path) -> None:
    world = copied(pristine, tmp_path / "world")
    hostile, plan, adapter = Hostile(world, NORTH), world.study.plan, world.study.adapter()
    stream, digest = hostile.candidate(plan, tmp_path / "candidate", adapter)
    shown = hostile.hold(plan, stream, digest)
    header, _ = decode_frame(shown)
    other = HoldRequest.from_bytes(header).model_copy(update={"candidate_digest": "1" * 64})
    refused = [
        (encode_frame(other, stream), "the log does not show"),
        (encode_frame(other.model_copy(update={"release": "r2"}), stream), "the log does not show"),
        (hostile.hold(plan, stream, digest, "r2"), "the candidate is one more than the 1 that the plan has"),
    ]
    for frame, words in refused:
        answer = reply_of(hostile.agent.answer(frame))
        assert answer.refusal is not None, words
        assert words in answer.refusal.message, answer.refusal
    assert not world.nodes[NORTH].home.state.inbox_path.exists()
    assert [signed.charge.kind for signed in world.nodes[NORTH].ledger.entries()] == ["opened"]


def test_what_a_hospital_says_that_it_holds_is_of_the_candidate_alone(pristine: World, tmp_path: Path) -> None:
    world = copied(pristine, tmp_path / "world")
    hostile, plan = Hostile(world, NORTH), world.study.plan
    stream, digest = hostile.candidate(plan, tmp_path / "candidate", world.study.adapter())
    first = said(hostile.agent.answer(hostile.hold(plan, stream[:3000], digest)))
    again = said(hostile.agent.answer(hostile.hold(plan, b"", digest)))
    whole = said(hostile.agent.answer(hostile.hold(plan, stream[3000:], digest, offset=3000)))
    about = {"hospital": NORTH, "candidate": digest, "schema": "sonoshare/held/v1"}
    assert first == again == {**about, "held": 3000, "whole": False}
    assert whole == {**about, "held": len(stream), "whole": True}
    before = hostile.hold(plan, b"", digest)
    answer = said(hostile.agent.answer(before))
    statement = world.nodes[NORTH].home.statement_path(digest)
    statement.touch()  # as after the audit
    world.nodes[NORTH].inbox.drop(digest)
    assert said(hostile.agent.answer(before)) == answer == {**about, "held": 0, "whole": True}


def test_a_candidate_that_comes_with_the_request_for_its_audit_is_refused_in_words(
    pristine: World, tmp_path: Path
) -> None:
    """As a coordinator of an earlier version sends it."""
    world = copied(pristine, tmp_path / "world")
    hostile, plan = Hostile(world, NORTH), world.study.plan
    stream, digest = hostile.candidate(plan, tmp_path / "candidate", world.study.adapter())
    refusal = reply_of(hostile.agent.answer(hostile.ask_audit(plan, digest) + stream)).refusal
    assert refusal is not None
    assert (refusal.error, refusal.remedy) == ("NotHeldError", "update SonoShare")
