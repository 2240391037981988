"""Whether this hospital does what a plan asks: signature, rules, and the person who may have to decide first.

Asked before every request that would be charged (``permitted``), and when a study is proposed (``answer_to_proposal``):
then nothing is charged and no patient is read, and the answer says what any refusal before a charge says.
"""

from contextlib import suppress

from sonoshare_client.agent.node import Node
from sonoshare_client.node.approvals import answer_by_person, decision_about, keep_proposal, require_approved
from sonoshare_client.node.ledger import epsilon_after
from sonoshare_client.node.plan_check import check_plan
from sonoshare_client.node.policy import Policy
from sonoshare_client.node.witness import checked_plan
from sonoshare_shared.errors import BudgetError, PolicyError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.proposal import ANSWER_PAYLOAD_TYPE, MOST_WORDS, PlanAnswer
from sonoshare_shared.protocol.envelope import Envelope


def permitted(node: Node, envelope: Envelope) -> StudyPlan:
    """The plan in an envelope, if this hospital takes part in it now.

    Raises:
        VerificationError: the consortium's coordinator did not sign it.
        RefusedError: the rules, a person or the ledger's state say no.
    """
    plan, policy = checked_plan(envelope, node.roster(), node.hospital), node.home.policy()
    _require_rules(node, plan, policy)
    with suppress(PolicyError):  # not even to be kept: nobody can have approved it, and rules alone need no copy
        keep_proposal(node.home.state, plan.study, envelope)
    require_approved(node.home, plan, policy.federation.approve)
    node.ledger.verify()
    return plan


def answer_to_proposal(node: Node, envelope: Envelope) -> Envelope:
    """What this hospital says to a proposed plan, signed.

    Raises:
        VerificationError: the consortium's coordinator did not sign it: then it is answered nothing.
        RefusedError: the roster has expired, or the plan does not name this hospital.
    """
    plan = checked_plan(envelope, node.roster(), node.hospital)
    keep_proposal(node.home.state, plan.study, envelope)
    answer = _answer(node, plan, node.home.policy())
    node.record("proposed", study=plan.study, answer=answer.answer, reason=answer.reason)
    return Envelope.sign(ANSWER_PAYLOAD_TYPE, answer.canonical(), node.key)


def _answer(node: Node, plan: StudyPlan, policy: Policy) -> PlanAnswer:
    def says(answer: str, reason: str = "", remedy: str = "") -> PlanAnswer:
        words = {"reason": reason[:MOST_WORDS], "remedy": remedy[:MOST_WORDS]}
        of = {"hospital": node.hospital, "study": plan.study, "plan_digest": plan.digest()}
        return PlanAnswer.model_validate({**of, "answer": answer, **words})

    try:
        _require_rules(node, plan, policy)
        _require_room(node, plan, policy)
    except (PolicyError, BudgetError) as error:
        return says("refused", error.message, error.remedy)
    answer = answer_by_person(node.home, plan, policy.federation.approve)
    decided = decision_about(node.home, plan.study)
    reason = decided.reason if answer == "refused" and decided is not None else ""
    return says(answer, reason)


def _require_rules(node: Node, plan: StudyPlan, policy: Policy) -> None:
    if plan.digest_of("audit") != node.roster().audit_policy:
        raise PolicyError("the plan's audits are not the consortium's", remedy="ask the coordinator")
    check_plan(plan, policy, node.hospital)


def _require_room(node: Node, plan: StudyPlan, policy: Policy) -> None:
    """Whether the whole study fits what is left: worked out from charges alone, which are public constants."""
    rules = policy.budget
    if epsilon_after(node.ledger, plan, rules.delta) > rules.lifetime_epsilon:
        raise BudgetError(
            "the whole study does not fit what is left of the hospital's lifetime budget",
            remedy="ask for a smaller study, or ask the hospital",
        )
