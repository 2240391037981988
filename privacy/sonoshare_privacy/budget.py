"""Budgets, what is asked of them, and what they answer: the values of the ledger.

Neighbouring relation: add or remove one patient with all of their images. Epsilons are in nats.
"""

from dataclasses import dataclass

from sonoshare_privacy.accounting import Event, epsilon, epsilon_at_most
from sonoshare_shared.errors import BudgetError
from sonoshare_shared.protocol.documents.charge import Charge


@dataclass(frozen=True)
class Budget:
    """Most that may be spent.

    Attributes:
        epsilon: limit, in nats.
        delta: at which epsilon is computed.
    """

    epsilon: float
    delta: float


@dataclass(frozen=True)
class Budgets:
    """The hospital's own limits, from its ``policy.toml``.

    Attributes:
        study: of each study (or release) by itself.
        lifetime: of everything this hospital ever does.
    """

    study: Budget
    lifetime: Budget


@dataclass(frozen=True)
class ChargeRequest:
    """What somebody wants to spend.

    Attributes:
        study: which study's budget.
        purpose: in words.
        events: the mechanisms that will run.
        delta: at which the requester states epsilon; below 1 / ``nominal_cohort``.
        nominal_cohort: public number of patients.
    """

    study: str
    purpose: str
    events: tuple[Event, ...]
    delta: float
    nominal_cohort: int


@dataclass(frozen=True)
class Reservation:
    """A durable charge: the right to run its events once.

    Attributes:
        charge: the ledger's entry.
        digest: of the entry; the ledger's head at that moment.
    """

    charge: Charge
    digest: str


@dataclass(frozen=True)
class Spent:
    """Epsilon of record of a composition, at a delta."""

    epsilon: float
    delta: float


def at_most(events: tuple[Event, ...], budget: Budget) -> float:
    """Upper bound of epsilon that charges are decided by: the quick one, or the number of record near the limit."""
    quick = epsilon_at_most(events, budget.delta)
    return quick if quick <= budget.epsilon else epsilon(events, budget.delta)


def within(events: tuple[Event, ...], budget: Budget, whose: str) -> float:
    """The same, where the budget allows it.

    Raises:
        BudgetError: it does not.
    """
    bound = at_most(events, budget)
    if bound <= budget.epsilon:
        return bound
    raise BudgetError(
        f"epsilon of {whose} would be {bound:.6g} of {budget.epsilon:.6g} at delta {budget.delta:g}",
        remedy="plan fewer steps or more noise; what is spent stays spent",
    )
