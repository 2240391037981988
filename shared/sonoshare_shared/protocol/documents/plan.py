"""What a study does: the task, the mechanism, the audits and the release, all public constants.

A plan is signed by the coordinator and checked by every hospital against its own policy before anything is
read. Everything that privacy depends on is here and nowhere else: sampling rate, noise, clip norm, number of
steps, divisor and weights are constants of the plan, never functions of a private number of patients.
"""

import hashlib
import math
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, added
from sonoshare_shared.protocol.documents.charge import (
    FEWEST_HONEST,
    MOST_HONEST,
    Gaussian,
    PooledGaussian,
    SampledGaussian,
)

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Profile = Literal["tiny", "small", "medium", "large"]
Trained = Literal["affine", "outer", "lora", "full"]
Precision = Literal["float32", "tf32", "bfloat16"]
Noise = Literal["own", "pooled"]

LAST_TIME: Final = 999
"""Of the diffusion's times, which begin at 0."""
NOISE_TIME: Final = 990
"""Where sampling from noise begins."""
MOST_CANDIDATES: Final = 16
MOST_SEEDS: Final = 2**53
FEWEST_MASKED: Final = 3
"""Hospitals of a masked sum: of two, each could take its own update off the sum and hold the other's."""
PLAN_PAYLOAD_TYPE = "application/vnd.sonoshare.plan+json"


class Task(Document):
    """A clinical question.

    Attributes:
        name: short name, also the adapter's name.
        question: the question in words.
        classes: class names; a class's position is its index.
        scanners: device names; a scanner's position is its slot in the model. A device not listed is unknown.
        phantoms: for each class the simulator's pathologies that stand for it, with their shares; empty where the
            classes are pathologies themselves.
    """

    schema_: Literal["sonoshare/task/v1"] = Field(default="sonoshare/task/v1", alias="schema")
    name: Identifier
    question: str
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=8)]
    scanners: Annotated[tuple[str, ...], Field(max_length=8)] = ()
    phantoms: dict[str, Annotated[dict[str, Share], Field(min_length=1)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.classes)) != len(self.classes) or len(set(self.scanners)) != len(self.scanners):
            raise ValueError("classes and scanners must be distinct")
        if self.phantoms and set(self.phantoms) != set(self.classes):
            raise ValueError("phantoms must be given for every class, or for none")
        return self


class Mechanism(Document):
    """The sampled Gaussian mechanism of one training step (neighbouring: add or remove one patient).

    Attributes:
        rate: Poisson sampling rate q of patients.
        noise_multiplier: sigma; the noise added to the clipped sum has standard deviation sigma times clip_norm.
        clip_norm: C, bound on the L2 norm of one patient's contribution.
        draws: K, draws (image, time, noise, augmentation) averaged in one patient's contribution.
        clip_mode: ``clip`` scales down what is larger than C; ``normalise`` scales every contribution to C.
        delta: the delta at which epsilon is stated.
    """

    rate: Annotated[float, Field(gt=0, le=1)]
    noise_multiplier: Annotated[float, Field(ge=1 / 64, le=1e6)]
    clip_norm: Annotated[float, Field(ge=1e-9, le=1e9)]
    draws: Annotated[int, Field(ge=1, le=256)]
    clip_mode: Literal["clip", "normalise"] = "clip"
    delta: Annotated[float, Field(gt=0, lt=1e-2)]


class VetoPlan(Document):
    """Patients may have near-copies of their own images dropped; on top of the verdict, which it never changes.

    Attributes:
        epsilon: what each hospital's votes cost its patients.
        threshold: noisy votes of all hospitals together from which a cluster of images is dropped.
    """

    epsilon: Annotated[float, Field(gt=0)]
    threshold: Annotated[int, Field(ge=1, le=1000)] = 1


class AuditPlan(Document):
    """What every hospital must measure on its own patients before a release, and when it passes.

    Attributes:
        held_out_fraction: fraction of patients that are never trained on.
        epsilon_copies: budget of the copy audit.
        epsilon_membership: budget of the membership audit.
        tolerated_share: share of trained patients whose images may be copied before PASS is impossible.
        tolerated_auc: membership AUC at which PASS is impossible.
        alpha: error probability of each bound.
        max_candidates: how many candidates of a study may be audited, where its plan says no number of its own.
        veto: private votes on clusters of images; None (the default) for none.
    """

    held_out_fraction: Fraction
    epsilon_copies: Annotated[float, Field(gt=0)]
    epsilon_membership: Annotated[float, Field(gt=0)]
    tolerated_share: Fraction
    tolerated_auc: Annotated[float, Field(gt=0.5, lt=1)]
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    max_candidates: Annotated[int, Field(ge=1, le=MOST_CANDIDATES)] = 1
    veto: VetoPlan | None = None

    @property
    def epsilons(self) -> tuple[float, ...]:
        """Pure epsilons that one audit charges."""
        votes = () if self.veto is None else (self.veto.epsilon,)
        return (self.epsilon_copies, self.epsilon_membership, *votes)


