"""A study in bfloat16, on the processor: hospitals train in it under a charge, and audit in float32."""

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.deploy.in_process import HOSPITALS, World, build, pipeline

from sonoshare_client.agent.attack import ModelAttack
from sonoshare_client.agent.draws import loss_of
from sonoshare_privacy.patient_gradients.per_patient import Loss
from sonoshare_server.federation import rounds
from sonoshare_server.federation.statements import collect_statements
from sonoshare_server.release.pipeline import facts_for
from sonoshare_shared.errors import FederationError
from sonoshare_shared.protocol.release.verify import verify_release
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.precision import BFLOAT16


@pytest.fixture
def world(archives: dict[str, Path], tmp_path: Path) -> World:
    return build(tmp_path / "world", archives, rounds=1, local_steps=1, precision=BFLOAT16)


def computed(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, seen: set[bool]) -> None:
    """Note whether what a function returns, or does, is computed under autocast."""
    function: Callable[..., Any] = getattr(owner, name)

    def noted(*arguments: Any) -> Any:
        seen.add(torch.is_autocast_enabled("cpu"))
        return function(*arguments)

    monkeypatch.setattr(owner, name, noted)


def fails_and_costs_nothing(world: World, act: Callable[[], object]) -> bool:
    """Whether an action is computed on the hospitals' device, is refused where that fails, and is not charged then."""
    nodes = world.nodes.values()
    before = [node.ledger.head() for node in nodes]
    for node in nodes:
        node.device = torch.device("meta")  # knows no numbers
    with contextlib.suppress(FederationError):
        act()
    answers = [[event["kind"] for event in node.events.events() if event["kind"] != "answered"][-1] for node in nodes]
    for node in nodes:
        node.device = CPU
    return answers == ["failed"] * len(answers) and before == [node.ledger.head() for node in nodes]


def test_a_study_in_bfloat16_is_trained_charged_drawn_audited_and_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: set[bool] = set()
    audited: set[bool] = set()

    def noting(model: Any) -> Loss:
        loss = loss_of(model)

        def noted(batch: Any) -> torch.Tensor:
            trained.add(torch.is_autocast_enabled("cpu"))
            return loss(batch)

        return noted

    monkeypatch.setattr("sonoshare_client.agent.private_training.loss_of", noting)
    computed(monkeypatch, ModelAttack, "losses", audited)
    assert json.loads(world.study.plan.canonical())["precision"] == BFLOAT16
    assert fails_and_costs_nothing(world, lambda: rounds.train(world.coordinator()))
    rounds.train(world.coordinator())
    assert trained == {True, False}  # the engine's rules are judged in float32 first
    for node in world.nodes.values():
        assert [s.charge.kind for s in node.ledger.entries()] == ["opened", "reserved", "committed"]
    steps = pipeline(world)
    steps.draw(lambda done, total: None)
    assert fails_and_costs_nothing(world, lambda: collect_statements(world.coordinator(), "r1"))
    said = steps.audit()
    assert audited == {False}
    assert {h: s.predicate.verdict for h, s in said.items()} == dict.fromkeys(HOSPITALS, "PASS")
    bundle = steps.finish(facts_for(world.home, world.study, datetime(2026, 1, 2, tzinfo=UTC)))
    assert verify_release(bundle, world.home.roster_envelope, now=datetime.now(UTC)).manifest.release == "r1"
