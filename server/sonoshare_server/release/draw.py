"""Drawing a candidate: class-balanced samples of the study's model under public priors, written as a candidate.

Classes take turns; scanners take turns among the task's; class, box and mask come from phantoms. With
``start="phantom"`` the phantom itself is refined, and its class, box and mask stay exact; with ``start="noise"`` the
phantom gives the condition only and the model draws image and mask. No private number enters: everything but the
adapter is a public constant of the plan.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from sonoshare_server.release.build import Samples, build_candidate
from sonoshare_shared.documents import StudyPlan
from sonoshare_shared.model.adapter import adapter_from_bytes, load_adapter
from sonoshare_shared.model.base import load_pinned_base
from sonoshare_shared.model.conditions import Condition
from sonoshare_shared.model.network import ConditionedUNet
from sonoshare_shared.model.profiles import profile_named
from sonoshare_shared.model.sampler import Guidance, SamplerSettings, sample
from sonoshare_shared.phantom import PhantomBatch
from sonoshare_shared.release.candidate import Candidate
from sonoshare_shared.tasks.phantoms import pathology_shares, task_phantoms

BATCH: Final = 32

Progress = Callable[[int, int], None]


def study_model(plan: StudyPlan, adapter: bytes, bases: Path) -> ConditionedUNet:
    """The base of a plan with an adapter on it.

    Raises:
        ModelError: the plan's base is not on this machine, or the adapter does not fit.
    """
    model = load_pinned_base(plan.profile, plan.base_digest, bases)
    load_adapter(model, adapter_from_bytes(adapter), plan.trained)
    return model.eval()


def draw_candidate(
    folder: Path,
    plan: StudyPlan,
    adapter: bytes,
    *,
    bases: Path,
    adapter_digest: str,
    release: str,
    progress: Progress,
) -> Candidate:
    """Draw the plan's number of images and write them as a candidate.

    Args:
        folder: where; absent or empty.
        plan: the study plan.
        adapter: the trained adapter.
        bases: folder of imported bases.
        adapter_digest: its digest.
        release: identifier of the release.
        progress: called with (images done, images in all).

    Raises:
        InputError: the task has a class that no phantom can stand for.
    """
    model = study_model(plan, adapter, bases)
    batches = draw(model, plan, progress)
    return build_candidate(folder, batches, release=release, plan=plan, model_digest=adapter_digest)


def draw(model: ConditionedUNet, plan: StudyPlan, progress: Progress) -> Iterator[Samples]:
    """Samples of a plan's release, batch by batch; image i depends on the plan, the adapter and i only."""
    pathology_shares(plan.task)
    total = plan.release.images
    for first in range(0, total, BATCH):
        count = min(BATCH, total - first)
        yield _batch(model, plan, first, count)
        progress(first + count, total)


def phantoms_of(plan: StudyPlan, first: int, count: int) -> PhantomBatch:
    """The phantoms behind images ``first`` to ``first + count`` of a release: classes and scanners take turns."""
    return task_phantoms(plan.task, count, seed=plan.release.seed, size=_size(plan), start_index=first)


def _batch(model: ConditionedUNet, plan: StudyPlan, first: int, count: int) -> Samples:
    phantoms = phantoms_of(plan, first, count)
    index = np.arange(first, first + count)
    slots = len(plan.task.scanners)
    scanners = (index // len(plan.task.classes)) % slots if slots else np.full(count, -1)
    settings = SamplerSettings(
        steps=plan.release.sampler_steps,
        start=plan.release.start,
        start_time=plan.release.start_time,
        guidance=Guidance(label=plan.release.guidance),
        batch_size=BATCH,
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


def _size(plan: StudyPlan) -> int:
    return profile_named(plan.profile).size
