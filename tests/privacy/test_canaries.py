"""CASE 50: canaries inside a real training, sound and with faults planted in the mechanism."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.privacy.mechanism_faults import FAULTS
from torch import nn

import sonoshare_privacy.patient_gradients.per_patient as gradients_module
from sonoshare_privacy import Budget, Budgets, Canaries, PatientDP
from sonoshare_privacy.canaries import AMPLITUDE, CanaryRecord, advisable_count, claim, conformance, joined, lower_bound
from sonoshare_privacy.patient_gradients.buffer import clip_factors
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.plan import Mechanism

PATIENTS, STEPS = 200, 80
MECHANISM = Mechanism(rate=0.1, noise_multiplier=1.0, clip_norm=0.5, draws=1, delta=1e-5)


@pytest.fixture
def train(open_ledger: Callable[..., Any]) -> Callable[[], Any]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 96), nn.LayerNorm(96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 1)
    )
    inputs = torch.randn(PATIENTS, 16)
    budgets = Budgets(study=Budget(1e4, 1e-5), lifetime=Budget(1e4, 1e-5))

    def run() -> CanaryRecord:
        dp = PatientDP(
            model=model,
            parameters=dict(model.named_parameters()),
            mechanism=MECHANISM,
            divisor=MECHANISM.rate * PATIENTS,
            ledger=open_ledger(budgets=budgets),
            study="study-a",
            probe=[{"x": torch.randn(1, 16)} for _ in range(2)],
        )
        return dp.train(
            patients=PATIENTS,
            draw=lambda indices, _: {"x": inputs[indices]},
            loss=lambda batch: (model(batch["x"]).squeeze(1) - batch["x"][:, 0]).square(),
            steps=STEPS,
            purpose="canaries",
            canaries=Canaries(count=120),
        ).canaries

    return run


def test_case_50_the_sound_mechanism_raises_no_alarm(train: Callable[[], Any]) -> None:
    for _ in range(3):
        record = train()
        assert conformance(record).faults == ()
        assert lower_bound(record) <= claim(MECHANISM, STEPS)


@pytest.mark.parametrize("fault", FAULTS)
def test_case_50_every_planted_fault_is_caught(
    train: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    module, name, make = FAULTS[fault]
    monkeypatch.setattr(module, name, make())
    assert conformance(train()).faults


def test_case_50_a_canary_is_clipped_like_a_patient(train: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []

    def watch(values: Any, *constants: Any) -> torch.Tensor:
        factors = clip_factors(values, *constants)
        norms.extend((values * factors).tolist())
        return factors

    monkeypatch.setattr(gradients_module, "clip_factors", watch)
    record = train()
    assert max(norms) <= AMPLITUDE * MECHANISM.clip_norm
    assert record.scores.shape == (STEPS, 120)


def simulated(seed: int, epsilon_like: float = 1.0, count: int = 200, steps: int = 100) -> CanaryRecord:
    """Scores of a sound mechanism without patients."""
    random = np.random.default_rng(seed)
    mechanism = MECHANISM.model_copy(update={"noise_multiplier": epsilon_like})
    coins = random.random(count) < 0.5
    part = (random.random((steps, count)) < 0.1) & coins
    noise = random.normal(0, epsilon_like, (steps, count))
    return CanaryRecord(AMPLITUDE * part + noise, np.full((steps, count), epsilon_like**2), coins, mechanism)


def test_case_50_no_false_alarm_in_many_simulated_runs() -> None:
    stated = claim(MECHANISM, 100)
    for seed in range(150):
        record = simulated(seed)
        assert conformance(record).faults == ()
        assert lower_bound(record) <= stated


def test_case_50_the_lower_bound_sees_a_gross_fault() -> None:
    loud = simulated(0)
    loud = CanaryRecord(np.where(loud.coins, 5.0, 0.0) + 0.01 * loud.scores, loud.energy, loud.coins, loud.mechanism)
    quiet = MECHANISM.model_copy(update={"noise_multiplier": 4.0})
    constant = CanaryRecord(loud.scores - 5.0, loud.energy, loud.coins, quiet.model_copy(update={"rate": 1.0}))
    assert lower_bound(constant) > claim(quiet, 100)


def test_canaries_need_room() -> None:
    with pytest.raises(InputError, match="trained numbers"):
        Canaries(count=200).plant(300)
    planted = Canaries(count=50, support=64).plant(1000)
    rows = torch.cat(list(planted.contributions(torch.arange(planted.included), 7, MECHANISM.clip_norm)))
    assert torch.allclose(rows.norm(dim=1), torch.tensor(50.0), rtol=1e-4)
    gram = rows @ rows.t()
    assert float((gram - torch.diag(torch.diag(gram))).abs().max()) == 0


def test_a_secret_fixes_directions_and_coins_over_rounds() -> None:
    secret = bytes(range(32))
    one, again, other = (Canaries(count=64, secret=of).plant(4000) for of in (secret, secret, bytes(32)))
    assert one.included == again.included
    everybody = torch.arange(one.included)
    rows = [torch.cat(list(planted.contributions(everybody, 100, MECHANISM.clip_norm))) for planted in (one, again)]
    assert torch.equal(*rows)
    assert (one.included, rows[0].sum()) != (other.included, rows[1].sum().neg())
    assert "secret" not in repr(Canaries(secret=secret))


def test_rounds_are_joined_and_those_of_another_secret_left_out() -> None:
    first, second = simulated(0), simulated(1)
    second = CanaryRecord(second.scores, second.energy, first.coins, first.mechanism)
    stranger = CanaryRecord(first.scores, first.energy, ~first.coins, first.mechanism)
    together = joined([stranger, first, second])
    assert together.scores.shape == (200, 200)
    assert joined([]) is None


def test_uneven_gradients_of_patients_raise_no_alarm_and_hide_no_fault() -> None:
    """A few coordinates that carry nearly all of the patients' gradient, the same in every step."""
    random = np.random.default_rng(5)
    steps, count, support = 24, 66, 64
    for seed in range(40):
        sound = simulated(seed, count=count, steps=steps)
        hot = np.where(random.random((count, support)) < 0.003, 40.0 * random.random((count, support)), 0.0)
        drift = (hot * random.choice([-1.0, 1.0], (count, support))).sum(1) / np.sqrt(support)
        energy = 1.0 + np.broadcast_to((hot**2).mean(1), (steps, count))
        assert conformance(CanaryRecord(sound.scores + drift, energy, sound.coins, sound.mechanism)).faults == ()
        for scores in (0.5 * sound.scores, np.broadcast_to(sound.scores[0], sound.scores.shape)):
            assert conformance(CanaryRecord(scores + drift, energy, sound.coins, sound.mechanism)).faults


def test_the_advisable_count_disturbs_little() -> None:
    for dimension, sigma in ((18_384, 0.96), (9_680, 0.96), (28_672, 3.0), (1_000_000, 1.0)):
        mechanism = MECHANISM.model_copy(update={"noise_multiplier": sigma, "rate": 0.25})
        count = advisable_count(dimension, mechanism, 24)
        assert 24 <= count <= 200
        assert count / 2 * mechanism.rate <= 5e-4 * sigma**2 * dimension
        Canaries(count=count).plant(dimension)
    assert advisable_count(9_680, MECHANISM.model_copy(update={"noise_multiplier": 0.37, "rate": 0.25}), 24) == 0
    assert advisable_count(9_680, MECHANISM.model_copy(update={"rate": 0.25}), 8) == 0
