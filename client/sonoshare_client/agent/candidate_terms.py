"""What a candidate must be before a hospital keeps or audits it, by public things alone.

Asked when its listing arrives, so that nothing else of a wrong one is kept, and again before its audit is charged.
"""

from sonoshare_client.agent.node import Node
from sonoshare_shared.errors import IntegrityError, RefusedError
from sonoshare_shared.protocol.closed_rounds import require_closed_with
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.release.candidate import UNKNOWN_SCANNER, Candidate, require_planned
from sonoshare_shared.science.model.profiles import profile_named


def require_candidate(node: Node, plan: StudyPlan, release: str, candidate: Candidate) -> None:
    """Check that a candidate is the one that the log shows, drawn as its plan says.

    Args:
        node: the hospital.
        plan: checked plan.
        release: identifier that the log shows the candidate for.
        candidate: its listing, with the digest that the log shows.

    Raises:
        IntegrityError: it is not.
    """
    require_asked_for(plan, release, candidate)
    _require_of_plan(plan, candidate)
    require_planned(candidate, plan)
    if place_of(node, plan, release) != candidate.place:
        raise IntegrityError("the candidate was drawn for another place among those of its study", remedy="draw again")
    require_closed_with(node.log.index, plan.study, plan.rounds, candidate.model_digest)


def require_asked_for(plan: StudyPlan, release: str, candidate: Candidate) -> None:
    """Check that a candidate is of a plan and a release.

    Raises:
        IntegrityError: it is not.
    """
    if (candidate.study, candidate.release, candidate.plan_digest) != (plan.study, release, plan.digest()):
        raise IntegrityError("the candidate is not of this study plan")


def require_one_of_the_planned(node: Node, plan: StudyPlan, release: str) -> None:
    """Refuse a candidate beyond those that the plan has before anything of it is kept.

    Raises:
        RefusedError: by the log it has a place that the plan has not.
    """
    if place_of(node, plan, release) > plan.planned_candidates:
        raise RefusedError(
            f"the candidate is one more than the {plan.planned_candidates} that the plan has",
            remedy="create a study with more --candidates",
        )


def place_of(node: Node, plan: StudyPlan, release: str) -> int:
    """The place that the log gives a candidate among those of its study, from 1."""
    return node.log.index.candidates(plan.study).index(release) + 1


def _require_of_plan(plan: StudyPlan, candidate: Candidate) -> None:
    """Size and number are the plan's: what an audit costs in memory and time is settled by what was agreed to.

    Names are the task's: a hospital signs no free text beside a picture.
    """
    if candidate.size != profile_named(plan.profile).size or len(candidate.images) > plan.release.images:
        raise IntegrityError("the candidate has other or more pictures than the plan", remedy="sample it by the plan")
    classes, scanners = set(plan.task.classes), {*plan.task.scanners, UNKNOWN_SCANNER}
    if any(image.label not in classes or image.scanner not in scanners for image in candidate.images):
        raise IntegrityError("the candidate names classes or scanners that its task has not", remedy="sample it again")
