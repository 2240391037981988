"""Charges and budgets that the tests of the ledger write."""

from typing import Any

from sonoshare_privacy.accounting import PureDP, SampledGaussian
from sonoshare_privacy.budget import Budget, Budgets, ChargeRequest

TRAINING = SampledGaussian(0.25, 4.0, 10)


def request(
    study: str = "study-a",
    *events: SampledGaussian | PureDP,
    delta: float = 1e-5,
    cohort: int = 200,
    purpose: str = "round 0",
) -> ChargeRequest:
    return ChargeRequest(study, purpose, tuple(events) or (TRAINING,), delta, cohort)


def budgets(study: Any, lifetime: Any = 100.0, delta: float = 1e-5) -> Budgets:
    return Budgets(study=Budget(study, delta), lifetime=Budget(lifetime, delta))


def ample() -> Budgets:
    return budgets(1e6, 1e6)
