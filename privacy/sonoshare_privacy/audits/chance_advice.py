"""What would raise the chance that an honest release passes: single changes of a plan, cheapest first.

A change costs epsilon (more candidates, or dearer audits: what all planned audits charge together), or promises less
(tolerating more), or needs more patients. They come in this order; those that cost epsilon by how much of it.
Larger and smaller values of each are tried on a grid until the wanted chance is reached.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sonoshare_privacy.audits.chance import pass_chances
from sonoshare_shared.protocol.documents import AuditPlan

WANTED: Final = (0.8, 0.9)
"""Chances worth reaching; the next of them that a plan has not."""

_MOST_CANDIDATES: Final = 8
_DEARER: Final = (1.25, 1.5, 2.0, 3.0, 4.0)
_MORE_TOLERANT: Final = ((1.25, 0.02), (1.5, 0.05), (2.0, 0.1), (3.0, 0.15))
_MORE_PATIENTS: Final = (1.25, 1.5, 2.0, 3.0, 5.0)
_MOST_AUDITS: Final = 6_000


@dataclass(frozen=True)
class Change:
    """A single change that reaches the wanted chance.

    Attributes:
        words: what to change, as a person would type or ask for it.
        together: chance that one of all candidates passes at every hospital then.
        epsilon_audits: what all planned audits charge together then.
    """

    words: str
    together: float
    epsilon_audits: float


def wanted_beyond(together: float) -> float | None:
    """The next chance worth reaching, None where there is none."""
    return next((wanted for wanted in WANTED if together < wanted), None)


@dataclass(frozen=True)
class _Plan:
    """What chances follow from."""

    audit: AuditPlan
    cohorts: Mapping[str, int]
    candidates: int

    def changed(self, words: str, **changes: Any) -> Change:
        """A change of audit, cohorts or candidates, with the chance it gives."""
        plan = replace(self, **changes)
        together = pass_chances(plan.audit, plan.cohorts, plan.candidates, _MOST_AUDITS).together
        return Change(words, together.any, plan.candidates * sum(plan.audit.epsilons))


def changes_that_reach(
    wanted: float, audit: AuditPlan, cohorts: Mapping[str, int], candidates: int
) -> tuple[Change, ...]:
    """One change of each kind that reaches a chance, where any on its grid does; cheapest first."""
    plan = _Plan(audit, cohorts, candidates)
    paid = [*_first(wanted, _more_candidates(plan)), *_first(wanted, _dearer_audits(plan))]
    paid.sort(key=lambda change: change.epsilon_audits)
    return (*paid, *_first(wanted, _more_tolerance(plan)), *_first(wanted, _more_patients(plan)))


def _first(wanted: float, grid: Iterator[Change]) -> list[Change]:
    found = next((change for change in grid if change.together >= wanted), None)
    return [] if found is None else [found]


def _more_candidates(plan: _Plan) -> Iterator[Change]:
    most = max(plan.candidates, _MOST_CANDIDATES)
    together = pass_chances(plan.audit, plan.cohorts, most, _MOST_AUDITS).together
    for number in range(plan.candidates + 1, most + 1):
        epsilon = number * sum(plan.audit.epsilons)
        yield Change(f"--candidates {number}", together.up_to[number - 1], epsilon)


def _dearer_audits(plan: _Plan) -> Iterator[Change]:
    audit = plan.audit
    for factor in _DEARER:
        each = {name: factor * getattr(audit, name) for name in ("epsilon_copies", "epsilon_membership")}
        words = f"coordinator init --epsilon-audit {sum(each.values()):.3g}"
        yield plan.changed(words, audit=audit.model_copy(update=each))


def _more_tolerance(plan: _Plan) -> Iterator[Change]:
    for share, auc in _MORE_TOLERANT:
        more = {
            "tolerated_share": round(min(0.9, plan.audit.tolerated_share * share), 3),
            "tolerated_auc": round(min(0.98, plan.audit.tolerated_auc + auc), 3),
        }
        words = f"--tolerated-share {more['tolerated_share']:g} --tolerated-auc {more['tolerated_auc']:g}"
        yield plan.changed(f"coordinator init {words}", audit=plan.audit.model_copy(update=more))


def _more_patients(plan: _Plan) -> Iterator[Change]:
    for factor in _MORE_PATIENTS:
        larger = {hospital: round(factor * nominal) for hospital, nominal in plan.cohorts.items()}
        yield plan.changed(f"{factor:g} times as many patients everywhere", cohorts=larger)