class CalibrationPlan(Document):
    """Patients vote on which kinds of phantoms a release is drawn from, once, before it is drawn.

    Attributes:
        epsilon: what each hospital's votes cost its trained patients.
        ballot: sha256 of the ballot, which is made from phantoms alone.
        sharpness: how strongly phantoms whose lesion is typical of their class are preferred; 0: kinds are drawn as
            often as patients voted for them.
    """

    epsilon: Annotated[float, Field(gt=0)]
    ballot: HexDigest
    sharpness: Annotated[float, Field(ge=0, le=20)]


class ReleasePlan(Document):
    """How the synthetic images are drawn; class-balanced, conditions from public priors.

    Attributes:
        images: number of candidate images.
        sampler_steps: DPM-Solver++ steps of the whole time range; from a phantom at most ``start_time``.
        start: from ``noise``, or from a ``phantom`` that the model refines.
        start_time: noise level (of 1000) at which a phantom is entered; unused from noise.
        guidance: classifier-free guidance weight (0: none).
        seed: seed of the draws of the first candidate; of later ones see ``StudyPlan.seed_of``.
    """

    images: Annotated[int, Field(ge=2, le=1_000_000)]
    sampler_steps: Annotated[int, Field(ge=2, le=1000)]
    start: Literal["noise", "phantom"]
    start_time: Annotated[int, Field(ge=1, le=NOISE_TIME)] = 120
    guidance: Annotated[float, Field(ge=0, le=20)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=MOST_SEEDS)] = 0

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.start == "phantom" and self.sampler_steps > self.start_time:
            raise ValueError("more sampler steps than the start time holds")
        return self

    @property
    def first_time(self) -> int:
        """The latest diffusion time at which the release asks the model."""
        return self.start_time if self.start == "phantom" else NOISE_TIME


