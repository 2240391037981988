"""CASES 43, 44, 45, 47, 52, 55: the one object, from charge to noised update."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.privacy.conftest import Cohort, Small
from tests.privacy.trainings import both, run, training
from torch import distributed, nn

import sonoshare_privacy.step_release as release_module
from sonoshare_privacy import Budget, Budgets, Optimiser, PatientDP
from sonoshare_privacy.accounting import SampledGaussian, epsilon
from sonoshare_privacy.mechanisms.draw_words import words
from sonoshare_privacy.mechanisms.gaussian import add_gaussian_integers
from sonoshare_privacy.noisy_adam import NoisyAdam
from sonoshare_privacy.patient_gradients import PatientGradients
from sonoshare_privacy.patient_gradients.room import Room
from sonoshare_privacy.step_release import NoisedSum, StepRelease
from sonoshare_shared.errors import BudgetError, InputError, LedgerError, ModelError
from sonoshare_shared.protocol.documents.plan import Mechanism


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Every noised sum that leaves, and every noise that was drawn."""
    seen: dict[str, Any] = {"noise": [], "sums": []}

    def noise(total: Any, deviation: Any) -> None:
        seen["noise"].append((len(total), deviation))
        add_gaussian_integers(total, deviation)

    original = StepRelease.next

    def release(self: Any, patients: Any) -> NoisedSum:
        result = original(self, patients)
        seen["sums"].append(result.integers.clone())
        seen["grid"] = result.grid
        return result

    monkeypatch.setattr(release_module, "add_gaussian_integers", noise)
    monkeypatch.setattr(StepRelease, "next", release)
    return seen


def test_the_charge_is_what_ran_and_the_model_moves(
    cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism, released: dict[str, list[Any]]
) -> None:
    ledger = open_ledger()
    before = [parameter.detach().clone() for parameter in cohort.model.parameters()]
    outcome = run(training(cohort, ledger, mechanism), cohort, steps=5)
    assert outcome.charge.charge.events == (SampledGaussian(0.25, 2.0, 5),)
    assert ledger.spent().epsilon == epsilon([SampledGaussian(0.25, 2.0, 5)], 1e-5)
    assert ledger.open_reservations() == ()
    assert len(outcome.losses) == len(released["sums"]) == 5
    moved = [not torch.equal(a, b) for a, b in zip(before, cohort.model.parameters(), strict=True)]
    assert all(moved)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in cohort.model.parameters())


@pytest.mark.parametrize("gradient_bytes", [1, 10_000, 96 << 20])
def test_case_47_one_noise_per_step_whatever_the_chunks(
    cohort: Cohort,
    open_ledger: Callable[..., Any],
    mechanism: Mechanism,
    released: dict[str, list[Any]],
    gradient_bytes: int,
) -> None:
    dp = training(cohort, open_ledger(), mechanism, room=Room(64, gradient_bytes))
    run(dp, cohort, steps=6)
    assert len(released["noise"]) == 6
    count, deviation = released["noise"][0]
    assert count == dp.dimension + 1
    grid = released["grid"]
    assert deviation * grid.step >= mechanism.noise_multiplier * mechanism.clip_norm  # type: ignore[attr-defined]


def test_case_45_the_released_noise_has_the_stated_size_and_is_fresh(
    cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism, released: dict[str, list[Any]]
) -> None:
    dp = training(cohort, open_ledger(), mechanism)
    run(dp, cohort, steps=40, patients=0)
    unit = (
        torch.stack(released["sums"]).double()
        * released["grid"].step  # type: ignore[attr-defined]
        / (mechanism.clip_norm * mechanism.noise_multiplier)
    )
    count = unit.numel()
    assert abs(float(unit.std()) - 1) < 5 / (2 * count) ** 0.5
    assert len({tuple(row.tolist()) for row in unit}) == 40
    assert float(torch.corrcoef(unit).fill_diagonal_(0).abs().max()) < 6 / unit.shape[1] ** 0.5


