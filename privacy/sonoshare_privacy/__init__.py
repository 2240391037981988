"""The mathematics of the promise: patient-level differential privacy, its ledger, its audits and its gate.

``from sonoshare_privacy import PatientDP`` trains any torch model made of Linear, Conv2d, GroupNorm, LayerNorm and
Embedding leaves (every diffusers UNet, LoRA by PEFT) with patient-level differential privacy. The names below are
loaded when they are used, so that the accountant and the ledger need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sonoshare_privacy.budget import Budget, Budgets, ChargeRequest
    from sonoshare_privacy.canaries import Canaries
    from sonoshare_privacy.ledger import Ledger
    from sonoshare_privacy.optimiser import Optimiser
    from sonoshare_privacy.patient_dp import Outcome, PatientDP

__all__ = ["Budget", "Budgets", "Canaries", "ChargeRequest", "Ledger", "Optimiser", "Outcome", "PatientDP"]

_HOMES: Final = {
    "Budget": "budget",
    "Budgets": "budget",
    "Canaries": "canaries",
    "ChargeRequest": "budget",
    "Ledger": "ledger",
    "Optimiser": "optimiser",
    "Outcome": "patient_dp",
    "PatientDP": "patient_dp",
}


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
