"""The audit policy that a coordinator proposes to a consortium; reading it loads no model."""

from typing import Final

from sonoshare_shared.protocol.documents import AuditPlan
from sonoshare_shared.protocol.documents.base import values_given
from sonoshare_shared.protocol.documents.plan import VetoPlan

HELD_OUT_FRACTION: Final = 0.25


def audit_policy(
    epsilon: float, tolerated_share: float, tolerated_auc: float, alpha: float, veto: VetoPlan | None = None
) -> AuditPlan:
    """An audit policy that spends half of its epsilon on copies and half on membership; a veto costs its own.

    Raises:
        InputError: a value is out of its range.
    """
    with values_given("the audit policy"):
        return AuditPlan(
            held_out_fraction=HELD_OUT_FRACTION,
            epsilon_copies=epsilon / 2,
            epsilon_membership=epsilon / 2,
            tolerated_share=tolerated_share,
            tolerated_auc=tolerated_auc,
            alpha=alpha,
            veto=veto,
        )
