"""Pooled noise over masked rounds, agents and coordinator in one process: what leaves, and who is held to what."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.deploy.in_process import World
from tests.deploy.masked_world import MEMBERS, build_masked, charges, copy_of

import sonoshare_privacy.step_release as release_module
from sonoshare_client.agent.auditing import mechanism_of
from sonoshare_client.agent.pooled_view import Seen
from sonoshare_client.node.policy_file import policy_text
from sonoshare_privacy.mechanisms.gaussian import add_gaussian_integers
from sonoshare_privacy.pooled_state_file import state_from
from sonoshare_server.federation import masked_rounds, pooled_rounds
from sonoshare_server.federation.aggregate import read_tensors
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.rounds import run_round, train
from sonoshare_shared.errors import FederationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.closed_rounds import closed_rounds
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.charge import PooledGaussian

HONEST, ROUNDS = 3, 3


def pooled(world: World, folder: Path, *, colluding: int = 1, permit: bool = True, rounds: int = ROUNDS) -> World:
    """The same consortium with a study of pooled noise, and hospitals that permit it."""
    copied = copy_of(world, folder)
    plan = copied.study.plan
    adapter = copied.study.adapter()
    digest = copied.study.state.adapter_digest
    changes = {
        "noise": "pooled",
        "honest": HONEST,
        "local_steps": 1,
        "rounds": rounds,
        "study": "pooled-study",
        "canaries": 400,
    }
    changed = StudyPlan.model_validate(plan.model_dump(by_alias=True) | changes)
    copied.home.create_study(changed, adapter, digest)
    for hospital in MEMBERS:
        home = copied.nodes[hospital].home
        rules = home.policy()
        noise = ("own", "pooled") if permit else ("own",)
        training = rules.training.model_copy(update={"noise": noise, "maximum_colluding": colluding})
        home.policy_path.write_text(policy_text(rules.model_copy(update={"training": training})))
    return copied


def coordinator_of(world: World) -> Coordinator:
    return Coordinator(world.home, world.home.study("pooled-study"), world.fleet, world.home.log())


@pytest.fixture(scope="module")
def masked_folder(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_masked(tmp_path_factory.mktemp("masked") / "world")


@pytest.fixture(scope="module")
def trained(masked_folder: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = pooled(masked_folder, tmp_path_factory.mktemp("pooled") / "world")
    train(coordinator_of(world))
    return world


def test_the_study_trains_by_sums_alone_and_each_hospital_is_charged_for_each_round(trained: World) -> None:
    study = trained.home.study("pooled-study")
    assert study.state.rounds_done == ROUNDS
    aggregated = [event for event in study.events() if event["kind"] == "aggregated"]
    assert [event["hospitals"] for event in aggregated] == [list(MEMBERS)] * ROUNDS
    plan = study.plan
    for hospital in MEMBERS:
        entries = trained.nodes[hospital].ledger.entries()
        spent = [event for signed in entries for event in signed.charge.events]
        mechanism = plan.mechanism
        assert spent == [PooledGaussian(mechanism.rate, mechanism.noise_multiplier, 1, HONEST)] * ROUNDS


def test_hospitals_were_shown_the_sums_and_took_every_step_again(trained: World) -> None:
    for hospital in MEMBERS:
        seen = trained.nodes[hospital].sums(trained.home.study("pooled-study").plan).read()
        assert isinstance(seen, Seen)
        assert seen.number == ROUNDS
        assert seen.state is not None
        assert seen.state.step == ROUNDS - 1
        assert seen.counted.check().enough
        assert not any(event["kind"] == "step not checked" for event in trained.nodes[hospital].events.events())


def test_nothing_of_a_share_leaves_but_masked_numbers(trained: World) -> None:
    """Every frame that a hospital answered with holds a signed key, or words that look random."""
    study = trained.home.study("pooled-study")
    for number in range(1, ROUNDS + 1):
        closed = closed_rounds(trained.home.log().index, "pooled-study")[number]
        assert closed.sum is not None
    for kind in ("ready", "revealed", "update"):
        for event in study.events():
            if event["kind"] == kind:
                assert "losses" not in event
    for event in study.events():
        if event["kind"] == "aggregated":
            assert len(event["losses"]) == 1


def test_the_studys_model_is_the_average_and_state_is_the_sums(trained: World) -> None:
    study = trained.home.study("pooled-study")
    state = state_from(study.pooled_state_path(ROUNDS).read_bytes())
    final = read_tensors(study.adapter())
    for name, tensor in state.averaged().items():
        assert np.array_equal(final[name], tensor)
    assert state.step == ROUNDS


def test_a_statement_is_judged_by_the_sums(trained: World) -> None:
    plan = trained.home.study("pooled-study").plan
    check = mechanism_of(trained.nodes["north"], plan)
    assert check.figures.sum_numbers is not None
    assert check.figures.sum_numbers > 0
    assert check.finding is not None
    assert check.finding.verdict == "PASS"
    assert any("honest hospitals" in reason for reason in check.finding.reasons)


def test_each_hospitals_canaries_look_at_the_sums_and_at_its_own_shares(trained: World) -> None:
    plan = trained.home.study("pooled-study").plan
    node = trained.nodes["south"]
    assert len(node.canaries(plan).records()) == ROUNDS - 1
    own = node.share_canaries(plan).records()
    assert len(own) == ROUNDS
    looked = [event["verdict"] for event in node.events.events() if event["kind"] == "own shares looked at"]
    assert looked[-1] == "PASS"
    share = float(np.std(own[-1].scores[:, ~own[-1].coins]))
    assert share == pytest.approx(plan.mechanism.noise_multiplier / math.sqrt(HONEST), rel=0.25)


def test_a_hospital_whose_policy_does_not_permit_it_is_not_charged(masked_folder: World, tmp_path: Path) -> None:
    world = pooled(masked_folder, tmp_path / "world", permit=False)
    with pytest.raises(Exception, match="of 3"):
        train(coordinator_of(world))
    assert all(charges(world, hospital) == 0 for hospital in MEMBERS)
    refused = [event for event in world.home.study("pooled-study").events() if event["kind"] == "refused"]
    assert all("'pooled'" in event["reason"] for event in refused)


def test_fewer_hospitals_in_a_set_than_a_hospital_asks_for_get_no_numbers(masked_folder: World, tmp_path: Path) -> None:
    """Four hospitals, three honest: with one away the sum withstands nobody, and who allows for one refuses."""
    world = pooled(masked_folder, tmp_path / "world", colluding=1, rounds=1)
    world.fleet.lost = {"west"}
    train(coordinator_of(world))
    study = world.home.study("pooled-study")
    void = [event for event in study.events() if event["kind"] == "void"]
    assert len(void) == 1
    assert "rests on 3 honest" in void[0]["reason"]
    assert closed_rounds(world.home.log().index, "pooled-study")[1].sum is None
    start = read_tensors(study.adapter())
    assert all(np.isfinite(tensor).all() for tensor in start.values())


def test_a_hospital_that_adds_no_noise_is_noticed_by_all_in_the_sums(
    masked_folder: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four add, three are needed: two that add none leave too little."""
    world = pooled(masked_folder, tmp_path / "world", rounds=2)
    honest = add_gaussian_integers
    calls = []

    def some(total: Any, deviation: float) -> None:
        calls.append(1)
        if len(calls) % len(MEMBERS) < 2:
            honest(total, deviation)

    monkeypatch.setattr(release_module, "add_gaussian_integers", some)
    train(coordinator_of(world))
    check = mechanism_of(world.nodes["north"], world.home.study("pooled-study").plan)
    assert check.finding is not None
    assert check.finding.verdict == "FAIL"
    assert check.figures.sum_noise is not None
    assert check.figures.sum_noise == pytest.approx(math.sqrt(2 / 3), abs=0.05)


