"""Images of a release: class-balanced samples of the study's model under public priors.

Classes take turns; scanners take turns among the task's; class, box and mask come from phantoms. With
``start="phantom"`` the phantom itself is refined, and its class, box and mask stay exact; with ``start="noise"`` the
phantom gives the condition only and the model draws image and mask. Where the plan has a calibration, which phantoms
stand for a class follows the hospitals' noisy votes. No private number enters: everything but the adapter and these
votes is a public constant of the plan.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_server.release.build import Samples
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import Roster, StudyPlan
from sonoshare_shared.protocol.release.votes import VotesEvidence, require_votes
from sonoshare_shared.science.calibration.ballot import Ballot, ballot_from, require_ballot_for
from sonoshare_shared.science.calibration.choice import calibrated_phantoms, chances_of, pool_place, shares_of
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.model.adapter import adapter_from_bytes, load_adapter
from sonoshare_shared.science.model.base import load_pinned_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import profile_named
from sonoshare_shared.science.model.sampler import Guidance, SamplerSettings, sample
from sonoshare_shared.science.phantom import PhantomBatch
from sonoshare_shared.science.tasks.phantoms import task_phantoms

SHARD_IMAGES: Final = 32
"""Images of one shard, which are drawn in one batch."""


@dataclass(frozen=True)
class Outcome:
    """What the hospitals' votes say.

    Attributes:
        ballot: what was voted on.
        shares: float64 [C, K], how often each kind was voted for within its class.
        sharpness: the plan's.
    """

    ballot: Ballot
    shares: NDArray[np.float64]
    sharpness: float

    @cached_property
    def chances(self) -> NDArray[np.float64]:
        """How often each phantom of the ballot's pool is drawn, float64 [M]."""
        return chances_of(self.ballot, self.shares, self.sharpness)

    def digest(self) -> str:
        """Names what was voted on and what came of it, 64 hexadecimal characters.

        The chances follow from it, and are left out: another machine may round their last bits otherwise.
        """
        return sha256_hex(self.ballot.to_bytes() + self.shares.tobytes() + np.float64(self.sharpness).tobytes())


def outcome_of(
    evidence: VotesEvidence, plan: StudyPlan, roster: Roster, participants: Collection[str] | None = None
) -> Outcome:
    """Add up the votes that count; arguments as `require_votes`.

    Raises:
        VerificationError: as `require_votes`.
        ModelError: the ballot is none.
        InputError: the ballot was made for another task or size, or the votes do not fit it.
    """
    said = require_votes(evidence, plan, roster, participants)  # refuses a plan without a calibration
    ballot = ballot_from(evidence.ballot)
    require_ballot_for(ballot, plan.task, profile_named(plan.profile).size)
    votes = np.array([each.votes for each in said], dtype=np.int64)
    sharpness = 0.0 if plan.calibration is None else plan.calibration.sharpness
    return Outcome(ballot, shares_of(ballot, np.asarray(votes.sum(axis=0))), sharpness)


def study_model(plan: StudyPlan, adapter: bytes, bases: Path, device: torch.device = CPU) -> ConditionedUNet:
    """The base of a plan with an adapter on it, on a device.

    Raises:
        ModelError: the plan's base is not on this machine, or the adapter does not fit.
    """
    model = load_pinned_base(plan.profile, plan.base_digest, bases)
    load_adapter(model, adapter_from_bytes(adapter), plan.trained)
    return model.eval().to(device)


def shards_of(plan: StudyPlan) -> int:
    """How many shards a plan's release has."""
    return -(-plan.release.images // SHARD_IMAGES)


def draw_shard(
    model: ConditionedUNet, plan: StudyPlan, shard: int, outcome: Outcome | None = None, number: int = 1
) -> Samples:
    """Samples of one shard, on the model's device.

    Image i depends on plan, adapter, votes, the candidate's number, i and the kind of device.

    Raises:
        InputError: the task has a class that no phantom can stand for.
    """
    first = shard * SHARD_IMAGES
    count = min(SHARD_IMAGES, plan.release.images - first)
    phantoms = phantoms_of(plan, first, count, outcome, number)
    index = np.arange(first, first + count)
    slots = len(plan.task.scanners)
    scanners = (index // len(plan.task.classes)) % slots if slots else np.full(count, -1)
    settings = SamplerSettings(
        steps=plan.release.sampler_steps,
        start=plan.release.start,
        start_time=plan.release.start_time,
        guidance=Guidance(label=plan.release.guidance),
        batch_size=SHARD_IMAGES,
        precision=plan.computes_in,
    )
    refining = plan.release.start == "phantom"
    drawn = sample(
        model,
        settings,
        Condition.of(phantoms.labels, scanners, phantoms.boxes),
        seed=plan.seed_of(number),
        start_index=first,
        images=phantoms.images if refining else None,
        masks=phantoms.masks if refining else None,
    )
    unknown = np.full((count, 2), np.nan)
    return Samples(
        drawn.images,
        drawn.masks,
        phantoms.labels,
        scanners,
        phantoms.boxes,
        cases=np.array(cases_of(plan, first, count, outcome, number)),
        # A picture drawn from noise shows no breast of known width.
        mm_per_pixel=phantoms.sizes_mm / phantoms.images.shape[-1] if refining else unknown,
        start_index=first,
    )


def cases_of(plan: StudyPlan, first: int, count: int, outcome: Outcome | None = None, number: int = 1) -> list[int]:
    """Which simulated breasts are behind images ``first`` to ``first + count``; arguments as `phantoms_of`.

    Where patients have voted, a breast may be behind several images, each scanned anew: the place in the pool names it.
    """
    indices = range(first, first + count)
    if outcome is None:
        return list(indices)
    seed = plan.seed_of(number)
    return [pool_place(outcome.ballot, outcome.chances, seed, index) for index in indices]


def phantoms_of(
    plan: StudyPlan, first: int, count: int, outcome: Outcome | None = None, number: int = 1
) -> PhantomBatch:
    """The phantoms behind images ``first`` to ``first + count`` of a candidate: classes take turns.

    Within a class they follow the votes; without votes, the simulator's priors, and its scanner styles take turns.
    """
    if outcome is not None:
        return calibrated_phantoms(
            outcome.ballot, outcome.chances, plan.task, count, seed=plan.seed_of(number), start_index=first
        )
    size = profile_named(plan.profile).size
    return task_phantoms(plan.task, count, seed=plan.seed_of(number), size=size, start_index=first)
