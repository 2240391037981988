"""Nothing knows that pictures have 64 px: drawing, guiding and auditing at 128 and 256 px."""

import numpy as np
import pytest
import torch

from sonoshare_privacy.audits.copies import FLOOR, calibrate, patient_nearest
from sonoshare_privacy.audits.nearest import BytePictures
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.model.base_batches import TrainingSet
from sonoshare_shared.science.model.base_run import BaseTraining
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.phantom_cache import simulate_set
from sonoshare_shared.science.model.profiles import Profile
from sonoshare_shared.science.model.recipe import TrainSettings
from sonoshare_shared.science.model.sampler import PHANTOM, Guidance, SamplerSettings, sample
from sonoshare_shared.science.phantom import simulate

WIDE = Profile("wide", size=128, patch=8, channels=(32, 32, 32), attention=(False, True, True))


@pytest.mark.parametrize("start", ["noise", PHANTOM])
def test_a_network_of_128_px_trains_and_draws_under_class_box_and_scanner(start: str) -> None:
    run = BaseTraining(WIDE, TrainSettings(batch_size=2), TrainingSet(simulate_set(3, seed=0, size=128)))
    assert torch.isfinite(run.advance())
    phantoms = simulate(2, seed=1, size=128)
    given = {"images": phantoms.images, "masks": phantoms.masks} if start == PHANTOM else {}
    guidance = Guidance(label=1.0, scanner=0.5, box=0.5)
    settings = SamplerSettings(steps=2, start=start, guidance=guidance)
    condition = Condition.of(phantoms.labels, phantoms.scanners, phantoms.boxes)
    drawn = sample(run.model, settings, condition, seed=0, **given)  # type: ignore[arg-type]
    assert drawn.images.shape == drawn.masks.shape == (2, 128, 128)
    assert np.isfinite(drawn.images).all()
    unguided = sample(run.model, SamplerSettings(steps=2, start=start), condition, seed=0, **given)  # type: ignore[arg-type]
    assert not np.array_equal(drawn.images, unguided.images)


@pytest.mark.parametrize("size", [128, 256])
def test_the_copy_detector_finds_planted_copies_at_larger_grids(size: int) -> None:
    images = simulate(48, seed=7, size=size).images
    reference, drawn, patients = images[:32], images[32:40], images[40:]
    candidates = BytePictures(eight_bits(np.concatenate([drawn, patients[:4, :, ::-1]])))
    detector = calibrate(candidates, reference)
    assert detector.threshold >= FLOOR
    assert np.mean(list(detector.recall.values())) >= 0.9
    scores = patient_nearest(candidates, list(patients[:, None])).scores
    assert ((scores >= detector.threshold) == (np.arange(8) < 4)).all()
