"""CASE 50 through whole federated rounds: the hospitals' canaries pass a sound training and catch every fault."""

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.deploy.in_process import HOSPITALS, World, build, copied, pipeline
from tests.privacy.mechanism_faults import FAULTS

from sonoshare_client.agent.auditing import mechanism_of
from sonoshare_server.federation import rounds
from sonoshare_shared.errors import IntegrityError

CANARIES = 120


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, archives: dict[str, Path]) -> World:
    return build(tmp_path_factory.mktemp("canaries"), archives, rounds=2, local_steps=6, canaries=CANARIES)


def first_round(world: World) -> None:
    coordinator = world.coordinator()
    rounds.run_round(coordinator, 1)


def checks(world: World) -> list[Any]:
    return [mechanism_of(node, world.study.plan) for node in world.nodes.values()]


@pytest.mark.parametrize("fault", FAULTS)
def test_case_50_every_fault_is_caught_by_every_hospital(
    pristine: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    world = copied(pristine, tmp_path / "world")
    module, name, make = FAULTS[fault]
    monkeypatch.setattr(module, name, make())
    first_round(world)
    for check in checks(world):
        assert check.finding.verdict == "FAIL", check.words


def test_case_50_a_sound_study_passes_over_rounds_and_restarts_and_a_faulty_one_is_not_released(
    pristine: World, tmp_path: Path
) -> None:
    world = copied(pristine, tmp_path / "world")
    first_round(world)
    kept = world.nodes["north"].canaries(world.study.plan).secret()
    world.reopen("north")
    rounds.train(world.coordinator())
    store = world.nodes["north"].canaries(world.study.plan)
    assert store.secret() == kept
    assert len(store.records()) == 2
    for check in checks(world):
        assert check.finding.verdict == "PASS", check.words
        assert check.figures.steps == check.figures.steps_charged == 12

    # South's training ran without noise: its record as that would have left it.
    south = world.nodes["south"].canaries(world.study.plan)
    for number, record in enumerate(south.records(), 1):
        south.keep(number, type(record)(0 * record.scores, 0 * record.energy, record.coins, record.mechanism))
    steps = pipeline(world)
    steps.draw(lambda done, total: None)
    said = steps.audit()
    assert said["north"].predicate.verdict == "PASS", said["north"].predicate.reasons
    assert said["north"].predicate.verdict_weights == "PASS"
    assert said["north"].predicate.figures.verdicts.by_attack["mechanism"] == "PASS"
    assert (said["south"].predicate.verdict, said["south"].predicate.verdict_weights) == ("FAIL", "FAIL")
    assert any("not the one that was charged" in reason for reason in said["south"].predicate.reasons)


def test_records_are_secret_durable_and_never_leave(pristine: World, tmp_path: Path) -> None:
    world = copied(pristine, tmp_path / "world")
    first_round(world)
    for hospital in HOSPITALS:
        store = world.nodes[hospital].canaries(world.study.plan)
        files = list((world.nodes[hospital].home.state_path / "canaries").rglob("*.*"))
        assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
        secret, record = store.secret(), store.records()[0]
        assert record.scores.shape == (6, CANARIES)
        sent = b"".join(file.read_bytes() for file in world.home.path.rglob("*") if file.is_file())
        assert secret not in sent
        assert np.packbits(record.coins).tobytes() not in sent
    next(iter(files)).write_bytes(b"half")
    with pytest.raises(IntegrityError, match="damaged"):
        store.records()
