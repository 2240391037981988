"""Images of a release: class-balanced samples of the study's model under public priors.

Classes take turns; scanners take turns among the task's; class, box and mask come from phantoms. With
``start="phantom"`` the phantom itself is refined, and its class, box and mask stay exact; with ``start="noise"`` the
phantom gives the condition only and the model draws image and mask. No private number enters: everything but the
adapter is a public constant of the plan.
"""

from pathlib import Path
from typing import Final

import numpy as np

from sonoshare_server.release.build import Samples
from sonoshare_shared.documents import StudyPlan
from sonoshare_shared.model.adapter import adapter_from_bytes, load_adapter
from sonoshare_shared.model.base import load_pinned_base
from sonoshare_shared.model.conditions import Condition
from sonoshare_shared.model.network import ConditionedUNet
from sonoshare_shared.model.profiles import profile_named
from sonoshare_shared.model.sampler import Guidance, SamplerSettings, sample
from sonoshare_shared.phantom import PhantomBatch
from sonoshare_shared.tasks.phantoms import task_phantoms

SHARD_IMAGES: Final = 32
"""Images of one shard, which are drawn in one batch."""


def study_model(plan: StudyPlan, adapter: bytes, bases: Path) -> ConditionedUNet:
    """The base of a plan with an adapter on it.

    Raises:
        ModelError: the plan's base is not on this machine, or the adapter does not fit.
    """
    model = load_pinned_base(plan.profile, plan.base_digest, bases)
    load_adapter(model, adapter_from_bytes(adapter), plan.trained)
    return model.eval()


def shards_of(plan: StudyPlan) -> int:
    """How many shards a plan's release has."""
    return -(-plan.release.images // SHARD_IMAGES)


def draw_shard(model: ConditionedUNet, plan: StudyPlan, shard: int) -> Samples:
    """Samples of one shard; image i depends on the plan, the adapter and i only.

    Raises:
        InputError: the task has a class that no phantom can stand for.
    """
    first = shard * SHARD_IMAGES
    count = min(SHARD_IMAGES, plan.release.images - first)
    phantoms = phantoms_of(plan, first, count)
    index = np.arange(first, first + count)
    slots = len(plan.task.scanners)
    scanners = (index // len(plan.task.classes)) % slots if slots else np.full(count, -1)
    settings = SamplerSettings(
        steps=plan.release.sampler_steps,
        start=plan.release.start,
        start_time=plan.release.start_time,
        guidance=Guidance(label=plan.release.guidance),
        batch_size=SHARD_IMAGES,
    )
    refining = plan.release.start == "phantom"
    drawn = sample(
        model,
        settings,
        Condition.of(phantoms.labels, scanners, phantoms.boxes),
        seed=plan.release.seed,
        start_index=first,
        images=phantoms.images if refining else None,
        masks=phantoms.masks if refining else None,
    )
    return Samples(drawn.images, drawn.masks, phantoms.labels, scanners, phantoms.boxes, start_index=first)


def phantoms_of(plan: StudyPlan, first: int, count: int) -> PhantomBatch:
    """The phantoms behind images ``first`` to ``first + count`` of a release: classes and scanners take turns."""
    size = profile_named(plan.profile).size
    return task_phantoms(plan.task, count, seed=plan.release.seed, size=size, start_index=first)
