"""Masked rounds with real agents: the sum is that of the updates, and the coordinator sees nothing else."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load
from tests.deploy.hostile import reviewed
from tests.deploy.in_process import STUDY, World, kind_of
from tests.deploy.masked_world import (
    MEMBERS,
    NOMINALS,
    ask_for_set,
    changed_ready,
    charges,
    copy_of,
    digest_of,
    events,
    interrupted,
    payload_in,
    payload_of,
    ready_envelopes,
    reply_of,
    revealed_by,
    signed_in,
)

from sonoshare_client.agent.masking import reveal
from sonoshare_client.agent.part_taken import require_rounds
from sonoshare_client.agent.replies import ReplyStore
from sonoshare_client.node.plan_check import check_plan
from sonoshare_privacy.masking.layout import Layout
from sonoshare_privacy.masking.pair_masks import summed, to_bytes
from sonoshare_privacy.schedule import round_optimiser
from sonoshare_server.consortium import terms
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.studies import draft_study
from sonoshare_server.federation import rounds
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.masked_rounds import MaskedRound
from sonoshare_shared.errors import FederationError, InputError, IntegrityError, PolicyError, RefusedError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex
from sonoshare_shared.protocol.closed_rounds import ClosedRound, closed_rounds
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.exchange import Reply, decode_frame, encode_frame
from sonoshare_shared.protocol.documents.masking import (
    MASKED_PAYLOAD_TYPE,
    READY_PAYLOAD_TYPE,
    MaskedReply,
    MaskReady,
    RevealRequest,
)
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import LogIndex, masked_set_entry
from sonoshare_shared.protocol.masked_set import masked_set


@dataclass
class Encoded:
    """What an agent encoded, as its own eyes saw it."""

    update: dict[str, Any]
    losses: tuple[float, ...]
    weight: int


@pytest.fixture(scope="module")
def study(masked_untouched: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[Encoded]]:
    """Two rounds: one of all four hospitals, one without west, which did not answer; and what was encoded."""
    world, seen = copy_of(masked_untouched, tmp_path_factory.mktemp("done") / "world"), list[Encoded]()
    encoded = Layout.encoded

    def spying(self: Layout, tensors: Any, losses: Any, weight: int) -> Any:
        seen.append(Encoded({name: tensor.copy() for name, tensor in tensors.items()}, losses, weight))
        return encoded(self, tensors, losses, weight)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Layout, "encoded", spying)
        rounds.run_round(world.coordinator(), 1)
        world.fleet.lost, world.fleet.lost_at = {"west"}, "train"
        rounds.train(world.coordinator())
    return world, seen


@pytest.fixture
def world(masked_ready: World, tmp_path: Path) -> World:
    return copy_of(masked_ready, tmp_path / "world")


def adapter_after(world: World, number: int) -> dict[str, Any]:
    return load((world.study.rounds_path / f"{number:04d}.safetensors").read_bytes())  # type: ignore[no-any-return]


@pytest.mark.parametrize("number", [1, 2])
def test_a_masked_study_moves_the_model_by_the_weighted_mean_of_its_hospitals_updates(
    study: tuple[World, list[Encoded]], number: int
) -> None:
    world, seen = study
    mine = seen[:4] if number == 1 else seen[4:]
    assert [each.weight for each in mine] == list(NOMINALS.values())[: 4 if number == 1 else 3]
    before, after = adapter_after(world, number - 1), adapter_after(world, number)
    plan = world.study.plan
    layout = Layout.of(before, round_optimiser(plan.learning_rate, plan.rounds, number), plan.local_steps)
    total = sum(each.weight for each in mine)
    moved = False
    for part in layout.parts[:-1]:
        mean = sum(each.weight * each.update[part.name].astype(np.float64) for each in mine) / total
        expected = before[part.name].astype(np.float64) + mean
        bound = part.grid.mean_error * (1 + 1e-6) + 2**-24 * np.abs(expected)
        assert (np.abs(after[part.name] - expected) <= bound).all()
        moved |= bool((np.abs(mean) > 1e3 * part.grid.mean_error).any())
    assert moved
    (said,) = [event for event in events(world, "aggregated") if event["round"] == number]
    losses = sum(each.weight * np.asarray(each.losses) for each in mine) / total
    np.testing.assert_allclose(said["losses"], losses, atol=2**-16)


def test_the_log_says_who_is_in_each_sum(study: tuple[World, list[Encoded]]) -> None:
    world, _ = study
    log = world.home.log()
    closed = closed_rounds(log.index, STUDY)
    assert [closed[number].hospitals for number in (1, 2)] == [MEMBERS, MEMBERS[:3]]
    for number in (1, 2):
        entry = masked_set_entry(STUDY, number, digest_of(ready_envelopes(world, number)))
        assert log.index.find(entry) is not None
    assert [event["hospital"] for event in events(world, "missing")] == ["west"]
    assert [charges(world, hospital) for hospital in MEMBERS] == [2, 2, 2, 1]


def test_what_leaves_a_hospital_is_a_key_and_numbers_under_masks_once(study: tuple[World, list[Encoded]]) -> None:
    world, seen = study
    node, updates = world.nodes["north"], [seen[1], seen[5]]
    stored = {result.envelope.payloadType: result for result in node.replies.results()}
    assert len(list(node.replies.results())) == 4
    assert stored.keys() == {READY_PAYLOAD_TYPE, MASKED_PAYLOAD_TYPE}
    assert stored[READY_PAYLOAD_TYPE].payload == b""
    assert MaskReady.model_fields.keys() == {
        *("hospital", "study", "plan", "round", "adapter_digest", "key", "layout", "ledger_head", "log_size")
    }
    adapter = len(world.study.adapter())
    for result in node.replies.results():
        sent = len(result.payload) + len(result.envelope.to_bytes())
        if result.envelope.payloadType == MASKED_PAYLOAD_TYPE:
            assert sent <= 2.2 * adapter
            for update in updates:  # no run of numbers of the update is there as it was
                assert all(update.update[name].tobytes()[:8] not in result.payload for name in update.update)
    # Nothing of a closed or answered round is left to be asked for.
    assert [list(world.nodes[hospital].home.state.masking_path.glob("*")) for hospital in MEMBERS] == [[]] * 4


def test_the_sum_is_that_of_what_waits_at_the_hospitals_bit_by_bit(world: World) -> None:
    plan, before = world.study.plan, load(world.study.adapter())
    waiting = [world.nodes[hospital].masks.find(STUDY, 1).words for hospital in MEMBERS]
    layout = Layout.of(before, round_optimiser(plan.learning_rate, plan.rounds, 1), plan.local_steps)
    mean = layout.decoded(summed(waiting), sum(NOMINALS.values()))
    rounds.run_round(world.coordinator(), 1)
    after = load(world.study.adapter())
    for name, tensor in before.items():
        expected = (tensor.astype(np.float64) + mean.tensors[name].reshape(tensor.shape)).astype(np.float32)
        assert np.array_equal(after[name], expected)
    # The set that was stored before the restart was asked, and nobody trained again.
    assert world.fleet.kinds().count("train") == 0
    assert world.fleet.kinds().count("reveal") >= 4


def test_case_38_a_hospital_lost_after_it_was_ready_makes_the_round_void_and_the_study_goes_on(world: World) -> None:
    before = world.study.adapter()
    world.fleet.lost, world.fleet.lost_at = {"south"}, "reveal"
    rounds.run_round(world.coordinator(), 1)
    assert world.study.state.rounds_done == 1
    assert world.study.adapter() == before
    (void,) = events(world, "void")
    assert "south" in void["reason"]
    assert closed_rounds(world.home.log().index, STUDY)[1].hospitals == ()
    assert [charges(world, hospital) for hospital in MEMBERS] == [1] * 4
    world.fleet.lost = set()
    rounds.run_round(world.coordinator(), 2)
    assert world.study.adapter() != before
    assert closed_rounds(world.home.log().index, STUDY)[2].hospitals == MEMBERS
    # What south kept for the void round is gone: nobody can ask for it any more.
    assert world.nodes["south"].masks.find(STUDY, 1) is None


def test_case_39_a_coordinator_killed_while_it_collects_asks_the_same_set_and_gets_the_same_numbers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MaskedRound, "verified_masked", lambda *_args: interrupted())
        with pytest.raises(KeyboardInterrupt):
            rounds.run_round(world.coordinator(), 1)
    first = {hospital: revealed_by(world, hospital) for hospital in MEMBERS if revealed_by(world, hospital)}
    assert first
    for hospital in MEMBERS:
        world.reopen(hospital)
    rounds.run_round(world.coordinator(), 1)
    assert events(world, "void") == []
    assert {hospital: revealed_by(world, hospital) for hospital in first} == first
    assert [charges(world, hospital) for hospital in MEMBERS] == [1] * 4


def test_a_set_that_was_logged_and_lost_makes_the_round_void(world: World) -> None:
    coordinator = world.coordinator()
    coordinator.logged(masked_set_entry(STUDY, 1, digest_of(ready_envelopes(world))))
    world.study.masked_set_path(1).unlink()
    rounds.run_round(coordinator, 1)
    assert "not in the study's folder" in events(world, "void")[0]["reason"]
    assert world.fleet.kinds().count("reveal") == 0


def test_case_40_a_hospital_killed_while_it_reveals_gives_the_same_numbers_and_then_forgets(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, plan = world.nodes["north"], world.study.plan
    members = masked_set(ready_envelopes(world), world.home.roster, plan, 1, world.home.log().index)
    expected = reveal(node, plan, 1, members)
    for place in ("store", "forget"):
        with monkeypatch.context() as patch:
            owner = ReplyStore if place == "store" else type(node.masks)
            patch.setattr(owner, place, interrupted)
            with pytest.raises(KeyboardInterrupt):
                ask_for_set(world, "north", ready_envelopes(world))
        node = world.reopen("north")
        assert node.masks.find(STUDY, 1) is not None
    answer = ask_for_set(world, "north", ready_envelopes(world))
    assert payload_of(answer) == expected[1]
    assert signed_in(reply_of(answer)) == payload_in(expected[0])
    assert node.masks.find(STUDY, 1) is None
    with pytest.raises(RefusedError, match="no update of round 1 waits"):
        reveal(node, plan, 1, members)


Change = Callable[[World, str, Any, bytes], tuple[Any, bytes]]


@dataclass
class Lying:
    """A fleet in which one hospital changes what it says, and signs it."""

    world: World
    liar: str
    kind: str
    change: Change

    def ask(self, requests: Any, deadline_seconds: Any) -> Iterator[dict[Any, Any]]:
        for answers in self.world.fleet.ask(requests, deadline_seconds):
            if self.liar in answers and kind_of(requests[self.liar]) == self.kind:
                header, payload = decode_frame(answers[self.liar])
                reply = Reply.from_bytes(header)
                if reply.envelope is not None:
                    envelope, payload = self.change(self.world, self.liar, reply.envelope, payload)
                    key = self.world.nodes[self.liar].key
                    said = reply.model_copy(update={"envelope": envelope})
                    said = reviewed(said, key, result=sha256_hex(payload_in(envelope)))
                    answers[self.liar] = encode_frame(said, payload)
            yield answers


def with_fleet(world: World, fleet: Any) -> Coordinator:
    return Coordinator(world.home, world.study, fleet, world.home.log())


def key_of(world: World, hospital: str) -> str:
    return MaskReady.from_bytes(payload_in(ready_envelopes(world)[MEMBERS.index(hospital)])).key


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w, h, e, p: (changed_ready(w, e, key="0" * 64), p), "no key"),
        (lambda w, h, e, p: (changed_ready(w, e, layout="0" * 64), p), "other numbers"),
        (lambda w, h, e, p: (changed_ready(w, e, round=2), p), "another round or study"),
        (lambda w, h, e, p: (e, b"an update, early"), "before it was asked"),
    ],
    ids=["small order", "layout", "round", "payload"],
)
def test_a_hospital_whose_key_cannot_be_used_is_left_out_and_the_others_go_on(
    world: World, change: Change, reason: str
) -> None:
    world.study.masked_set_path(1).unlink()  # the hospitals are asked again who is ready, and say it as before
    rounds.run_round(with_fleet(world, Lying(world, "west", "train", change)), 1)
    (refused,) = events(world, "refused")
    assert refused["hospital"] == "west"
    assert reason in refused["reason"]
    assert closed_rounds(world.home.log().index, STUDY)[1].hospitals == MEMBERS[:3]


def test_two_hospitals_with_one_key_are_both_left_out(world: World) -> None:
    stolen = key_of(world, "south")
    world.study.masked_set_path(1).unlink()
    lying = Lying(world, "west", "train", lambda w, h, e, p: (changed_ready(w, e, key=stolen), p))
    with pytest.raises(FederationError, match="2 of 3 hospitals with a key of their own"):
        rounds.run_round(with_fleet(world, lying), 1)
    assert world.fleet.kinds().count("reveal") == 0


def garbled(world: World, hospital: str, envelope: Envelope, payload: bytes) -> tuple[Envelope, bytes]:
    numbers = np.random.default_rng(3).bytes(len(payload))
    return signed_again(world, hospital, envelope, numbers), numbers


def cut(world: World, hospital: str, envelope: Envelope, payload: bytes) -> tuple[Envelope, bytes]:
    return signed_again(world, hospital, envelope, payload[:-8]), payload[:-8]


def unsigned_numbers(world: World, hospital: str, envelope: Envelope, payload: bytes) -> tuple[Envelope, bytes]:
    return envelope, bytes(len(payload))


def signed_again(world: World, hospital: str, envelope: Envelope, numbers: bytes) -> Envelope:
    said = MaskedReply.from_bytes(payload_in(envelope)).model_copy(update={"masked_digest": sha256_hex(numbers)})
    return Envelope.sign(MASKED_PAYLOAD_TYPE, said.canonical(), world.nodes[hospital].key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(garbled, "what no training makes"), (cut, "masked numbers"), (unsigned_numbers, "another set")],
)
def test_case_32_numbers_that_cannot_be_make_the_round_void_and_move_nothing(
    world: World, change: Change, reason: str
) -> None:
    before = world.study.adapter()
    rounds.run_round(with_fleet(world, Lying(world, "west", "reveal", change)), 1)
    (void,) = events(world, "void")
    assert reason in void["reason"]
    assert world.study.adapter() == before
    assert world.study.state.rounds_done == 1


def test_a_hospital_says_in_its_policy_whether_it_takes_part_in_masked_sums(masked_untouched: World) -> None:
    plan = masked_untouched.study.plan
    open_plan = StudyPlan.model_validate({**plan.model_dump(by_alias=True), "masked": None})
    node = masked_untouched.nodes["north"]

    def ruled(masking: str) -> Any:
        rules = node.home.policy()
        return rules.model_copy(update={"federation": rules.federation.model_copy(update={"masking": masking})})

    for rule, allowed in (("any", (plan, open_plan)), ("required", (plan,)), ("refused", (open_plan,))):
        for asked in (plan, open_plan):
            if asked in allowed:
                check_plan(asked, ruled(rule), "north")
            else:
                with pytest.raises(PolicyError, match="mask"):
                    check_plan(asked, ruled(rule), "north")
    assert b"masked" not in open_plan.canonical()
    with pytest.raises(ValueError, match="a quorum of three"):
        StudyPlan.model_validate({**plan.model_dump(by_alias=True), "quorum": 2})


def test_a_masked_study_needs_three_hospitals_before_anything_is_worked_out() -> None:
    audit = audit_policy(16.0, 0.6, 0.97, 0.001)

    def planned(hospitals: tuple[str, ...], **more: Any) -> Any:
        budget: Any = {"epsilon": 30.0, "delta": 3e-3, "rounds": 1, "local_steps": 1, "images": 8, "profile": "tiny"}
        return terms.StudyTerms(
            study="s", task=terms.DIAGNOSIS, cohorts=dict.fromkeys(hospitals, 30), audit=audit, **budget, **more
        )

    assert planned(MEMBERS, masked=True).masked
    assert not planned(MEMBERS).masked
    with pytest.raises(InputError, match="a quorum of three"):
        draft_study(planned(MEMBERS[:2], masked=True))


def test_a_plan_that_is_not_masked_has_nothing_to_reveal(masked_ready: World, tmp_path: Path) -> None:
    world = copy_of(masked_ready, tmp_path / "open")
    plan = world.study.plan.model_copy(update={"masked": None, "study": "open"})
    study = world.home.create_study(plan, world.study.adapter(), world.study.state.adapter_digest)
    shutil.copy(world.study.masked_set_path(1), study.masked_set_path(1))
    coordinator = Coordinator(world.home, study, world.fleet, world.home.log())
    request = RevealRequest(
        plan=study.plan_envelope, round=1, ready=tuple(ready_envelopes(world)), shown=coordinator.shown("north")
    )
    refusal = reply_of(world.fleet.agents["north"].answer(encode_frame(request))).refusal
    assert refusal.error == "PolicyError"


def test_what_waits_is_gone_when_the_last_round_is_closed_without_this_hospital(world: World) -> None:
    """No model follows the last round: its end is in the entry that closes it."""
    node, log = world.nodes["north"], LogIndex()
    number = world.study.plan.rounds
    node.masks.keep(STUDY, number, node.masks.find(STUDY, 1))
    log.add(canonical_bytes(ClosedRound(study=STUDY, round=number - 1, hospitals=(), adapter="a" * 64).entry))
    node.masks.forget_closed(log)
    assert node.masks.find(STUDY, number) is not None
    log.add(canonical_bytes(ClosedRound(study=STUDY, round=number, hospitals=("west",), adapter="a" * 64).entry))
    node.masks.forget_closed(log)
    assert node.masks.find(STUDY, number) is None


def test_who_was_ready_and_gave_no_numbers_is_not_named_as_having_taken_part(world: World) -> None:
    node, plan, digest = world.nodes["north"], world.study.plan, "a" * 64
    closed = ClosedRound(study=STUDY, round=1, hospitals=("north", "south", "west"), adapter=digest)
    node.log.index.add(canonical_bytes(closed.entry))
    with pytest.raises(RefusedError, match="took part in round 1 of study, and it did not"):
        require_rounds(node, plan, 2, digest)


def test_what_waits_is_sealed_under_the_vaults_key_and_for_its_round(world: World) -> None:
    node = world.nodes["north"]
    (path,) = node.home.state.masking_path.glob("*.waiting")
    waiting, data = node.masks.find(STUDY, 1), path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert waiting.key.secret not in data
    assert to_bytes(waiting.words[:2]) not in data
    other = path.with_name(node.masks._path(STUDY, 2).name)  # moved to where another round would look
    shutil.copy(path, other)
    with pytest.raises(IntegrityError, match="does not open"):
        node.masks.find(STUDY, 2)
    other.unlink()
    path.write_bytes(data[:-1])
    with pytest.raises(IntegrityError, match="does not open"):
        node.masks.find(STUDY, 1)
    path.write_bytes(b"{}\n")
    with pytest.raises(IntegrityError, match="waits to be masked is damaged"):
        node.masks.forget_closed(node.log.index)
    path.write_bytes(data)
    node.home.vault_key_path.unlink()
    with pytest.raises(InputError, match="vault key"):
        node.masks.find(STUDY, 1)
