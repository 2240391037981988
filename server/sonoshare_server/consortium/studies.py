"""Drafting a study: from a budget to a signed-ready plan and the adapter that its first round starts from.

Nothing here sees a patient. The noise multiplier is the smallest whose training, composed with the plan's audits,
keeps the target epsilon; the clip norm is half the median gradient norm of *phantoms* under the base model. Every
hospital recomputes epsilon for itself before it takes part.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch

from sonoshare_privacy.accounting import PureDP, noise_multiplier_for
from sonoshare_privacy.canaries import advisable_count, fewer_in_a_pool
from sonoshare_server.consortium.terms import StudyTerms
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import Mechanism, StudyPlan
from sonoshare_shared.protocol.documents.base import values_given
from sonoshare_shared.protocol.documents.plan import (
    FEWEST_MASKED,
    LAST_TIME,
    CalibrationPlan,
    Trained,
)
from sonoshare_shared.science.calibration.ballot import require_ballot_for
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.model.adapter import (
    AFFINE,
    OUTER,
    adapter_bytes,
    adapter_digest,
    adapter_state,
    prepare,
    trained_parameters,
)
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.diffusion import stratified_times
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import profile_named
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.precision import FLOAT32, computing_in
from sonoshare_shared.science.tasks.phantoms import pathology_shares, start_at_task
from sonoshare_shared.science.tasks.warm_start import WarmStart, warm_start

Told = Callable[[str, int, int], None]
CALIBRATION_PHANTOMS: Final = 16
CALIBRATION_SEED: Final = 20_260
CLIP_SHARE: Final = 0.5
FEWEST_WITH_A_QUORUM: Final = 2
"""So many hospitals and fewer are all needed in every round."""
WITH_CANARIES: Final = (AFFINE, OUTER)
UNKNOWN_BASE: Final = "0" * 64
"""Stands for the base's digest while only the terms are checked."""


def _untold(_what: str, _done: int, _total: int) -> None:
    """Nobody waits."""


@dataclass(frozen=True)
class DraftedStudy:
    """A plan, the adapter of its first round, and the ballot that the plan names, if any."""

    plan: StudyPlan
    adapter: bytes
    adapter_digest: str
    ballot: bytes | None


def draft_study(terms: StudyTerms, device: torch.device = CPU, told: Told = _untold) -> DraftedStudy:
    """Work out the plan of a study.

    Args:
        terms: what the coordinator decides.
        device: where gradients of phantoms are computed, for the clip norm and the warm start.
        told: called with (what is done now, pieces done, pieces in all; 0: they cannot be counted).

    Raises:
        InputError: a term is out of its range, audits and calibration alone use up epsilon, the ballot is for another
            task or size, or no phantom stands for a class of the task.
        ModelError: no base weights for the profile.
    """
    told("working out the noise", 0, 0)
    pathology_shares(terms.task)  # before minutes of accounting, as the next
    draft = _plan(terms, base_digest=UNKNOWN_BASE, mechanism=_mechanism(terms, noise_multiplier=1.0, clip_norm=1.0))
    model, base_digest = load_base(terms.profile, terms.base)
    prepare(model, terms.trained)
    model.to(device)
    mechanism = _mechanism(
        terms,
        noise_multiplier=_noise_multiplier(terms),
        clip_norm=phantom_clip_norm(
            model, terms.trained, terms.draws, draft.last_time, partial(told, "gradients of phantoms")
        ),
    )
    told("weighing canaries", 0, 0)
    plan = _plan(terms, base_digest=base_digest, mechanism=mechanism, canaries=_canaries(model, terms, mechanism))
    start_at_task(model, terms.task)
    parameters = trained_parameters(model, terms.trained)
    learning = partial(told, "steps on phantoms")
    warm_start(model, parameters, terms.task, WarmStart(steps=terms.warm_steps, latest_time=plan.last_time), learning)
    state = adapter_state(model, terms.trained)
    ballot = None if terms.voted_on is None else terms.voted_on.to_bytes()
    return DraftedStudy(plan, adapter_bytes(state), adapter_digest(state), ballot)


