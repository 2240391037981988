"""Why a question did not get the answers it needs: who, why, and what to do now.

    round 1 has 1 of 2 answers it needs (north: the study would cost epsilon 12.1 with its audits; the policy allows 10
    at delta 0.001 (ask for more noise or fewer steps, or raise budget.study_epsilon)) (a hospital's own rules refuse
    the plan, and will again: create a study that keeps them, or ask the hospital to change them)

Asking again helps against silence, and against what was mended; a plan that a policy refuses stays refused.
"""

from collections.abc import Mapping
from typing import Final

from sonoshare_shared.errors import FederationError, PolicyError, WitnessError

RULES: Final = (
    "a hospital's own rules refuse the plan, and will again: create a study that keeps them, or ask the hospital to "
    "change them"
)
MEND: Final = "mend what the hospitals name, then run the same again"
SILENCE: Final = "see that they are started and connected, then run the same again: what others gave is kept"


def shortfall(name: str, had: int, needed: int, left: Mapping[str, str], errors: Mapping[str, str]) -> FederationError:
    """The error of a question that fewer than its quorum answered usefully.

    Args:
        name: what was asked, for people.
        had: useful answers.
        needed: the quorum.
        left: why each other hospital is left out.
        errors: names of the errors of those that refused.
    """
    why = "; ".join(f"{who}: {reason.removeprefix(f'{who} refused: ')}" for who, reason in sorted(left.items()))
    return FederationError(f"{name} has {had} of {needed} answers it needs ({why})", remedy=_remedy(left, errors))


def _remedy(left: Mapping[str, str], errors: Mapping[str, str]) -> str:
    if PolicyError.__name__ in errors.values():
        return RULES
    # Who has not been shown enough waits for somebody else, who is silent.
    said = [who for who, reason in left.items() if not reason.startswith("no answer")]
    return MEND if any(errors.get(who) != WitnessError.__name__ for who in said) else SILENCE
