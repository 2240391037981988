"""The check of a study plan against the hospital's own rules.

- The hospital computes epsilon itself from the plan's mechanism (PLD accountant, neighbouring relation: add or
  remove one patient with all images). A figure that a coordinator states is not even an input.
- Audits cost too: every candidate that may be audited is counted, whether or not it will be.
- What is checked here are public constants only. Whether the vault fits a study is the hospital's own question
  (``sonoshare_client.own_eyes.fit``): no answer to the federation depends on it.

Not promised: that the budget is still there. The ledger decides that, durably, before the first gradient.
"""

import base64
import json
import math
from pathlib import Path
from typing import Final

from sonoshare_client.node.policy import Policy, TrainingRules
from sonoshare_client.node.pooled_policy import check_noise
from sonoshare_shared.bounded import read_bounded
from sonoshare_shared.errors import InputError, IntegrityError, PolicyError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.charge import Event, PureDP
from sonoshare_shared.protocol.envelope import MAX_ENVELOPE_BYTES

STAND_ALONE: Final = "stand-alone-audits"
"""What audits outside of any study are charged to; no study may be called so."""
_ROUNDING = 1e-9  # the same delta, written once as 1 / (10 N) and once as 0.1 / N, is the same


def read_plan(path: Path) -> StudyPlan:
    """Read a study plan, bare or in a signed envelope whose signature is *not* checked here.

    Raises:
        InputError: no such file, or not a plan.
    """
    try:
        data = read_bounded(path, MAX_ENVELOPE_BYTES)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read", remedy="check the path") from error
    try:
        content = json.loads(data)
        if isinstance(content, dict) and "payload" in content:
            data = base64.b64decode(content["payload"])
        return StudyPlan.from_bytes(data)
    except (ValueError, TypeError, IntegrityError) as error:
        raise InputError(f"{path.name} is not a study plan", remedy="take it from the coordinator again") from error


def training_epsilon(plan: StudyPlan, delta: float) -> float:
    """Epsilon of a plan's whole training at a hospital that takes part in every round."""
    from sonoshare_privacy.accounting import epsilon  # noqa: PLC0415 - heavy, and not for reading

    return epsilon([plan.charged(plan.steps)], delta)


def study_events(plan: StudyPlan, candidates: int | None = None) -> list[Event]:
    """Everything that a plan may charge a hospital: its training, its calibration and all audits it allows.

    Args:
        plan: the plan.
        candidates: how many candidates are audited; None for all that are planned.
    """
    audited = plan.planned_candidates if candidates is None else candidates
    return [plan.charged(plan.steps), *(PureDP(each) for each in plan.epsilons_with(audited))]


def study_epsilon(plan: StudyPlan, delta: float) -> float:
    """Epsilon of a plan's training, its calibration and all audits it allows, composed."""
    from sonoshare_privacy.accounting import epsilon  # noqa: PLC0415 - see above

    return epsilon(study_events(plan), delta)


def check_plan(plan: StudyPlan, policy: Policy, hospital: str) -> float:
    """Check a study plan against the hospital's rules.

    Args:
        plan: the plan; its signature is checked by the caller.
        policy: the hospital's rules.
        hospital: this hospital's id.

    Returns:
        Epsilon of the whole study with its audits at the policy's delta, as the hospital computes it.

    Raises:
        PolicyError: the first rule that the plan breaks, and who can do what about it.
    """
    if plan.study == STAND_ALONE:  # its charges would be taken for the hospital's own
        raise PolicyError(f"no study may be called {STAND_ALONE}", remedy="ask for the study under another name")
    _check_cohort_constant(plan, policy, hospital)
    _check_training(plan, policy)
    _check_masking(plan, policy)
    _check_audit(plan, policy)
    spent = study_epsilon(plan, policy.budget.delta)
    if not spent <= policy.budget.study_epsilon:
        raise PolicyError(
            f"the study would cost epsilon {spent:.3f} with its audits; the policy allows "
            f"{policy.budget.study_epsilon:g} at delta {policy.budget.delta:g}",
            remedy="ask for more noise or fewer steps, or raise budget.study_epsilon",
        )
    if not math.isfinite(study_epsilon(plan, plan.mechanism.delta)):
        # A statement says what was spent at the plan's delta: it could not be made once the audit was charged.
        raise PolicyError(f"no epsilon holds at delta {plan.mechanism.delta:g}", remedy="ask for a larger delta")
    return spent


def _check_cohort_constant(plan: StudyPlan, policy: Policy, hospital: str) -> None:
    nominal = plan.cohorts.get(hospital)
    if nominal is None:
        raise PolicyError(f"the plan does not name hospital {hospital}", remedy="ask the coordinator to admit it")
    if nominal != policy.cohort.nominal:
        raise PolicyError(
            f"the plan counts {nominal} patients here; this hospital declares {policy.cohort.nominal}",
            remedy="ask the coordinator to plan with the declared number",
        )
    delta = plan.mechanism.delta
    if delta * nominal >= 1:
        raise PolicyError(
            f"delta {delta:g} is not smaller than 1 / {nominal}, the nominal cohort",
            remedy="ask for a smaller delta",
        )
    if delta > policy.budget.delta * (1 + _ROUNDING):
        raise PolicyError(
            f"delta {delta:g} is larger than the policy's {policy.budget.delta:g}", remedy="ask for a smaller delta"
        )


