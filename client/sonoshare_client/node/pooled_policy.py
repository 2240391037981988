"""The hospital's own rules on pooled noise: whom it trusts to add their share, and how many it does not.

A pooled sum is private while t of the hospitals in it are honest (docs/pooled-noise.md). Which hospitals are honest no
software can see; each hospital decides for itself how many of the others might work with the coordinator. A plan for n
hospitals rests on t of them, so it withstands n - t, and a sum over m hospitals withstands m - t: members that dropped
out leave less to spare.
"""

from collections.abc import Sequence

from sonoshare_shared.errors import PolicyError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.charge import PooledGaussian
from sonoshare_shared.protocol.documents.plan import Noise


def epsilon_alone(plan: StudyPlan, delta: float) -> float | None:
    """Epsilon of a plan's training where pooled noise fails altogether: every part of every sum is seen by itself.

    None where noise is not pooled.
    """
    from sonoshare_privacy.accounting import epsilon  # noqa: PLC0415 - heavy, and not for reading

    event = plan.charged(plan.steps)
    return epsilon([event.alone], delta) if isinstance(event, PooledGaussian) else None


def check_noise(plan: StudyPlan, permitted: Sequence[Noise], colluding: int) -> None:
    """Check whose noise a plan rests on.

    Args:
        plan: the plan.
        permitted: ``training.noise`` of the policy.
        colluding: ``training.maximum_colluding`` of the policy.

    Raises:
        PolicyError: the plan pools noise and the policy does not permit it, or against fewer colluding hospitals.
    """
    noise = plan.noise or "own"
    if noise not in permitted:
        raise PolicyError(
            f"the plan's noise is '{noise}'; the policy permits {', '.join(permitted)}",
            remedy="ask for another plan, or read docs/pooled-noise.md and add it to training.noise",
        )
    if plan.honest is not None:
        _require_spare(len(plan.cohorts), plan.honest, colluding, "the plan")


def require_honest_sum(plan: StudyPlan, members: int, colluding: int) -> None:
    """Check, before anything is charged, that a sum over so many hospitals is private by this hospital's own rules.

    Raises:
        PolicyError: it is not.
    """
    if plan.honest is not None:
        _require_spare(members, plan.honest, colluding, "the sum")


def _require_spare(hospitals: int, honest: int, colluding: int, what: str) -> None:
    if hospitals - honest < colluding:
        raise PolicyError(
            f"{what} of {hospitals} hospitals rests on {honest} honest ones; the policy allows for "
            f"{colluding} that are not",
            remedy="wait for more hospitals, ask for fewer honest ones, or lower training.maximum_colluding",
        )