@pytest.fixture(scope="module")
def after_one(masked_folder: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """One round of two is done."""
    world = pooled(masked_folder, tmp_path_factory.mktemp("one") / "world", rounds=2)
    run_round(coordinator_of(world), 1)
    return world


def test_a_coordinator_that_took_another_step_is_refused_before_a_charge(after_one: World, tmp_path: Path) -> None:
    world = copy_of(after_one, tmp_path / "world")
    study = world.home.study("pooled-study")
    tensors = {name: tensor.copy() for name, tensor in read_tensors(study.adapter()).items()}
    first = next(iter(tensors.values())).reshape(-1)
    first[0] = np.nextafter(first[0], np.float32(9))
    wrong = pooled_rounds._adapter(tensors)
    study.keep_adapter(1, wrong)
    study.advance(1, sha256_hex(wrong))
    _require_refused(world, "closed round 1 of pooled-study with another model")


def test_a_step_that_does_not_follow_from_the_logged_sum_is_refused_before_a_charge(
    masked_folder: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log agrees with the coordinator: it is the step itself that is wrong."""
    world = pooled(masked_folder, tmp_path / "world", rounds=2)
    right = pooled_rounds.PooledReader._model

    def wrong(reader: Any, state: Any) -> bytes:
        tensors = {name: tensor.copy() for name, tensor in state.tensors().items()}
        next(iter(tensors.values())).reshape(-1)[0] += 1e-6
        return pooled_rounds._adapter(tensors) if reader.start.number == 1 else right(reader, state)

    monkeypatch.setattr(pooled_rounds.PooledReader, "_model", wrong)
    run_round(coordinator_of(world), 1)
    _require_refused(world, "not what the plan's step makes")


def test_a_sum_that_the_log_does_not_name_is_refused_before_a_charge(
    after_one: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = copy_of(after_one, tmp_path / "world")
    monkeypatch.setattr(pooled_rounds.PooledReader, "shown", lambda reader: bytes(8 * reader.words))
    _require_refused(world, "not the one in the log")


def test_a_coordinator_that_does_not_log_what_a_round_ended_with_is_refused_before_a_charge(
    masked_folder: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the entry no sum and no step could be held against anything: any model would do."""
    world = pooled(masked_folder, tmp_path / "world", rounds=2)

    def unlogged(coordinator: Coordinator, number: int, adapter: bytes, *_names: Any, **_more: Any) -> None:
        tensors = {name: tensor + np.float32(1e-3) for name, tensor in read_tensors(adapter).items()}
        coordinator.study.keep_adapter(number, wrong := pooled_rounds._adapter(tensors))
        coordinator.study.advance(number, sha256_hex(wrong))

    monkeypatch.setattr(masked_rounds, "close_round", unlogged)
    monkeypatch.setattr(pooled_rounds.PooledReader, "shown", lambda reader: b"")
    run_round(coordinator_of(world), 1)
    _require_refused(world, "does not say what round 1 of pooled-study ended with")


def _require_refused(world: World, reason: str) -> None:
    """Nobody trains the second round, everybody says why, and nobody is charged for it."""
    with pytest.raises(FederationError, match="0 of 3"):
        run_round(coordinator_of(world), 2)
    refused = [event for event in world.home.study("pooled-study").events() if event["kind"] == "refused"]
    assert len(refused) == len(MEMBERS)
    assert all(reason in event["reason"] for event in refused)
    assert all(charges(world, hospital) == 1 for hospital in MEMBERS)


def test_a_coordinator_killed_between_sum_and_log_takes_the_same_step_again(
    masked_folder: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = pooled(masked_folder, tmp_path / "world", rounds=2)
    with monkeypatch.context() as patch:
        patch.setattr(masked_rounds, "close_round", _killed)
        with pytest.raises(KeyboardInterrupt):
            run_round(coordinator_of(world), 1)
    study = world.home.study("pooled-study")
    held = study.sum_path(1).read_bytes(), study.pooled_state_path(1).read_bytes()
    assert study.state.rounds_done == 0
    again = copy_of(world, tmp_path / "again")
    run_round(coordinator_of(again), 1)
    study = again.home.study("pooled-study")
    assert study.state.rounds_done == 1
    assert (study.sum_path(1).read_bytes(), study.pooled_state_path(1).read_bytes()) == held
    assert all(charges(again, hospital) == 1 for hospital in MEMBERS), "the same words, not trained again"


def _killed(*_args: Any, **_more: Any) -> None:
    raise KeyboardInterrupt
