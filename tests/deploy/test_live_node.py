"""What a hospital changes while its agent runs counts at once; and charged answers leave at public time slots."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.hostile import Hostile, reply_of
from tests.deploy.in_process import World
from tests.shared.consortium import NOW, Consortium, make_plan

from sonoshare_client.agent import node as agent_node
from sonoshare_client.agent.draws import PatientDraws
from sonoshare_client.agent.service import WITHHELD, Agent
from sonoshare_client.agent.signing import sign_manifest
from sonoshare_client.agent.witnessing import signed_view
from sonoshare_client.node import witness
from sonoshare_client.node.policy import FederationRules
from sonoshare_client.node.policy_file import policy_text
from sonoshare_client.vault.dataset import TrainingSet
from sonoshare_client.vault.store import Vault
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import LedgerError, RefusedError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import FileEntry, HospitalBudget, PrivacyStatement, ReleaseManifest
from sonoshare_shared.protocol.documents.charge import PureDP, SignedCharge
from sonoshare_shared.protocol.documents.exchange import KeysRequest, decode_frame, encode_frame
from sonoshare_shared.protocol.documents.plan import StudyPlan
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.table import metadata_csv
from sonoshare_shared.protocol.views import verified_view
from sonoshare_shared.science.model.loss import denoising_loss

NORTH = "north"


@pytest.fixture
def hostile(world: World) -> Hostile:
    return Hostile(world, NORTH)


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[set[Any]]:
    """Pseudonyms that each training drew from."""
    seen, hold = [], PatientDraws.hold

    def watched(self: Any, patients: Any) -> int:
        seen.append({one.pseudonym for one in patients})
        return hold(self, patients)

    monkeypatch.setattr(PatientDraws, "hold", watched)
    return seen


def plan(world: World, name: str, **changes: Any) -> StudyPlan:
    return world.study.plan.model_copy(update={"study": name, "local_steps": 1, **changes})


def forget(world: World, pseudonyms: set[Any]) -> None:
    with Vault(world.nodes[NORTH].home) as vault, vault.writing() as writer:
        for pseudonym in pseudonyms:
            writer.forget(pseudonym)


def train(hostile: Hostile, study: StudyPlan, number: int = 1) -> bytes:
    adapter = hostile.world.study.adapter()
    return hostile.agent.answer(hostile.train(study, adapter, number))


def test_who_is_forgotten_while_the_agent_runs_is_not_trained_on_again(
    world: World, hostile: Hostile, trained_on: list[set[Any]]
) -> None:
    train(hostile, plan(world, "s1"))
    everybody = trained_on[0]
    first = min(everybody)
    forget(world, {first})
    train(hostile, plan(world, "s1"), 2)
    assert trained_on[1] == everybody - {first}
    forget(world, everybody)
    for name in ("s2", "s3"):
        assert reply_of(train(hostile, plan(world, name))).refusal is None  # nobody is left: noise, and no refusal
    assert trained_on[2:] == [set(), set()]


def test_an_agent_draws_the_times_of_the_plan(world: World, hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(*arguments: Any) -> Any:
        seen.append(int(arguments[4].max()))
        return denoising_loss(*arguments)

    monkeypatch.setattr("sonoshare_client.agent.draws.denoising_loss", watched)
    train(hostile, plan(world, "early", latest_time=200))
    assert max(seen) <= 200
    train(hostile, plan(world, "late", latest_time=None))
    assert max(seen) > 500


def test_pixels_of_the_forgotten_leave_the_agents_memory_with_the_next_request_of_any_kind(
    world: World, hostile: Hostile
) -> None:
    train(hostile, plan(world, "s1"))
    node = world.nodes[NORTH]
    assert node._opened is not None
    forget(world, {node._opened.patients.trained[0].pseudonym})
    hostile.agent.answer(encode_frame(KeysRequest()))
    assert node._opened is None


def test_patients_who_come_later_join_the_next_study_and_not_a_running_one(
    world: World, hostile: Hostile, trained_on: list[set[Any]]
) -> None:
    train(hostile, plan(world, "s1"))
    with Vault(world.nodes[NORTH].home) as vault, vault.writing() as writer:
        left = vault.load(next(ref for ref in vault.images() if ref.pseudonym == min(trained_on[0])))
        writer.forget(min(trained_on[0]))
        names = (f"newcomer {number}" for number in range(1000))
        name = next(n for n in names if not vault._keys.held_out(vault.pseudonym(n), vault.held_out_fraction))
        writer.add(name, left)
        writer.flush()
        writer.record_twins([], last=vault.images()[-1].blob)
        newcomer = vault.pseudonym(name)
    train(hostile, plan(world, "s1"), 2)
    train(hostile, plan(world, "s2"))
    assert newcomer not in trained_on[1]
    assert newcomer in trained_on[2]


def test_the_agents_way_to_the_vault_opens_for_an_open_charge_only(world: World) -> None:
    node = world.nodes[NORTH]
    paid = node.ledger.reserve(ChargeRequest("s", "something", (PureDP(0.1),), 3e-3, 30))
    node.patients(plan(world, "s"), 32, paid)
    node.ledger.commit(paid)
    with pytest.raises(LedgerError, match="open charge"):
        node.patients(plan(world, "s"), 32, paid)


def test_a_lowered_lifetime_budget_counts_at_the_next_request(world: World, hostile: Hostile) -> None:
    node = world.nodes[NORTH]
    node.ledger.reserve(ChargeRequest("earlier", "something", (PureDP(39.9),), 3e-3, 30))
    rules = node.home.policy()
    assert rules.budget.lifetime_epsilon == 80.0
    low = rules.budget.model_copy(update={"lifetime_epsilon": 40.0})
    node.home.policy_path.write_text(policy_text(rules.model_copy(update={"budget": low})))
    refusal = reply_of(train(hostile, plan(world, "s2"))).refusal
    assert refusal.error == "BudgetError"
    assert "lifetime" in refusal.message
    assert len(node.ledger.entries()) == 2


def result_of(frame: bytes) -> tuple[Envelope, bytes]:
    """What was released, without what was seen."""
    return reply_of(frame).envelope, decode_frame(frame)[1]


class Clock:
    """A clock that stands still but for waits, and for the work that a test lets take its time."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: Any) -> bool:
        self.time += seconds
        return True


