"""CASES 53 and 54: what a charge adds, and which budget refuses it."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.privacy.charges import TRAINING, budgets, request

from sonoshare_privacy.accounting import PureDP, SampledGaussian, epsilon
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_shared.errors import BudgetError, InputError, LedgerError, PolicyError
from sonoshare_shared.protocol.documents.charge import LedgerExport


def test_reserved_counts_as_spent_and_commit_adds_nothing(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger()
    reservation = ledger.reserve(request())
    expected = epsilon([TRAINING], 1e-5)
    assert ledger.spent().epsilon == expected
    assert ledger.spent(1e-6, study="study-a").epsilon == epsilon([TRAINING], 1e-6)
    assert [r.digest for r in ledger.open_reservations()] == [reservation.digest]
    ledger.commit(reservation)
    assert ledger.spent().epsilon == expected
    assert ledger.open_reservations() == ()
    assert [entry.charge.kind for entry in ledger.entries()] == ["opened", "reserved", "committed"]
    with pytest.raises(LedgerError, match="committed before"):
        ledger.commit(reservation)


def test_the_running_epsilon_is_never_below_the_record_and_near_it(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger(budgets=budgets(30.0))
    for number in range(12):
        ledger.reserve(request("study-a" if number % 3 else "study-b", SampledGaussian(0.25, 4.0, 7)))
        charge = ledger.entries()[-1].charge
        exact = ledger.spent().epsilon
        assert exact <= charge.epsilon_lifetime <= 1.05 * exact
        assert charge.epsilon_study <= charge.epsilon_lifetime + 1e-9


def test_studies_audits_and_mechanisms_compose(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger()
    events: list[SampledGaussian | PureDP] = [
        TRAINING,
        PureDP(0.5),
        SampledGaussian(0.1, 2.0, 30),
        PureDP(0.25),
        SampledGaussian(1, 30.0, 5),
    ]
    for number, event in enumerate(events):
        ledger.reserve(request(f"study-{number % 2}", event))
    assert ledger.spent().epsilon == epsilon(events, 1e-5)
    assert ledger.spent(study="study-1").epsilon == epsilon(events[1::2], 1e-5)
    assert ledger.studies() == ("study-0", "study-1")


def test_case_53_a_hair_beyond_the_budget_is_refused_and_writes_nothing(open_ledger: Callable[..., Any]) -> None:
    exact = epsilon([TRAINING, TRAINING], 1e-5)
    tight = open_ledger("tight.db", budgets=budgets(exact - 1e-9))
    tight.reserve(request())
    head = tight.head()
    with pytest.raises(BudgetError, match="study study-a"):
        tight.reserve(request())
    assert tight.head() == head
    enough = open_ledger("enough.db", budgets=budgets(exact))
    enough.reserve(request())
    enough.reserve(request())
    assert enough.spent().epsilon == exact


def test_case_53_the_lifetime_budget_binds_across_studies(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger(budgets=budgets(50.0, lifetime=epsilon([TRAINING, PureDP(1.0)], 1e-5)))
    ledger.reserve(request("study-a"))
    ledger.reserve(request("study-b", PureDP(1.0)))
    with pytest.raises(BudgetError, match="lifetime"):
        ledger.reserve(request("study-c", PureDP(0.01)))


@pytest.mark.parametrize("delta", [1 / 200, 0.01])
def test_delta_of_one_over_the_cohort_is_refused(open_ledger: Callable[..., Any], delta: float) -> None:
    with pytest.raises(PolicyError, match="not below"):
        open_ledger().reserve(request(delta=delta))
    with pytest.raises(PolicyError, match="not below"):
        open_ledger("other.db", budgets=budgets(5.0, delta=delta)).reserve(request())
    with pytest.raises(PolicyError, match="nothing to charge"):
        open_ledger().reserve(ChargeRequest("study-a", "nothing", (), 1e-5, 200))


def test_case_54_every_run_of_a_search_is_charged(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger()
    values = []
    for attempt in range(4):
        ledger.reserve(request(purpose=f"learning rate trial {attempt}"))  # none of them is ever committed
        values.append(ledger.spent().epsilon)
    assert values == sorted(set(values))


def test_a_lowered_budget_counts_for_the_next_charge_of_an_open_ledger(open_ledger: Callable[..., Any]) -> None:
    limits = {"now": budgets(100.0)}
    ledger = open_ledger(budgets=lambda: limits["now"])
    ledger.reserve(request())
    limits["now"] = budgets(100.0, lifetime=ledger.spent().epsilon)
    with pytest.raises(BudgetError, match="lifetime"):
        ledger.reserve(request("study-b", PureDP(0.01)))
    limits["now"] = budgets(ledger.spent().epsilon / 2)
    with pytest.raises(BudgetError, match="study study-a"):
        ledger.reserve(request())
    limits["now"] = budgets(100.0)
    ledger.reserve(request())


def test_limits_that_cannot_be_read_refuse_and_write_nothing(open_ledger: Callable[..., Any]) -> None:
    def unreadable() -> None:
        raise InputError("policy.toml is not TOML", remedy="correct the file")

    ledger = open_ledger(budgets=unreadable)
    head = ledger.head()
    with pytest.raises(InputError, match="TOML"):
        ledger.reserve(request())
    assert ledger.head() == head
    ledger.verify()


def test_what_is_declared_is_charged_whatever_the_limits_and_binds_the_next_charge(
    open_ledger: Callable[..., Any],
) -> None:
    ledger = open_ledger(budgets=budgets(1.0, 1.5))
    over = SampledGaussian(0.25, 1.0, 100)
    ledger.declare([request("before", over), request("study-b", PureDP(0.25))])
    assert ledger.spent().epsilon == epsilon([over, PureDP(0.25)], 1e-5) > 1.5
    last = ledger.entries()[-1].charge
    assert (last.kind, last.epsilon_lifetime) == ("reserved", ledger.spent().epsilon)
    with pytest.raises(BudgetError, match="lifetime"):
        ledger.reserve(request("study-c", PureDP(0.01)))
    ledger.verify()
    assert len(LedgerExport.model_validate(ledger.export()).verify(ledger._public)) == 3


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (request("study-b", PureDP(0.25), delta=0.01), PolicyError),  # 0.01 is not below 1 / 200
        (ChargeRequest("study-b", "nothing", (), 1e-5, 200), PolicyError),
    ],
)
def test_a_declaration_is_charged_whole_or_not_at_all(
    open_ledger: Callable[..., Any], wrong: ChargeRequest, error: type[Exception]
) -> None:
    ledger = open_ledger()
    head = ledger.head()
    with pytest.raises(error):
        ledger.declare([request(), wrong])
    assert (ledger.head(), ledger.spent().epsilon) == (head, 0.0)
