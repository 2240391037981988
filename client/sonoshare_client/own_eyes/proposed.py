"""Studies that were proposed to this hospital, with what they would cost here: for its own eyes.

Each plan's signature is checked again; what is not of the consortium's coordinator is left out.

What a plan costs takes a good part of a second to compose, and a coordinator can leave a thousand of them
(``approvals.MOST_PROPOSALS``). Whoever shows a page lists the plans (``proposed_plans``), which composes nothing, and
has a part of them described (``described``).
"""

from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime

from sonoshare_client.node.approvals import answer_by_person, decision_about, proposals, proposed
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import epsilon_after, open_ledger
from sonoshare_client.node.plan_check import check_plan, study_epsilon
from sonoshare_client.node.witness import checked_plan, pinned_roster
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import InputError, IntegrityError, PolicyError, RefusedError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.proposal import Decision

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Proposed:
    """A proposed study.

    Attributes:
        study: its name.
        plan: digest of its plan.
        question: the clinical question.
        state: ``accepted``, ``waiting`` for a person here, or ``refused``.
        why: by what or why.
        epsilon: of the whole study with votes and audits, at the policy's delta.
        delta: the policy's.
        honest: on how many honest hospitals epsilon rests, where the plan pools noise; else None.
        rounds: of training.
        candidates: releases that it may give to audit.
        others: the other hospitals.
        left_before: lifetime epsilon that is left now.
        left_after: what would be left after the whole study; negative where it does not fit.
    """

    study: str
    plan: str
    question: str
    state: Decision
    why: str
    epsilon: float
    delta: float
    honest: int | None
    rounds: int
    candidates: int
    others: tuple[str, ...]
    left_before: float
    left_after: float


def proposed_studies(home: NodeHome, clock: Clock) -> list[Proposed]:
    """Every study that was proposed, by name.

    Raises:
        InputError: the hospital is not enrolled, or its policy cannot be read.
        LedgerError: the ledger is not intact.
    """
    return sorted(described(home, proposed_plans(home), clock), key=lambda one: one.study)


def proposed_plans(home: NodeHome) -> list[StudyPlan]:
    """The plan of every study that was proposed, by name; first those that a person may still have to decide about.

    Raises:
        InputError: the hospital is not enrolled, or its policy cannot be read.
    """
    found = _plans(home)
    waiting = {plan.study for plan in _undecided(home, found)}
    return sorted(found, key=lambda plan: (plan.study not in waiting, plan.study))


def described(home: NodeHome, plans: Iterable[StudyPlan], clock: Clock) -> list[Proposed]:
    """What some proposed plans would cost here, in their order; seconds for tens of them.

    Raises:
        LedgerError: the ledger is not intact.
    """
    with closing(open_ledger(home, clock)) as ledger:
        return [_described(home, plan, ledger) for plan in plans]


def waiting_for_a_person(home: NodeHome, most: int) -> tuple[list[str], int]:
    """Names of the studies that the rules permit and a person has to decide about.

    Args:
        home: the node.
        most: as many plans are held against the rules.

    Returns:
        The names, and how many further plans nobody has decided about, which were not held against the rules.

    Raises:
        InputError: the hospital is not enrolled, or its policy cannot be read.
    """
    undecided = _undecided(home, _plans(home))
    waiting = [plan.study for plan in undecided[:most] if _state(home, plan)[0] == "waiting"]
    return waiting, len(undecided[most:])


def _plans(home: NodeHome) -> list[StudyPlan]:
    roster, found = pinned_roster(home.state_path), []
    for envelope in proposals(home.state):
        with suppress(IntegrityError, RefusedError):
            found.append(checked_plan(envelope, roster, home.hospital))
    return found


def _undecided(home: NodeHome, plans: Iterable[StudyPlan]) -> list[StudyPlan]:
    approve = home.policy().federation.approve
    return [plan for plan in plans if answer_by_person(home, plan, approve) == "waiting"]


def proposed_study(home: NodeHome, study: str, clock: Clock) -> tuple[StudyPlan, Proposed]:
    """One study: its plan, and what it would cost; both of the same bytes.

    Raises:
        InputError: it was not proposed.
        VerificationError: the consortium's coordinator did not sign it.
        RefusedError: it does not name this hospital.
    """
    plan = checked_plan(proposed(home.state, study), pinned_roster(home.state_path), home.hospital)
    with closing(open_ledger(home, clock)) as ledger:
        return plan, _described(home, plan, ledger)


def require_shown(shown: Proposed, digest: str) -> None:
    """Check that what a person approves is the plan that stands now.

    Args:
        shown: the study as it was read just now.
        digest: of the plan that the person has seen, all of it: whoever makes two plans finds two whose digests begin
            alike.

    Raises:
        InputError: it is another.
    """
    if digest != shown.plan:
        raise InputError(
            f"the plan of {shown.study} is {shown.plan}, not {digest[:64]}",
            remedy="look at it again: sonoshare hospital studies; and give the whole digest",
        )


def _described(home: NodeHome, plan: StudyPlan, ledger: Ledger) -> Proposed:
    policy = home.policy()
    budget = policy.budget
    state, why = _state(home, plan)
    return Proposed(
        study=plan.study,
        plan=plan.digest(),
        question=plan.task.question,
        state=state,
        why=why,
        epsilon=study_epsilon(plan, budget.delta),
        delta=budget.delta,
        honest=plan.honest,
        rounds=plan.rounds,
        candidates=plan.planned_candidates,
        others=tuple(sorted(plan.cohorts.keys() - {home.hospital})),
        left_before=budget.lifetime_epsilon - ledger.spent(budget.delta).epsilon,
        left_after=budget.lifetime_epsilon - epsilon_after(ledger, plan, budget.delta),
    )


def _state(home: NodeHome, plan: StudyPlan) -> tuple[Decision, str]:
    policy = home.policy()
    try:
        check_plan(plan, policy, home.hospital)
    except PolicyError as error:
        return "refused", f"by the rules: {error.message}"
    state, decided = answer_by_person(home, plan, policy.federation.approve), decision_about(home, plan.study)
    if state == "waiting":
        another = decided is not None and decided.plan != plan.digest()
        return state, "another plan of this study was decided on" if another else "for a person here"
    if decided is None or decided.plan != plan.digest():
        return state, "by the rules"
    return state, f"by a person: {decided.reason}" if decided.reason else "by a person"