@pytest.fixture
def slotted(world: World) -> Clock:
    """North answers in slots of 60 s by a clock of ours."""
    node = world.nodes[NORTH]
    rules = node.home.policy().model_copy(update={"federation": FederationRules(reply_slot_seconds=60.0)})
    node.home.policy_path.write_text(policy_text(rules))
    clock = Clock()
    world.fleet.agents[NORTH] = Agent(node, clock)
    return clock


def takes(monkeypatch: pytest.MonkeyPatch, clock: Clock, seconds: float, error: MemoryError | None = None) -> None:
    """Let the reading of the vault take its time, and perhaps fail."""
    grid = agent_node.grid  # type: ignore[attr-defined]

    def slow(*arguments: Any) -> TrainingSet:
        clock.time += seconds
        if error is not None:
            raise error
        return grid(*arguments)

    monkeypatch.setattr(agent_node, "grid", slow)


def test_a_charged_answer_leaves_at_a_slot_and_the_same_answer_again_at_once(
    world: World, hostile: Hostile, slotted: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, slotted, 70.0)
    frame = hostile.train(plan(world, "s1"), world.study.adapter())
    assert slotted.now() == 0.0  # the request for its keys was not charged
    first = hostile.agent.answer(frame)
    assert reply_of(first).refusal is None
    assert slotted.now() == 120.0
    again = hostile.agent.answer(hostile.train(plan(world, "s1"), world.study.adapter()))
    assert result_of(again) == result_of(first)
    assert slotted.now() == 120.0


def test_a_refusal_after_the_charge_leaves_at_a_slot_and_one_before_it_at_once(
    world: World, hostile: Hostile, slotted: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, slotted, 3.0, MemoryError())
    assert reply_of(hostile.agent.answer(hostile.train(plan(world, "s1"), b"no adapter"))).refusal.error == "ModelError"
    assert slotted.now() == 0.0
    assert hostile.agent.answer(hostile.train(plan(world, "s2"), world.study.adapter())) == WITHHELD
    assert slotted.now() == 60.0


