"""The auditor end to end: copies fail, blindness is inconclusive, every charge comes before its figures."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sonoshare_client.audit import auditor
from sonoshare_client.audit.auditor import Audited, AuditOutcome, audit_release
from sonoshare_client.audit.payment import LedgerPayment, NoLedger
from sonoshare_privacy.audits import copies, nearest
from sonoshare_privacy.audits.copies import CopyDetector
from sonoshare_privacy.audits.edits import EDITS
from sonoshare_privacy.audits.gate import Cohort, Finding
from sonoshare_privacy.audits.mechanism import check_mechanism
from sonoshare_privacy.audits.pooled_mechanism import with_sums
from sonoshare_privacy.audits.reference import reference_images
from sonoshare_privacy.budget import Budget, Budgets
from sonoshare_privacy.ledger import Ledger
from sonoshare_privacy.sum_check import SumCheck
from sonoshare_shared.errors import BudgetError, InputError, PolicyError
from sonoshare_shared.protocol.documents import AuditPlan
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.phantom import simulate


def seeded(seed: int) -> Callable[..., int]:
    """A source of uniform integers for tests (the real one is the system's)."""
    return random.Random(seed).randrange  # noqa: S311


SIZE = 64
PLAN = AuditPlan(
    held_out_fraction=0.3,
    epsilon_copies=1.0,
    epsilon_membership=1.0,
    tolerated_share=0.1,
    tolerated_auc=0.75,
    alpha=0.01,
)
COHORT = Cohort(100, 43)
_calibrate = copies.calibrate


@dataclass(frozen=True)
class Person:
    images: np.ndarray


class Till:
    """Records in which order things happen."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.events: tuple[Any, ...] = ()

    def reserve(self, events: Any) -> None:
        self.happened.append("reserve")
        self.events = events

    def commit(self) -> None:
        self.happened.append("commit")

    def below(self, n: Any) -> int:
        self.happened.append("draw")
        return seeded(len(self.happened))(n)


class Tell:
    """A loss attack whose model knows its patients (``leak`` in log loss) or not."""

    def __init__(self, trained: Any, leak: Any) -> None:
        self.known, self.leak = {id(one) for one in trained}, leak

    def losses(self, patient: Any, times: Any, _noise: Any) -> NDArray[Any]:
        spread = 0.2 * np.sin(1e4 * patient.images.mean(axis=(1, 2)))
        value = np.exp(-1 + spread - self.leak * (id(patient) in self.known))
        return np.repeat(value[:, None], len(times), axis=1)

    def reference(self, images: Any) -> list[Any]:
        return [Person(image[None]) for image in images]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def world() -> tuple[NDArray[np.float32], list[Person], list[Person]]:
    """100 trained and 43 held-out patients of one image, 60 candidates."""
    images = simulate(203, seed=21, size=SIZE).images
    people = [Person(image[None]) for image in images[:143]]
    return images[143:], people[:100], people[100:]


@pytest.fixture
def calibrated(world: tuple[NDArray[np.float32], list[Person], list[Person]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector of these candidates, calibrated once: what is tested here is what happens after."""
    monkeypatch.setattr(copies, "calibrate", lambda *_: _detector(world[0].tobytes()))


@lru_cache(maxsize=1)
def _detector(candidates: bytes) -> CopyDetector:
    images = np.frombuffer(candidates, np.float32).reshape(-1, SIZE, SIZE)
    return _calibrate(images, reference_images(SIZE))


def audit(world: Any, candidates: Any = None, **options: Any) -> AuditOutcome:
    settings: dict[str, Any] = {"plan": PLAN, "cohort": COHORT, "payment": NoLedger(), "below": seeded(8)} | options
    return audited(world[0] if candidates is None else candidates, world[1], world[2], **settings)


def audited(candidates: Any, trained: Any, held_out: Any, **settings: Any) -> AuditOutcome:
    return audit_release(candidates, lambda: Audited(trained, held_out), size=SIZE, **settings)


def test_honest_candidates_pass(world: tuple[NDArray[np.float32], list[Person], list[Person]]) -> None:
    outcome = audit(world, attack=Tell(world[1], 0.0))
    assert outcome.verdict == "PASS", outcome.reasons
    assert outcome.epsilon == 2.0
    assert outcome.smallest_detectable_leak <= 10
    json.dumps(outcome.figures.model_dump(mode="json"), allow_nan=False)


@pytest.mark.parametrize("name", ["exact", "flip", "crop90", "jpeg30"])
def test_case_64_planted_copies_fail(world: tuple[NDArray[np.float32], list[Person], list[Person]], name: str) -> None:
    edit = next(edit for edit in EDITS if edit.name == name)
    rng = np.random.default_rng(3)
    candidates = world[0].copy()
    for place in range(30):
        candidates[place] = edit.apply(world[1][place].images[0], candidates[-1], rng)
    outcome = audit(world, candidates)
    assert outcome.verdict == "FAIL", outcome.reasons
    assert outcome.figures.copies.interval[0] > 0.1
    assert outcome.figures.copies.patients_flagged >= 20


def test_a_large_release_is_audited_in_two_stages(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same order and verdicts; the figures say how the search was run, and the recall is that of this search."""
    monkeypatch.setattr(nearest, "EVERY_PAIR_UP_TO", 60 * 142)  # candidates times nominal patients, less one patient
    monkeypatch.setattr(nearest, "LOOKS", 5)
    monkeypatch.setattr(nearest, "SHARD", 30)
    candidates = world[0].copy()
    candidates[:30] = [one.images[0] for one in world[1][:30]]
    outcome = audit(world, candidates)
    assert outcome.verdict == "FAIL", outcome.reasons
    assert outcome.figures.copies.patients_flagged >= 20
    assert outcome.figures.copies.search.startswith("the 5 best of every")
    till = Till()
    few = audited(candidates, world[1][:9], [], plan=PLAN, cohort=COHORT, payment=till, below=till.below)
    assert few.figures.copies.search == outcome.figures.copies.search  # by nominal numbers, not true ones


def test_case_65_too_few_patients_are_inconclusive_and_free(
    world: tuple[NDArray[np.float32], list[Person], list[Person]],
) -> None:
    till = Till()
    outcome = audited(
        world[0], world[1][:12], world[2][:5], plan=PLAN, cohort=Cohort(12, 5), payment=till, below=till.below
    )
    assert outcome.verdict == "INCONCLUSIVE"
    assert outcome.epsilon == 0.0
    assert till.happened == []
    assert "nothing charged" in outcome.reasons[-1]
    assert outcome.figures.copies.patients_flagged is None
    assert outcome.figures.membership.auc is None


def test_a_nominal_cohort_that_is_not_there_does_not_pass(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], calibrated: None
) -> None:
    """Twelve patients under a nominal hundred: the noisy total gives it away."""
    outcome = audited(
        world[0],
        world[1][:12],
        world[2][:5],
        plan=PLAN,
        cohort=COHORT,
        payment=NoLedger(),
        below=seeded(1),
    )
    assert outcome.verdict == "INCONCLUSIVE"


def test_a_model_that_knows_its_patients_fails_although_its_images_do_not(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], calibrated: None
) -> None:
    outcome = audit(world, attack=Tell(world[1], 2.0))
    assert outcome.verdict == "FAIL"
    assert outcome.figures.membership.auc > 0.9
    assert outcome.figures.images_attack.auc < 0.75


def test_the_charge_is_durable_before_the_first_draw_and_committed_before_the_figures(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], calibrated: None
) -> None:
    till = Till()
    audit(world, payment=till, below=till.below, attack=Tell(world[1], 0.0))
    assert till.happened[0] == "reserve"
    assert till.happened[-1] == "commit"
    assert till.happened.count("reserve") == till.happened.count("commit") == 1
    assert [event.epsilon for event in till.events] == [1.0, 1.0]


def test_patients_are_opened_after_the_charge_and_not_at_all_without_one(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], calibrated: None
) -> None:
    class Poor(Till):
        def reserve(self, _events: Any) -> None:
            raise BudgetError("no budget left")

    def opened(till: Any) -> Audited:
        till.happened.append("open")
        return Audited(world[1], world[2])

    till, poor = Till(), Poor()
    audit_release(world[0], lambda: opened(till), size=SIZE, plan=PLAN, cohort=COHORT, payment=till, below=till.below)
    assert till.happened[:3] == ["reserve", "open", "draw"]
    with pytest.raises(BudgetError):
        audit_release(world[0], lambda: opened(poor), size=SIZE, plan=PLAN, cohort=COHORT, payment=poor)
    blind = audit_release(world[0], lambda: opened(poor), size=SIZE, plan=PLAN, cohort=Cohort(12, 5), payment=poor)
    assert blind.verdict == "INCONCLUSIVE"
    assert poor.happened == []


def test_refused_charges_draw_nothing(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], calibrated: None
) -> None:
    class Poor(Till):
        def reserve(self, _events: Any) -> None:
            raise BudgetError("no budget left")

    till = Poor()
    with pytest.raises(BudgetError):
        audit(world, payment=till, below=till.below)
    assert till.happened == []


def test_without_patients_the_same_steps_run(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], calibrated: None
) -> None:
    """That a hospital has none is as private as how many it has."""
    till = Till()
    outcome = audited(world[0], [], [], plan=PLAN, cohort=COHORT, payment=till, below=till.below)
    assert outcome.verdict == "INCONCLUSIVE"
    assert till.happened[0] == "reserve"


def test_impossible_candidates_are_refused_before_any_charge(
    world: tuple[NDArray[np.float32], list[Person], list[Person]],
) -> None:
    till = Till()
    for candidates in (world[0][:0], world[0][0], world[0][:, :32, :32]):
        with pytest.raises(InputError):
            audit(world, candidates, payment=till, below=till.below)
    assert till.happened == []


def test_a_split_that_is_not_random_is_noticed_and_no_membership_figure_believed(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], calibrated: None
) -> None:
    """Held-out patients from a blurring scanner: the loss attack must not be blamed on the model."""
    smooth = [Person(0.5 * one.images + 0.25) for one in world[2]]
    till = Till()
    outcome = audited(
        world[0],
        world[1],
        smooth,
        plan=PLAN,
        cohort=COHORT,
        payment=till,
        attack=Tell(world[1], 2.0),
        epsilon_baseline=1.0,
        below=seeded(4),
    )
    assert outcome.verdict == "INCONCLUSIVE"
    assert outcome.epsilon == 3.0
    assert len(till.events) == 3
    assert any("split was not random" in reason for reason in outcome.reasons)
    honest = audit(world, attack=Tell(world[1], 2.0), epsilon_baseline=1.0)
    assert honest.verdict == "FAIL"


def test_figures_hold_no_true_count(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], calibrated: None
) -> None:
    """Different noise, same patients: nothing but noisy figures and public constants differs or stays."""
    first, second = (audit(world, below=seeded(seed)).figures.model_dump(mode="json") for seed in (1, 2))
    assert first["copies"]["histograms"] != second["copies"]["histograms"]
    assert "100" not in json.dumps({k: v for k, v in first["membership"].items() if k != "histograms"})
    public = {"epsilon", "threshold", "declared_recall", "recall_by_edit", "critical_count", "operating_points"}
    assert all(first["copies"][key] == second["copies"][key] for key in public)


def open_ledger(folder: Path, epsilon: float = 3.0) -> Ledger:
    key = SigningKey.generate()
    budget = Budget(epsilon, 1e-4)
    return Ledger(
        folder / "ledger.db",
        key=key,
        hospital="north",
        clock=lambda: datetime(2026, 11, 22, tzinfo=UTC),
        budgets=lambda: Budgets(study=budget, lifetime=budget),
    )


def payment(ledger: Ledger, most: int = 1) -> LedgerPayment:
    return LedgerPayment(ledger, study="s", candidate="c" * 64, delta=1e-4, nominal=100, max_candidates=most)


def test_audits_compose_in_the_hospitals_ledger(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], calibrated: None, tmp_path: Path
) -> None:
    ledger = open_ledger(tmp_path)
    outcome = audit(world, payment=payment(ledger), attack=Tell(world[1], 0.0))
    assert ledger.spent().epsilon == pytest.approx(outcome.epsilon, abs=0.02)
    assert not ledger.open_reservations()
    assert [signed.charge.kind for signed in ledger.entries()] == ["opened", "reserved", "committed"]
    ledger.close()


def test_the_number_of_candidates_is_capped_and_each_pays_again(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], calibrated: None, tmp_path: Path
) -> None:
    ledger = open_ledger(tmp_path)
    audit(world, payment=payment(ledger))
    with pytest.raises(PolicyError, match="the plan allows 1"):
        audit(world, payment=payment(ledger))
    audit(world, payment=payment(ledger, most=2))
    assert ledger.spent().epsilon == pytest.approx(2.0, abs=0.02)
    ledger.close()


def test_an_audit_beyond_the_budget_is_refused(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], calibrated: None, tmp_path: Path
) -> None:
    ledger = open_ledger(tmp_path, epsilon=0.5)
    with pytest.raises(BudgetError):
        audit(world, payment=payment(ledger))
    assert ledger.spent().epsilon == 0.0
    ledger.close()


@pytest.mark.parametrize(("canaries_spoke", "verdict"), [(False, "INCONCLUSIVE"), (True, "PASS")])
def test_sums_with_enough_noise_are_no_pass_for_the_weights_where_no_canary_spoke(
    world: tuple[NDArray[np.float32], list[Person], list[Person]], canaries_spoke: bool, verdict: str
) -> None:
    """Noise of sums says nothing of clipping or sampling."""
    check = check_mechanism(None, planned=0, steps=3)
    if canaries_spoke:
        passed = Finding("PASS", ("mechanism: as charged",))
        check = replace(check, finding=passed, figures=check.figures.model_copy(update={"checked": True}))
    enough = SumCheck(numbers=10_000, enough=True, noise=1.0, smallest=0.95)
    told = with_sums(check, enough, honest=2)
    judged = auditor._Audit(PLAN, COHORT, _detector(world[0].tobytes()), told)
    judged.judge_mechanism()
    judged.findings[auditor.LOSS] = Finding("PASS", ())
    outcome = judged.outcome(None, 0.0)
    assert outcome.verdict == "PASS"
    assert outcome.weights.verdict == verdict