class StudyPlan(Document):
    """Everything a study does. See the module's contract.

    Attributes:
        study: identifier.
        task: the clinical question.
        profile: size of the model.
        base_digest: sha256 of the base weights file.
        trained: which parameters are trained.
        rounds: federated rounds.
        local_steps: DP-SGD steps of each hospital in each round.
        mechanism: the mechanism of one step.
        learning_rate: of the hospital's optimiser, in units of each tensor's root mean square.
        cohorts: nominal number of *trained* patients by hospital, a public constant declared by the hospital.
        quorum: how many hospitals' updates close a round.
        round_deadline_seconds: when a round closes without the missing.
        audit: what is measured before a release.
        release: how a release is drawn.
        canaries: pseudo-patients of each hospital that test from within whether the mechanism that ran is this one; 0
            for none.
        calibration: private votes on the phantoms of the release; None for none.
        precision: in which hospitals train and the release is drawn (``sonoshare_shared.science.precision``); None, as
            in every plan that does not name one, is ``float32``. Audits and votes compute in float32 always.
        latest_time: last diffusion time (of 1000) of the training draws, at least the time at which the release is
            entered; None draws them from all times.
        candidates: how many candidates may be audited, each paid for in advance; None: as many as the audits say
            (``audit.max_candidates``). Use ``planned_candidates``.
        noise: ``own`` (also None, as in every plan that does not say): each hospital's update is private by itself.
            ``pooled``: each adds a share, and a sum is private as long as ``honest`` hospitals in it are honest.
        honest: t of a plan with pooled noise; None in all others.
        masked: updates leave the hospitals under masks that cancel in the sum alone (docs/masking.md); None, as in
            every plan that does not say so, lets the coordinator see each hospital's.
    """

    schema_: Literal["sonoshare/plan/v1"] = Field(default="sonoshare/plan/v1", alias="schema")
    study: Identifier
    task: Task
    profile: Profile
    base_digest: HexDigest
    trained: Trained
    rounds: Annotated[int, Field(ge=1, le=10_000)]
    local_steps: Annotated[int, Field(ge=1, le=100_000)]
    mechanism: Mechanism
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    cohorts: Annotated[dict[Identifier, Annotated[int, Field(ge=1)]], Field(min_length=1)]
    quorum: Annotated[int, Field(ge=1)]
    round_deadline_seconds: Annotated[int, Field(ge=1)]
    audit: AuditPlan
    release: ReleasePlan
    canaries: Annotated[int, Field(ge=0, le=1000)] = 0
    calibration: CalibrationPlan | None = None
    precision: Precision | None = added()
    latest_time: Annotated[int | None, Field(ge=1, le=LAST_TIME)] = added()
    candidates: Annotated[int | None, Field(ge=1, le=MOST_CANDIDATES)] = added()
    noise: Noise | None = added()
    honest: Annotated[int | None, Field(ge=FEWEST_HONEST, le=MOST_HONEST)] = added()
    masked: Literal[True] | None = added()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.quorum > len(self.cohorts):
            raise ValueError("quorum is larger than the number of hospitals")
        if self.mechanism.delta * max(self.cohorts.values()) >= 1:
            raise ValueError("delta must be smaller than 1 / nominal cohort")
        if self.latest_time is not None and self.latest_time < self.release.first_time:
            raise ValueError("the release is drawn from later times than are trained")
        if self.masked and self.quorum < FEWEST_MASKED:
            raise ValueError("a masked round needs a quorum of three: of two, each can take its own update off the sum")
        return self

    @model_validator(mode="after")
    def _noise_is_whole(self) -> Self:
        if not self.pools:
            if self.honest is not None:
                raise ValueError("honest hospitals are counted where the noise is pooled")
            return self
        if self.honest is None:
            raise ValueError("pooled noise needs the number of honest hospitals that it rests on")
        if not self.masked:
            raise ValueError("pooled noise needs masked sums: a share by itself is not private enough")
        if self.honest > self.quorum:
            raise ValueError("the quorum must be at least the number of honest hospitals")
        if self.local_steps != 1:
            raise ValueError("pooled noise needs one step in each round: later ones would start from an unnoised model")
        return self

    def divisor(self, hospital: str) -> float:
        """Public divisor of a hospital's noisy sums: rate times nominal cohort."""
        return self.mechanism.rate * self.cohorts[hospital]

    def weight(self, hospital: str) -> float:
        """Public aggregation weight of a hospital's update: its share of the nominal cohorts."""
        return self.cohorts[hospital] / math.fsum(self.cohorts.values())

    @property
    def computes_in(self) -> Precision:
        """The precision of training and drawing."""
        return self.precision or "float32"

    @property
    def epsilons(self) -> tuple[float, ...]:
        """Pure epsilons that a study may charge besides its training: calibration, and all audits it allows."""
        return self.epsilons_with(self.planned_candidates)

    def epsilons_with(self, candidates: int) -> tuple[float, ...]:
        """Pure epsilons besides the training if so many candidates are audited."""
        votes = () if self.calibration is None else (self.calibration.epsilon,)
        return (*votes, *self.audit.epsilons * candidates)

    @property
    def planned_candidates(self) -> int:
        """How many candidates of the study may be audited; all of them are charged in advance."""
        return self.audit.max_candidates if self.candidates is None else self.candidates

    def seed_of(self, number: int) -> int:
        """Seed of the draws of a candidate: the release's own for the first, and one derived from it for each later.

        A later candidate is other images, and nobody chooses which: everybody can compute its seed from the plan.

        Args:
            number: the candidate's place among those of the study, from 1.
        """
        if number == 1:
            return self.release.seed
        stream = f"sonoshare candidate {self.study} {self.release.seed} {number}".encode()
        return int.from_bytes(hashlib.sha256(stream).digest()[:8], "big") % MOST_SEEDS

    @property
    def last_time(self) -> int:
        """Last diffusion time of the training draws."""
        return LAST_TIME if self.latest_time is None else self.latest_time

    @property
    def steps(self) -> int:
        """Steps of each hospital in the whole study."""
        return self.rounds * self.local_steps

    @property
    def pools(self) -> bool:
        """Whether hospitals share the noise."""
        return self.noise == "pooled"

    def charged(self, steps: int) -> Gaussian:
        """What so many steps of training are charged as."""
        mechanism = self.mechanism
        if self.honest is None:
            return SampledGaussian(mechanism.rate, mechanism.noise_multiplier, steps)
        return PooledGaussian(mechanism.rate, mechanism.noise_multiplier, steps, self.honest)