def quorum_of(hospitals: int, *, masked: bool = False, honest: int = 0) -> int:
    """How many updates close a round where a study does not say: all of two hospitals, else two thirds, rounded up.

    It is never fewer than the hospitals that hold the log with any that acts (half of them and itself), so a round that
    closes could also begin. A masked round has three at least, where there are three, and a pooled one its honest ones.
    """
    usual = hospitals if hospitals <= FEWEST_WITH_A_QUORUM else -(-2 * hospitals // 3)
    return max(usual, honest, min(hospitals, FEWEST_MASKED) if masked else 0)


def _noise_multiplier(terms: StudyTerms) -> float:
    audits = terms.audit.epsilons * (terms.candidates or terms.audit.max_candidates)
    calibration = _calibration(terms)
    votes = () if calibration is None else (calibration.epsilon,)
    beside = tuple(PureDP(epsilon) for epsilon in (*votes, *audits))
    steps = terms.rounds * terms.local_steps
    return noise_multiplier_for(terms.epsilon, terms.delta, terms.rate, steps, beside=beside)


def _mechanism(terms: StudyTerms, *, noise_multiplier: float, clip_norm: float) -> Mechanism:
    with values_given("the study"):
        return Mechanism(
            rate=terms.rate,
            noise_multiplier=noise_multiplier,
            clip_norm=clip_norm,
            draws=terms.draws,
            delta=terms.delta,
        )


def _plan(terms: StudyTerms, *, base_digest: str, mechanism: Mechanism, canaries: int = 0) -> StudyPlan:
    masked = terms.masked or terms.honest is not None
    usual = quorum_of(len(terms.cohorts), masked=masked, honest=terms.honest or 0)
    with values_given("the study"):
        return StudyPlan(
            study=terms.study,
            task=terms.task,
            profile=terms.profile,
            base_digest=base_digest,
            trained=terms.trained,
            rounds=terms.rounds,
            local_steps=terms.local_steps,
            mechanism=mechanism,
            learning_rate=terms.learning_rate,
            cohorts=dict(terms.cohorts),
            quorum=usual if terms.quorum is None else terms.quorum,
            round_deadline_seconds=terms.round_deadline_seconds,
            audit=terms.audit,
            release=terms.release,
            canaries=canaries,
            calibration=_calibration(terms),
            precision=None if terms.precision == FLOAT32 else terms.precision,  # left out: the plan of before
            latest_time=None if terms.last_time == LAST_TIME else terms.last_time,  # left out: the plan of before
            candidates=terms.candidates,
            masked=masked or None,  # left out: the plan of before
            noise="pooled" if terms.honest else None,
            honest=terms.honest,
        )


def _calibration(terms: StudyTerms) -> CalibrationPlan | None:
    ballot = terms.voted_on
    if ballot is None:
        return None
    require_ballot_for(ballot, terms.task, profile_named(terms.profile).size)
    return CalibrationPlan(epsilon=terms.epsilon_calibration, ballot=ballot.digest(), sharpness=terms.sharpness)


def _canaries(model: ConditionedUNet, terms: StudyTerms, mechanism: Mechanism) -> int:
    """As many canaries as a study can have undisturbed; in a full one their gradients would fill the memory."""
    if terms.trained not in WITH_CANARIES:
        return 0
    dimension = sum(parameter.numel() for parameter in trained_parameters(model, terms.trained).values())
    count = advisable_count(dimension, mechanism, terms.rounds * terms.local_steps)
    # Where noise is pooled, the canaries of all hospitals are in one sum, and must not disturb it together.
    return count if terms.honest is None else fewer_in_a_pool(count, len(terms.cohorts))


def phantom_clip_norm(
    model: ConditionedUNet,
    trained: Trained,
    draws: int,
    latest: int = LAST_TIME,
    told: Callable[[int, int], None] | None = None,
) -> float:
    """Half the median L2 norm of one phantom's mean gradient over its draws at times 0..latest: a public constant.

    It is computed in float32. ``told`` is called with (phantoms done, phantoms in all).
    """
    device = next(model.parameters()).device
    parameters = list(trained_parameters(model, trained).values())
    phantoms = simulate(CALIBRATION_PHANTOMS, seed=CALIBRATION_SEED, size=model.profile.size)
    generator = torch.Generator().manual_seed(CALIBRATION_SEED)
    norms = []
    for i in range(CALIBRATION_PHANTOMS):
        rows = [i] * draws
        condition = Condition.of(phantoms.labels[rows], phantoms.scanners[rows], phantoms.boxes[rows])
        images = torch.from_numpy(phantoms.images[rows])[:, None].to(device)
        masks = torch.from_numpy(phantoms.masks[rows])[:, None].to(device)
        noise = torch.randn(images.shape, generator=generator).to(device)
        t = stratified_times(draws, generator, latest).to(device)
        with computing_in(FLOAT32):
            loss = denoising_loss(model, images, masks, condition.to(device), t, noise).mean()
            gradients = torch.autograd.grad(loss, parameters)
        norms.append(math.sqrt(sum(float(g.double().square().sum()) for g in gradients)))
        if told is not None:
            told(i + 1, CALIBRATION_PHANTOMS)
    norm = CLIP_SHARE * float(np.median(norms))
    if not (math.isfinite(norm) and norm > 0):
        raise InputError("the base model has no usable gradient on phantoms", remedy="train the base again")
    # Six digits are plenty, and the same on every processor.
    return float(f"{norm:.6g}")