@pytest.mark.parametrize("patients", [0, 1])
def test_case_43_an_empty_sample_is_noised_released_and_charged(
    cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism, released: dict[str, list[Any]], patients: int
) -> None:
    ledger = open_ledger()
    low = mechanism.model_copy(update={"rate": 1e-9})
    dp = training(cohort, ledger, low, divisor=1e-9 * 40)
    outcome = run(dp, cohort, steps=3, patients=patients)
    assert len(released["noise"]) == 3
    assert len(outcome.losses) == 3
    assert outcome.charge.charge.events == (SampledGaussian(1e-9, 2.0, 3),)


def test_case_44_nothing_public_depends_on_the_number_of_patients(
    cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism, released: dict[str, list[Any]]
) -> None:
    outcomes = []
    for patients in (39, 40):
        dp = training(cohort, open_ledger(f"{patients}.db"), mechanism)
        outcome = run(dp, cohort, patients=patients)
        outcomes.append(
            (dp.divisor, dp.nominal_cohort, released["grid"], outcome.charge.charge.events, len(outcome.losses))
        )
    assert outcomes[0] == outcomes[1]
    assert len(set(released["noise"])) == 1


def test_no_step_without_a_durable_charge(
    cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(budgets=Budgets(study=Budget(0.5, 1e-5), lifetime=Budget(0.5, 1e-5)))
    touched = []
    monkeypatch.setattr(PatientGradients, "add_clipped", lambda *_: touched.append(1))
    dp = training(cohort, ledger, mechanism)
    with pytest.raises(BudgetError):
        dp.train(patients=40, draw=lambda *_: touched.append(2), loss=cohort.loss, steps=50, purpose="too much")
    assert touched == []
    assert ledger.spent().epsilon == 0


def test_case_52_a_training_that_dies_stays_charged(
    cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism
) -> None:
    ledger = open_ledger()

    def draw(indices: Any, keys: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training(cohort, ledger, mechanism).train(
            patients=40, draw=draw, loss=cohort.loss, steps=9, purpose="interrupted"
        )
    assert ledger.spent().epsilon == epsilon([SampledGaussian(0.25, 2.0, 9)], 1e-5)
    assert len(ledger.open_reservations()) == 1


def test_case_51_a_ledger_behind_its_witness_does_not_train(
    cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism
) -> None:
    ledger = open_ledger()
    with pytest.raises(LedgerError, match="witnessed head"):
        run(training(cohort, ledger, mechanism), cohort, witnessed=["ab" * 32])
    assert ledger.spent().epsilon == 0


def test_there_is_no_way_without_ledger_noise_or_public_divisor(
    cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism
) -> None:
    with pytest.raises(InputError, match="ledger"):
        training(cohort, None, mechanism)
    for divisor in (0.0, -1.0, float("nan"), 0.1):
        with pytest.raises(InputError, match="divisor"):
            training(cohort, open_ledger(), mechanism, divisor=divisor)
    with pytest.raises(ValueError, match="noise_multiplier"):
        Mechanism(rate=0.5, noise_multiplier=0.0, clip_norm=1.0, draws=1, delta=1e-5)
    assert not {"seed", "noise", "secure", "generator"} & set(inspect.signature(PatientDP.train).parameters)


def test_a_wrong_model_is_refused_before_anything_is_charged(
    open_ledger: Callable[..., Any], mechanism: Mechanism, make_cohort: type[Cohort]
) -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 1)

        def forward(self, x: Any, _scanner: Any) -> Any:
            flat = x.flatten(1)
            return self.head(flat - flat.mean(0)).squeeze(1)

    torch.manual_seed(0)
    cohort, ledger = make_cohort(Centred()), open_ledger()
    with pytest.raises(ModelError, match="gradient"):
        run(training(cohort, ledger, mechanism), cohort)
    assert ledger.spent().epsilon == 0
    with pytest.raises(InputError, match="without a check"):
        training(cohort, ledger, mechanism, probe=cohort.probe()[:1])


def test_the_draws_are_fresh_in_every_run(
    cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism
) -> None:
    seen = []

    def draw(indices: torch.Tensor, keys: torch.Tensor) -> dict[Any, Any]:
        seen.extend(words(keys, 2).flatten().tolist())
        return cohort.draw(indices, keys)

    for name in ("a.db", "b.db"):
        dp = training(cohort, open_ledger(name), mechanism)
        dp.train(patients=40, draw=draw, loss=cohort.loss, steps=3, purpose="draws")
    assert len(set(seen)) == len(seen)


def test_it_learns_when_the_noise_is_small_against_the_cohort(open_ledger: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    inputs = torch.randn(400, 4, generator=torch.Generator().manual_seed(1))
    targets = inputs @ torch.tensor([1.0, -1.0, 0.5, 0.0])

    def loss(batch: dict[Any, Any]) -> Any:
        return (model(batch["x"]).squeeze(1) - batch["y"]).square()

    mechanism = Mechanism(rate=0.25, noise_multiplier=1.0, clip_norm=0.5, draws=1, delta=1e-5, clip_mode="normalise")
    ledger = open_ledger(budgets=Budgets(study=Budget(60.0, 1e-5), lifetime=Budget(60.0, 1e-5)))
    dp = PatientDP(
        model=model,
        parameters=dict(model.named_parameters()),
        mechanism=mechanism,
        divisor=100,
        ledger=ledger,
        study="study-a",
        probe=[{"x": torch.ones(1, 4), "y": torch.zeros(1)}, {"x": -torch.ones(1, 4), "y": torch.ones(1)}],
        optimiser=Optimiser(learning_rate=0.2, smallest_rms=0.3),
    )
    start = float(loss({"x": inputs, "y": targets}).detach().mean())
    outcome = dp.train(
        patients=400,
        draw=lambda indices, _: {"x": inputs[indices], "y": targets[indices]},
        loss=loss,  # type: ignore[arg-type]
        steps=60,
        purpose="learn",
    )
    assert float(loss({"x": inputs, "y": targets}).detach().mean()) < 0.3 * start
    assert sum(outcome.losses[-10:]) < sum(outcome.losses[:10])


def test_the_optimiser_goes_on_where_it_stood_and_starts_at_its_parameters() -> None:
    parameter = nn.Parameter(torch.ones(3))
    adam = NoisyAdam({"w": parameter}, Optimiser(learning_rate=0.1, average=0.0), total_steps=10)
    adam.step(torch.tensor([1.0, -2.0, 0.0]))
    assert parameter.tolist() == pytest.approx([0.9, 1.1, 1.0])
    again = NoisyAdam({"w": parameter}, Optimiser(), total_steps=10, state=adam.state)
    assert again.state.step == 1
    assert torch.equal(again.state.first, adam.state.first)
    with pytest.raises(InputError):
        Optimiser(momentum=1.0)


def test_case_47_two_processes_share_the_patients_and_one_noise(
    open_ledger: Callable[..., Any], mechanism: Mechanism, make_cohort: type[Cohort], small: type[Small], tmp_path: Path
) -> None:
    def act(rank: int) -> None:
        torch.manual_seed(0)
        cohort = make_cohort(small())
        ledger = open_ledger() if rank == 0 else None
        outcome = run(training(cohort, ledger, mechanism, group=distributed.group.WORLD), cohort, steps=5)
        flat = torch.cat([parameter.detach().flatten() for parameter in cohort.model.parameters()])
        (tmp_path / f"result.{rank}").write_text(json.dumps([outcome.losses, flat.tolist()]))
        distributed.destroy_process_group()

    assert both(tmp_path, act) == [0, 0]
    first, second = ((tmp_path / f"result.{rank}").read_text() for rank in range(2))
    assert first == second
    assert open_ledger().spent().epsilon == epsilon([SampledGaussian(0.25, 2.0, 5)], 1e-5)
