"""Nothing about a patient leaves before a charge: not by an answer, its size, its text, its absence or its time.

The same frames go to one hospital with vaults that differ by patients of every kind, and with a vault that is gone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from tests.deploy.hostile import Hostile, reply_of, said
from tests.deploy.in_process import World, copied
from tests.deploy.neighbours import below_the_hospitals_own_minimum, gone, one_of_every_kind, unchanged
from tests.small_ballot import small_ballot

from sonoshare_client.agent import node as agent_node
from sonoshare_client.agent.service import WITHHELD, Agent
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.charge import PureDP
from sonoshare_shared.protocol.documents.plan import CalibrationPlan

NORTH = "north"


NEIGHBOURS = [one_of_every_kind, below_the_hospitals_own_minimum, gone]


# Requests that are answered before any charge; each takes a study of its own, so that all can be asked in a row.


@dataclass(frozen=True)
class Free:
    """Makes one frame, and says how its answer begins."""

    frame: Callable[[Hostile], bytes]
    error: str


def study(hostile: Any, name: str, **changes: Any) -> Any:
    return hostile.world.study.plan.model_copy(update={"study": name, **changes})


def voting(hostile: Any, name: str) -> Any:
    terms = CalibrationPlan(epsilon=1.0, ballot=small_ballot().digest(), sharpness=0.0)
    return study(hostile, name, calibration=terms)


def adapter(hostile: Any, change: Callable[..., Any] = lambda tensor: tensor) -> Any:
    tensors = load(hostile.world.study.adapter())
    return save({name: change(tensor).astype(np.float32) for name, tensor in tensors.items()})


FREE = {
    "no request": Free(lambda h: b"\0\0\0\2{}", "IntegrityError"),
    "a manifest that is none": Free(lambda h: h.sign(study(h, "f0"), b"{}"), "IntegrityError"),
    "adapter of another shape": Free(lambda h: h.train(study(h, "f1"), save({"a": np.zeros(3)})), "ModelError"),
    "adapter that overflows": Free(lambda h: h.train(study(h, "f2"), adapter(h, lambda t: 0 * t + 3e38)), "ModelError"),
    "base that is not here": Free(lambda h: h.train(study(h, "f4", base_digest="0" * 64), adapter(h)), "ModelError"),
    "a round too many": Free(lambda h: h.train(study(h, "f5"), adapter(h), 99), "PolicyError"),
    "no calibration": Free(lambda h: h.calibrate(study(h, "f6"), b""), "PolicyError"),
    "another ballot": Free(lambda h: h.calibrate(voting(h, "f7"), b"another"), "IntegrityError"),
    "candidate cut short": Free(lambda h: h.audit(study(h, "f8"), b"\0\0", "0" * 64), "NotHeldError"),
    "candidate that is not held": Free(lambda h: h.ask_audit(study(h, "f9"), "1" * 64), "NotHeldError"),
    "another listing": Free(lambda h: h.hold(study(h, "f10"), b"\0\0\0\x01x", "2" * 64), "IntegrityError"),
    "a batch too large": Free(lambda h: h.hold(study(h, "f11"), bytes((16 << 20) + 1), "3" * 64), "IntegrityError"),
    "budget spent": Free(lambda h: h.train(study(h, "spent"), adapter(h)), "BudgetError"),
}


class Recorded:
    """An agent whose answers are kept with the frames that it was asked, introductions among them."""

    def __init__(self, agent: Agent) -> None:
        self.agent, self.pairs = agent, []  # type: ignore[var-annotated]

    def answer(self, frame: Any) -> Any:
        self.pairs.append((frame, self.agent.answer(frame)))
        return self.pairs[-1][1]


@dataclass(frozen=True)
class Asked:
    """Where it began, what was asked and answered in order, and how each request of the table was answered."""

    start: World
    challenge: str
    pairs: list[Any]
    answers: dict[str, Any]


@pytest.fixture(scope="module")
def asked(pristine: World, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """What a hospital with its ordinary vault answers; its ledger has charges of another study."""
    world = copied(pristine, tmp_path_factory.mktemp("asked") / "world")
    node = world.nodes[NORTH]
    node.ledger.reserve(ChargeRequest("spent", "something earlier", (PureDP(39.9),), 3e-3, 30))
    start = copied(world, tmp_path_factory.mktemp("asked") / "start")
    recorded = world.fleet.agents[NORTH] = Recorded(world.fleet.agents[NORTH])  # type: ignore[assignment]
    hostile = Hostile(world, NORTH)
    answers = {name: hostile.agent.answer(free.frame(hostile)) for name, free in FREE.items()}
    assert len(node.ledger.entries()) == 2
    return Asked(start, node.challenge, recorded.pairs, answers)


def test_every_free_request_is_answered_as_its_public_check_says(asked: Asked) -> None:
    for name, answer in asked.answers.items():
        assert reply_of(answer).refusal.error == FREE[name].error, (name, reply_of(answer))


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_before_a_charge_every_answer_is_the_same_byte_for_byte_whoever_is_in_the_vault(
    asked: Asked, tmp_path: Path, neighbour: Callable[..., Any]
) -> None:
    world = copied(asked.start, tmp_path / "world")
    world.nodes[NORTH].challenge = asked.challenge  # drawn anew by each process
    neighbour(world.nodes[NORTH].home)
    for frame, answer in asked.pairs:
        assert world.fleet.agents[NORTH].answer(frame) == answer, frame[:80]
    assert len(asked.pairs) > 2 * len(FREE)
    assert len(world.nodes[NORTH].ledger.entries()) == 2


# Requests that are charged: each answer has the same form and size whoever is in the vault.


def strange(hostile: Any, name: str) -> Any:
    """A study of a class that no patient of the hospital should have."""
    task = hostile.world.study.plan.task
    other = task.model_copy(update={"classes": ("benign", "cyst"), "phantoms": {}})
    return study(hostile, name, local_steps=1, task=other)


CHARGED = {
    "train": lambda h, folder: h.train(study(h, "c1", local_steps=1), adapter(h)),
    "train for a class that nobody should have": lambda h, folder: h.train(strange(h, "c2"), adapter(h)),
    "calibrate": lambda h, folder: h.calibrate(voting(h, "c3"), small_ballot().to_bytes()),
    "audit": lambda h, folder: h.audit(study(h, "c4"), *h.candidate(study(h, "c4"), folder, adapter(h))),
}


def form(value: Any, key: Any = "") -> dict[Any, Any] | str | list[Any] | int:
    """What a reply looks like but for its noisy numbers and the words that are made of them."""
    if isinstance(value, dict):
        return {name: form(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return "words" if "reasons" in key else [form(one, key) for one in value]
    if isinstance(value, str):
        return "verdict" if value in {"PASS", "FAIL", "INCONCLUSIVE"} else len(value)
    return "number"


@pytest.mark.parametrize("kind", CHARGED)
def test_after_a_charge_every_answer_has_the_same_size(pristine: World, tmp_path: Path, kind: str) -> None:
    forms = []
    for number, neighbours in enumerate([(unchanged,), (one_of_every_kind, below_the_hospitals_own_minimum)]):
        world = copied(pristine, tmp_path / f"world {number}")
        for neighbour in neighbours:
            neighbour(world.nodes[NORTH].home)
        hostile = Hostile(world, NORTH)
        answer = hostile.agent.answer(CHARGED[kind](hostile, tmp_path / f"candidate {number}"))
        assert [s.charge.kind for s in world.nodes[NORTH].ledger.entries()] == ["opened", "reserved", "committed"]
        forms.append((form(said(answer)), len(answer) - len(decode(answer)[0])))
    assert forms[0] == forms[1]


def decode(frame: bytes) -> tuple[Any, Any]:
    length = int.from_bytes(frame[:4], "big")
    return frame[4 : 4 + length], frame[4 + length :]


@pytest.mark.parametrize("kind", CHARGED)
def test_a_vault_that_does_not_open_is_one_constant_refusal_after_the_charge(
    pristine: World, tmp_path: Path, kind: str
) -> None:
    world = copied(pristine, tmp_path / "world")
    gone(world.nodes[NORTH].home)
    hostile = Hostile(world, NORTH)
    assert hostile.agent.answer(CHARGED[kind](hostile, tmp_path / "candidate")) == WITHHELD
    assert [s.charge.kind for s in world.nodes[NORTH].ledger.entries()] == ["opened", "reserved"]


@pytest.mark.parametrize(
    "error",
    [MemoryError("secret-class"), InputError("'secret-class' (17 images)"), KeyError("secret-class"), OSError(28)],
)
def test_whatever_goes_wrong_after_the_charge_leaves_as_the_same_bytes(
    pristine: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: MemoryError | InputError | KeyError | OSError,
) -> None:
    def fails(*_arguments: Any) -> None:
        raise error

    world = copied(pristine, tmp_path / "world")
    monkeypatch.setattr(agent_node, "grid", fails)
    hostile = Hostile(world, NORTH)
    answer = hostile.agent.answer(hostile.train(study(hostile, "c5"), adapter(hostile)))
    assert answer == WITHHELD
    assert type(error).__name__ in caplog.text  # the hospital's own log says what it was
    logged = (world.nodes[NORTH].home.state_path / "events.jsonl").read_text()
    assert "17 images" not in str(reply_of(answer))
    assert type(error).__name__ in logged


def test_an_error_that_is_not_ours_before_the_charge_is_the_constant_refusal_too(
    pristine: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: Any) -> None:
        raise RuntimeError("secret-class")

    world = copied(pristine, tmp_path / "world")
    monkeypatch.setattr(agent_node, "load_pinned_base", fails)
    hostile = Hostile(world, NORTH)
    assert hostile.agent.answer(hostile.train(study(hostile, "c6"), adapter(hostile))) == WITHHELD
    assert len(world.nodes[NORTH].ledger.entries()) == 1