def _check_training(plan: StudyPlan, policy: Policy) -> None:
    rules = policy.training
    if plan.trained not in rules.trained:
        raise PolicyError(
            f"the plan trains '{plan.trained}'; the policy permits {', '.join(rules.trained)}",
            remedy="ask for another adapter, or add it to training.trained",
        )
    if rules.bases != "any" and plan.base_digest not in rules.bases:
        raise PolicyError(
            "the policy does not permit the plan's base weights", remedy="add their digest to training.bases"
        )
    if plan.computes_in not in rules.precisions:
        raise PolicyError(
            f"the plan computes in '{plan.computes_in}'; the policy permits {', '.join(rules.precisions)}",
            remedy="ask for another precision, or add it to training.precisions",
        )
    check_noise(plan, rules.noise, rules.maximum_colluding)
    _check_mechanism(plan, rules)
    votes = 0.0 if plan.calibration is None else plan.calibration.epsilon
    if votes > rules.maximum_epsilon_calibration:
        raise PolicyError(
            f"the plan's calibration costs epsilon {votes:g}; the policy permits {rules.maximum_epsilon_calibration:g}",
            remedy="ask for less, or raise training.maximum_epsilon_calibration",
        )


def _check_masking(plan: StudyPlan, policy: Policy) -> None:
    rule = policy.federation.masking
    if rule == "required" and not plan.masked:
        raise PolicyError(
            "the plan lets the coordinator see this hospital's updates; the policy requires masked sums",
            remedy="ask for a study with --masked, or set federation.masking to any",
        )
    if rule == "refused" and plan.masked:
        raise PolicyError(
            "the plan masks updates; the policy refuses masked sums",
            remedy="ask for a study without, or set federation.masking to any",
        )


def _check_mechanism(plan: StudyPlan, rules: TrainingRules) -> None:
    """Every public constant of the mechanism within its bounds; a number that is not one is within none."""
    mechanism = plan.mechanism
    if mechanism.clip_mode not in rules.clip_modes:
        raise PolicyError(
            f"the plan clips by '{mechanism.clip_mode}'; the policy permits {', '.join(rules.clip_modes)}",
            remedy="ask for another clip mode, or add it to training.clip_modes",
        )
    for what, planned, rule, most in (
        ("draws", mechanism.draws, "maximum_draws", rules.maximum_draws),
        ("rounds", plan.rounds, "maximum_rounds", rules.maximum_rounds),
        ("local steps", plan.local_steps, "maximum_local_steps", rules.maximum_local_steps),
        ("steps", plan.steps, "maximum_steps", rules.maximum_steps),
        ("as sampling rate", mechanism.rate, "maximum_rate", rules.maximum_rate),
        ("as clip norm", mechanism.clip_norm, "maximum_clip_norm", rules.maximum_clip_norm),
    ):
        if not planned <= most:
            raise PolicyError(
                f"the plan wants {planned:g} {what}; the policy permits {most:g}",
                remedy=f"ask for less, or raise training.{rule}",
            )
    for what, planned, rule, least in (
        ("as clip norm", mechanism.clip_norm, "minimum_clip_norm", rules.minimum_clip_norm),
        ("as noise multiplier", mechanism.noise_multiplier, "minimum_noise_multiplier", rules.minimum_noise_multiplier),
        ("canaries", plan.canaries, "minimum_canaries", rules.minimum_canaries),
        ("as last time of its draws", plan.last_time, "minimum_latest_time", rules.minimum_latest_time),
    ):
        if not planned >= least:
            raise PolicyError(
                f"the plan wants {planned:g} {what}; the policy asks for {least:g} at least",
                remedy=f"ask for more, or lower training.{rule}",
            )


def _check_audit(plan: StudyPlan, policy: Policy) -> None:
    audit, rules = plan.audit, policy.audit
    for name, planned, most in (
        ("epsilon_copies", audit.epsilon_copies, rules.maximum_epsilon_copies),
        ("epsilon_membership", audit.epsilon_membership, rules.maximum_epsilon_membership),
        ("epsilon_veto", 0.0 if audit.veto is None else audit.veto.epsilon, rules.maximum_epsilon_veto),
        ("tolerated_share", audit.tolerated_share, rules.maximum_tolerated_share),
        ("tolerated_auc", audit.tolerated_auc, rules.maximum_tolerated_auc),
        ("alpha", audit.alpha, rules.maximum_alpha),
    ):
        if planned > most:
            raise PolicyError(
                f"the plan's audit.{name} is {planned:g}; the policy permits {most:g}",
                remedy=f"ask for less, or raise audit.maximum_{name}",
            )
    if plan.planned_candidates > rules.maximum_candidates:
        raise PolicyError(
            f"the plan has {plan.planned_candidates} candidates; the policy permits {rules.maximum_candidates}",
            remedy="ask for fewer, or raise audit.maximum_candidates",
        )
    if audit.held_out_fraction > policy.cohort.held_out_fraction:
        raise PolicyError(
            f"the plan rests on {audit.held_out_fraction:g} of the patients held out; this hospital holds out "
            f"{policy.cohort.held_out_fraction:g}",
            remedy="ask the coordinator to plan with the hospital's fraction",
        )
