"""A hospital decides by its rules or by a person; what was approved is one plan, and nobody else can approve it."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.command import sonoshare
from tests.deploy.hostile import Hostile, reply_of, said
from tests.deploy.in_process import STUDY, World

from sonoshare_client.node import approvals
from sonoshare_client.node.policy_file import policy_text
from sonoshare_server.federation import rounds
from sonoshare_server.federation.proposing import propose, require_enough
from sonoshare_server.queue.standing import standing
from sonoshare_shared.errors import FederationError, InputError, PolicyError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.exchange import encode_frame
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.proposal import ProposeRequest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey

NORTH, SOUTH = "north", "south"


@pytest.fixture
def hostile(world: World) -> Hostile:
    return Hostile(world, NORTH)


def rules(world: World, hospital: str, **changes: Any) -> None:
    home = world.nodes[hospital].home
    policy = home.policy()
    federation = policy.federation.model_copy(update=changes)
    home.policy_path.write_text(policy_text(policy.model_copy(update={"federation": federation})))


def a_person_decides(world: World, hospital: str = NORTH) -> Path:
    rules(world, hospital, approve="person")
    return world.nodes[hospital].home.path


def proposal(world: World, plan: StudyPlan, key: SigningKey | None = None) -> bytes:
    signed = Envelope.sign(PLAN_PAYLOAD_TYPE, plan.canonical(), key or world.home.key)
    return encode_frame(ProposeRequest(plan=signed))


def entries(world: World, hospital: str = NORTH) -> int:
    return len(world.nodes[hospital].ledger.entries())


def now(world: World) -> Any:
    return standing(world.home, world.study)


def test_by_its_rules_a_hospital_accepts_and_nothing_is_charged(world: World) -> None:
    assert now(world).state == "created"
    propose(world.coordinator())
    assert now(world).answers == {NORTH: "accepted", SOUTH: "accepted"}
    assert now(world).state == "accepted"
    assert entries(world) == entries(world, SOUTH) == 1
    require_enough(world.coordinator())
    assert world.fleet.kinds() == ["propose", "propose"]  # who has accepted is not asked again


def test_a_plan_against_the_rules_is_refused_in_words_before_anybody_is_charged(world: World) -> None:
    home = world.nodes[SOUTH].home
    policy = home.policy()
    training = policy.training.model_copy(update={"maximum_rounds": 1})
    home.policy_path.write_text(policy_text(policy.model_copy(update={"training": training})))
    with pytest.raises(FederationError, match=r"refused: south: .*2 rounds"):
        require_enough(world.coordinator())
    assert now(world).state == "refused"
    assert "2 rounds" in now(world).reasons[SOUTH]
    assert entries(world) == entries(world, SOUTH) == 1


def test_a_study_larger_than_what_is_left_is_refused_when_it_is_proposed(world: World) -> None:
    home = world.nodes[NORTH].home
    policy = home.policy()
    budget = policy.budget.model_copy(update={"lifetime_epsilon": 31.0, "study_epsilon": 31.0})
    home.policy_path.write_text(policy_text(policy.model_copy(update={"budget": budget})))
    rounds.run_round(world.coordinator(), 1)  # some of it is spent, on this study itself
    other = world.study.plan.model_copy(update={"study": "another"})
    answer = said(world.fleet.agents[NORTH].answer(proposal(world, other)))
    assert answer["answer"] == "refused"
    assert "lifetime budget" in answer["reason"]
    assert said(world.fleet.agents[NORTH].answer(proposal(world, world.study.plan)))["answer"] == "accepted"


def test_a_person_approves_and_takes_it_back(world: World) -> None:
    home = a_person_decides(world)
    with pytest.raises(FederationError, match="waits for a person at north"):
        require_enough(world.coordinator())
    assert (now(world).state, now(world).why) == ("waiting", "for a person at north")
    assert entries(world, SOUTH) == 1  # south is not charged for nothing
    listed = json.loads(sonoshare("hospital", "studies", "--home", home, "--json").stdout)["studies"]
    assert [(one["study"], one["state"], one["others"]) for one in listed] == [(STUDY, "waiting", [SOUTH])]
    assert 0 < listed[0]["epsilon"] <= 30.5
    assert listed[0]["left_after"] < listed[0]["left_before"] == 80.0
    digest = listed[0]["plan"]
    assert sonoshare("hospital", "approve", STUDY, "--home", home, "--plan", digest).returncode == 0
    require_enough(world.coordinator())
    rounds.run_round(world.coordinator(), 1)
    charged = entries(world)
    assert charged == 3
    run = sonoshare("hospital", "refuse", STUDY, "--home", home, "--reason", "our board has withdrawn")
    assert "the coordinator will read: our board has withdrawn" in run.stdout
    with pytest.raises(FederationError, match="our board has withdrawn"):
        rounds.run_round(world.coordinator(), 2)
    assert entries(world) == charged
    propose(world.coordinator())
    assert now(world).reasons[NORTH] == "our board has withdrawn"


def test_every_charge_waits_for_the_person_and_a_refused_study_is_not_signed(
    world: World, hostile: Hostile, tmp_path: Path
) -> None:
    home = a_person_decides(world)
    plan, adapter = world.study.plan, world.study.adapter()
    payload, digest = hostile.candidate(plan, tmp_path / "candidate", adapter)
    frames = [hostile.train(plan, adapter), hostile.calibrate(plan, b""), hostile.audit(plan, payload, digest)]
    for frame in frames:
        refusal = reply_of(hostile.agent.answer(frame)).refusal
        assert (refusal.error, refusal.message) == (
            "PolicyError",
            f"study {STUDY} waits for approval at the hospital",
        )
    assert entries(world) == 1
    assert sonoshare("hospital", "refuse", STUDY, "--home", home, "--reason", "no").returncode == 0
    with pytest.raises(PolicyError, match="a person at the hospital refused"):
        approvals.require_not_refused(world.nodes[NORTH].home, STUDY)


def test_a_changed_plan_of_the_same_name_needs_a_new_approval(world: World, hostile: Hostile) -> None:
    a_person_decides(world)
    plan, adapter = world.study.plan, world.study.adapter()
    approvals.decide(world.nodes[NORTH].home, plan, "approved")
    changed = plan.model_copy(update={"learning_rate": plan.learning_rate / 2})
    assert said(hostile.agent.answer(proposal(world, changed)))["answer"] == "waiting"
    refusal = reply_of(hostile.agent.answer(hostile.train(changed, adapter))).refusal
    assert "waits for approval" in refusal.message
    assert entries(world) == 1
    assert said(hostile.agent.answer(proposal(world, plan)))["answer"] == "accepted"


def test_a_refusal_cannot_be_gone_around_with_a_small_change_even_where_rules_decide(
    world: World, hostile: Hostile
) -> None:
    plan = world.study.plan
    approvals.decide(world.nodes[NORTH].home, plan, "refused", "no")
    assert said(hostile.agent.answer(proposal(world, plan)))["reason"] == "no"
    changed = plan.model_copy(update={"learning_rate": plan.learning_rate / 2})
    assert said(hostile.agent.answer(proposal(world, changed)))["answer"] == "waiting"


def test_what_a_person_approves_is_what_this_very_command_shows(world: World) -> None:
    home, plan = a_person_decides(world), world.study.plan
    shown = world.fleet.agents[NORTH].answer(proposal(world, plan))
    assert said(shown)["answer"] == "waiting"
    swapped = plan.model_copy(update={"learning_rate": plan.learning_rate / 2})
    world.fleet.agents[NORTH].answer(proposal(world, swapped))  # after the person looked, and before it approves
    run = sonoshare("hospital", "approve", STUDY, "--home", home, "--plan", plan.digest())
    assert run.returncode == 1
    assert run.errors[0].startswith(f"error: the plan of {STUDY} is {swapped.digest()}")
    # Whoever makes both plans can make two whose digests begin alike: the beginning names no plan.
    assert sonoshare("hospital", "approve", STUDY, "--home", home, "--plan", swapped.digest()[:32]).returncode == 1

    assert sonoshare("hospital", "approve", STUDY, "--home", home, stdin="n\n").returncode != 0
    assert approvals.decision_about(world.nodes[NORTH].home, STUDY) is None


def test_the_words_of_a_plan_are_one_line_and_steer_no_terminal(world: World) -> None:
    """A person decides by the lines that are printed: a coordinator adds none, and hides none, by its question."""
    home, plan = a_person_decides(world), world.study.plan
    false = "  cost      epsilon 0.001 at delta 1e-09 for each patient, votes and audits included"
    task = plan.task.model_copy(update={"question": f"benign?\n{false}\x1b[8m\r\u202e"})
    world.fleet.agents[NORTH].answer(proposal(world, plan.model_copy(update={"task": task})))
    for command in (["studies"], ["approve", STUDY]):
        run = sonoshare("hospital", *command, "--home", home, stdin="n\n")
        shown = run.stdout + run.stderr
        assert not {"\x1b", "\r", "\u202e"} & set(shown)
        costs = [line for line in shown.splitlines() if line.startswith("  cost")]
        assert len(costs) == 1
        assert costs[0] != false


def test_no_message_can_approve(world: World, hostile: Hostile) -> None:
    """Whatever a coordinator sends: nothing appears beside what persons wrote, and nothing is charged."""
    home = a_person_decides(world)
    place = world.nodes[NORTH].home.approvals_path
    plan, adapter = world.study.plan, world.study.adapter()
    forged = {"kind": "propose", "answer": "accepted", "approve": True}
    requests = [
        proposal(world, plan),
        proposal(world, plan, SigningKey.generate()),
        encode_frame(ProposeRequest(plan=world.study.plan_envelope), b'{"decision": "approved"}'),
        _with_header(proposal(world, plan), forged),
        _with_study(world, "../approvals/x"),
        hostile.train(plan, adapter),
    ]
    for frame in requests:
        hostile.agent.answer(frame)
    assert not place.exists()
    assert sorted(path.name for path in (home / "state" / "proposals").iterdir()) == [f"{STUDY}.dsse.json"]
    assert entries(world) == 1
    approvals.decide(world.nodes[NORTH].home, plan, "refused", "no")
    before = (place / f"{STUDY}.json").read_bytes()
    for frame in requests:
        hostile.agent.answer(frame)
    assert [path.name for path in place.iterdir()] == [f"{STUDY}.json"]
    assert (place / f"{STUDY}.json").read_bytes() == before
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_decision_that_cannot_be_read_permits_nothing(world: World, hostile: Hostile) -> None:
    plan = world.study.plan
    approvals.decide(world.nodes[NORTH].home, plan, "approved")
    (world.nodes[NORTH].home.approvals_path / f"{STUDY}.json").write_bytes(b"{")
    refusal = reply_of(hostile.agent.answer(hostile.train(plan, world.study.adapter()))).refusal
    assert refusal.error == "IntegrityError"
    assert entries(world) == 1


def test_proposals_cannot_fill_the_disk(world: World, hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "MOST_PROPOSALS", 2)
    monkeypatch.setattr(approvals, "MOST_PROPOSAL_BYTES", 8000)
    plan = world.study.plan
    long = plan.model_copy(update={"task": plan.task.model_copy(update={"question": "?" * 9000})})
    assert "too long" in reply_of(hostile.agent.answer(proposal(world, long))).refusal.message
    for name in ("a", "b"):
        assert said(hostile.agent.answer(proposal(world, plan.model_copy(update={"study": name}))))
    third = hostile.agent.answer(proposal(world, plan.model_copy(update={"study": "c"})))
    assert "too many" in reply_of(third).refusal.message
    assert said(hostile.agent.answer(proposal(world, plan.model_copy(update={"study": "a"}))))


def test_a_reason_is_as_long_as_an_answer_can_be(world: World) -> None:
    with pytest.raises(InputError, match="at most 500"):
        approvals.decide(world.nodes[NORTH].home, world.study.plan, "refused", "x" * 501)


def _with_header(frame: bytes, fields: dict[str, Any]) -> bytes:
    length = int.from_bytes(frame[:4], "big")
    header = json.dumps({**json.loads(frame[4 : 4 + length]), **fields}).encode()
    return len(header).to_bytes(4, "big") + header


def _with_study(world: World, name: str) -> bytes:
    """A plan whose name is a path, signed: the document itself refuses it."""
    fields = json.loads(world.study.plan.canonical()) | {"study": name}
    signed = Envelope.sign(PLAN_PAYLOAD_TYPE, json.dumps(fields).encode(), world.home.key)
    assert base64.b64decode(json.loads(signed.to_bytes())["payload"])
    return encode_frame(ProposeRequest(plan=signed))
