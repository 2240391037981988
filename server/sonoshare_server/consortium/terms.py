"""The terms that commands and the demonstration propose, and how their options are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sonoshare_privacy.audits.membership import LOW_NOISE_TIMES
from sonoshare_server.consortium.studies import StudyTerms
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents import AuditPlan, ReleasePlan, Task
from sonoshare_shared.protocol.documents.plan import LAST_TIME, Noise, Precision, Profile, Trained
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
"""The latest at which audits attack the model: training never ends before it."""
EPSILON_CALIBRATION: Final = 1.0
SHARPNESS: Final = 2.0
ROUND_DEADLINE_SECONDS: Final = 1800

DIAGNOSIS: Final = read_task("diagnosis")


def _honest(noise: Noise, honest: int | None) -> int | None:
    """How many honest hospitals a study rests on.

    Raises:
        InputError: pooled noise without a number, or a number without pooled noise.
    """
    if (noise == "pooled") != (honest is not None):
        raise InputError(
            "pooled noise and the number of honest hospitals it rests on go together",
            remedy="give --noise pooled with --honest T, or neither (docs/pooled-noise.md)",
        )
    return honest


def study_terms(
    name: str,
    task: Task,
    cohorts: Mapping[str, int],
    *,
    audit: AuditPlan,
    epsilon: float,
    delta: float,
    rounds: int,
    local_steps: int,
    images: int,
    profile: Profile,
    trained: Trained = "affine",
    base: Path | None = None,
    epsilon_calibration: float = EPSILON_CALIBRATION,
    ballot: Path | None = None,
    sharpness: float = SHARPNESS,
    start_time: int = START_TIME,
    precision: Precision = FLOAT32,
    latest_time: int | None = None,
    rate: float = RATE,
    draws: int = DRAWS,
    learning_rate: float = LEARNING_RATE,
    warm_steps: int = 0,
    candidates: int | None = None,
    masked: bool = False,
    quorum: int | None = None,
    round_deadline: int = ROUND_DEADLINE_SECONDS,
    noise: Noise = "own",
    honest: int | None = None,
) -> StudyTerms:
    """Terms of a study with the settings that measured best at this scale (docs/model.md, docs/utility.md).

    Patients vote on the phantoms of the release where a ballot is given or ships for the task, unless
    ``epsilon_calibration`` is 0. Training draws its times up to ``latest_time``: where none is given, up to the start
    time, and at least to where audits attack (docs/adaptation.md).

    Raises:
        InputError: the ballot cannot be read; the release would start later than training ends.
        ModelError: it is not one.
    """
    latest = max(start_time, ATTACKED_TIME) if latest_time is None else latest_time
    if latest < start_time:
        raise InputError(
            f"the release is drawn from later times than are trained: from {start_time}, training ends at {latest}",
            remedy=f"give a --latest-time of {start_time} or more, or an earlier --start-time",
        )
    release = ReleasePlan(images=images, sampler_steps=SAMPLER_STEPS, start="phantom", start_time=start_time)
    return StudyTerms(
        study=name,
        task=task,
        profile=profile,
        trained=trained,
        cohorts=cohorts,
        epsilon=epsilon,
        delta=delta,
        rounds=rounds,
        local_steps=local_steps,
        rate=rate,
        draws=draws,
        learning_rate=learning_rate,
        audit=audit,
        release=release,
        base=base,
        epsilon_calibration=epsilon_calibration,
        ballot=_ballot(task, profile, ballot) if epsilon_calibration > 0 else None,
        sharpness=sharpness,
        precision=precision,
        latest_time=None if latest == LAST_TIME else latest,  # all times: a plan that older nodes can read
        warm_steps=warm_steps,
        candidates=candidates,
        masked=masked,
        quorum=quorum,
        round_deadline_seconds=round_deadline,
        honest=_honest(noise, honest),
    )


def _ballot(task: Task, profile: Profile, path: Path | None) -> Ballot | None:
    if path is None:
        return shipped_ballot(task, profile_named(profile).size)
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