def test_a_charge_of_another_process_is_in_a_signed_ledger_head_whole_or_not_at_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An audit at the hospital charges while the agent signs what it has seen: no two ledgers of one length."""
    node, entries = world.nodes[NORTH], Ledger.entries

    def overtaken(ledger: Ledger) -> tuple[SignedCharge, ...]:
        found = entries(ledger)
        ledger.reserve(ChargeRequest("elsewhere", "an audit of a folder", (PureDP(0.1),), 3e-3, 30))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "entries", overtaken)
        view = verified_view(signed_view(node), NORTH, world.home.roster)
    assert node.ledger.entries()[view.ledger.entries - 1].charge.digest() == view.ledger.head


def manifest_of(candidate: Candidate, **budgets: float) -> ReleaseManifest:
    """A manifest over all images of a candidate that promises each hospital its own epsilon."""
    hospitals = tuple(HospitalBudget(hospital=name, epsilon=spent, delta=3e-3) for name, spent in budgets.items())
    files = candidate.files() | {layout.METADATA: sha256_hex(metadata_csv(candidate, candidate.images))}
    return ReleaseManifest(
        release=candidate.release,
        study=candidate.study,
        task="diagnosis",
        sequence=1,
        created=NOW,
        files=tuple(FileEntry(path=path, sha256=digest, size=1) for path, digest in files.items()),
        counts={"benign": 6, "malignant": 6},
        candidate_digest=candidate.digest(),
        model_digest=candidate.model_digest,
        plan_digest=candidate.plan_digest,
        privacy=PrivacyStatement(epsilon=max(budgets.values()), delta=3e-3, hospitals=hospitals),
        licence="CC0-1.0",
        duo=(),
    )


def test_a_hospital_signs_a_promise_about_every_hospital_of_its_study_and_never_less_overall(
    world: World, tmp_path: Path
) -> None:
    node = world.nodes[NORTH]
    consortium = Consortium(tmp_path, plan=make_plan().model_copy(update={"cohorts": {"north": 30, "south": 30}}))
    consortium.keys = {NORTH: node.key}
    candidate = consortium.candidate()
    digest, state = candidate.digest(), node.home.state
    for path, data in (
        (node.home.statement_path(digest), consortium.attest(NORTH, candidate, spent_delta=3e-3).to_bytes()),
        (state.candidate_path(digest), candidate.canonical()),
        (state.audited_plan_path(digest), consortium.plan.canonical()),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    good = manifest_of(candidate, north=7.0, south=9.0)
    less = good.privacy.model_copy(update={"epsilon": 0.1})
    with pytest.raises(RefusedError, match="not about the hospitals of its study"):
        sign_manifest(node, manifest_of(candidate, north=7.0).canonical(), ())
    for wrong in (good.model_copy(update={"privacy": less}), manifest_of(candidate, north=6.0, south=9.0)):
        with pytest.raises(RefusedError, match="more privacy than they have"):
            sign_manifest(node, wrong.canonical(), ())
    assert sign_manifest(node, good.canonical(), ()).verify(node.key.public, MANIFEST_PAYLOAD_TYPE) == good.canonical()


def test_nothing_is_signed_under_a_roster_that_has_expired(world: World, hostile: Hostile) -> None:
    """Head and manifest name days of the server's choice."""
    root = SigningKey.load(world.home.root_key_path)
    changes = {"version": world.home.roster.version + 1, "expires": NOW - timedelta(days=9000)}
    expired = world.home.roster.model_copy(update=changes).canonical()
    witness.enrol(world.nodes[NORTH].home.state_path, Envelope.sign(ROSTER_PAYLOAD_TYPE, expired, root), root.public)
    refusal = reply_of(hostile.agent.answer(hostile.sign(plan(world, "s"), b"{}"))).refusal
    assert refusal is not None
    assert "has expired" in refusal.message
