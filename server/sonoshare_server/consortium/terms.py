"""What a coordinator decides of a study, with what measured best at this scale where it says nothing.

Defaults are those of docs/model.md, docs/utility.md and docs/adaptation.md. Terms are values: what does not go together
is refused when they are made, and nothing is worked out yet (``studies``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from sonoshare_privacy.audits.membership import LOW_NOISE_TIMES
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import AuditPlan, ReleasePlan, Task
from sonoshare_shared.protocol.documents.plan import Noise, Precision, Profile, Trained
from sonoshare_shared.science.calibration.ballot import Ballot, ballot_from, shipped_ballot
from sonoshare_shared.science.model.profiles import profile_named
from sonoshare_shared.science.precision import FLOAT32
from sonoshare_shared.science.tasks.files import read_task

RATE: Final = 0.25
DRAWS: Final = 2
LEARNING_RATE: Final = 0.02
SAMPLER_STEPS: Final = 8
START_TIME: Final = 120
ATTACKED_TIME: Final = max(LOW_NOISE_TIMES)
"""The latest at which audits attack the model: training never ends before it, unless the coordinator says so."""
EPSILON_CALIBRATION: Final = 1.0
SHARPNESS: Final = 2.0
ROUND_DEADLINE_SECONDS: Final = 1800

DIAGNOSIS: Final = read_task("diagnosis")


@dataclass(frozen=True, kw_only=True)
class StudyTerms:
    """What a coordinator decides; the rest of the plan follows.

    Attributes:
        study: identifier.
        task: clinical question.
        cohorts: nominal trained patients by hospital, as the hospitals declare them.
        audit: audits and their budget.
        epsilon: target of training, calibration and audits together, for each patient.
        delta: at which it holds.
        rounds: federated rounds.
        local_steps: steps of each hospital in a round.
        images: pictures of the release.
        profile: size of the model.
        trained: which parameters are trained.
        base: a base file of the consortium's own; None takes the shipped one.
        epsilon_calibration: what votes on the phantoms of the release cost at each hospital; 0 for no votes.
        ballot: what is voted on; None takes the one that ships for the task, if any.
        sharpness: how strongly phantoms that the votes call typical of their class are preferred.
        start_time: diffusion time from which the phantoms of the release are denoised.
        latest_time: last diffusion time of the training draws, at least ``start_time``; None for the start time, or
            where audits attack if that is later.
        precision: in which hospitals train and the release is drawn.
        rate: Poisson sampling rate of patients.
        draws: draws of one patient in a step.
        learning_rate: in units of each tensor's root mean square.
        warm_steps: in which the first adapter learns phantoms of the task, before a patient is seen.
        candidates: how many candidates may be audited; None for the audit policy's number.
        masked: updates are seen in their sum alone.
        quorum: how many hospitals' updates close a round; None for ``studies.quorum_of``.
        round_deadline_seconds: when a round closes without the missing.
        noise: whose noise hides a patient; pooled noise is masked.
        honest: how many hospitals pooled noise rests on; None for own noise.

    Raises:
        InputError: the release would start later than training ends, pooled noise has no number, or own noise has one.
    """

    study: str
    task: Task
    cohorts: Mapping[str, int]
    audit: AuditPlan
    epsilon: float
    delta: float
    rounds: int
    local_steps: int
    images: int
    profile: Profile
    trained: Trained = "affine"
    base: Path | None = None
    epsilon_calibration: float = EPSILON_CALIBRATION
    ballot: Ballot | None = None
    sharpness: float = SHARPNESS
    start_time: int = START_TIME
    latest_time: int | None = None
    precision: Precision = FLOAT32
    rate: float = RATE
    draws: int = DRAWS
    learning_rate: float = LEARNING_RATE
    warm_steps: int = 0
    candidates: int | None = None
    masked: bool = False
    quorum: int | None = None
    round_deadline_seconds: int = ROUND_DEADLINE_SECONDS
    noise: Noise = "own"
    honest: int | None = None

    def __post_init__(self) -> None:
        if self.last_time < self.start_time:
            raise InputError(
                f"the release is drawn from later times than are trained: from {self.start_time}, training ends at "
                f"{self.last_time}",
                remedy=f"give a --latest-time of {self.start_time} or more, or an earlier --start-time",
            )
        if (self.noise == "pooled") != (self.honest is not None):
            raise InputError(
                "pooled noise and the number of honest hospitals it rests on go together",
                remedy="give --noise pooled with --honest T, or neither (docs/pooled-noise.md)",
            )

    @property
    def last_time(self) -> int:
        """Last diffusion time of the training draws."""
        return max(self.start_time, ATTACKED_TIME) if self.latest_time is None else self.latest_time

    @property
    def release(self) -> ReleasePlan:
        """How the release is drawn: phantoms, denoised from the start time."""
        return ReleasePlan(images=self.images, sampler_steps=SAMPLER_STEPS, start="phantom", start_time=self.start_time)

    @cached_property
    def voted_on(self) -> Ballot | None:
        """What the hospitals' patients vote on; None for no votes."""
        if self.epsilon_calibration <= 0:
            return None
        return self.ballot or shipped_ballot(self.task, profile_named(self.profile).size)


def read_ballot(path: Path) -> Ballot:
    """Read a ballot of the consortium's own.

    Raises:
        InputError: it cannot be read.
        ModelError: it is not one.
    """
    try:
        return ballot_from(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}", remedy="check the path") from error


def parse_cohorts(texts: tuple[str, ...]) -> dict[str, int]:
    """Read ``hospital=patients`` options.

    Raises:
        InputError: one is not of that form, or a hospital stands twice.
    """
    cohorts: dict[str, int] = {}
    for text in texts:
        hospital, separator, patients = text.partition("=")
        if not separator or not patients.isdecimal():
            raise InputError(f"'{text}' is not hospital=patients", remedy="write it like north=150")
        if hospital in cohorts:
            raise InputError(f"--cohort names {hospital} twice", remedy="give each hospital once")
        cohorts[hospital] = int(patients)
    return cohorts
