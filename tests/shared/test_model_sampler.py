"""Sampling: same image whatever the batch, phantoms keep their annotation."""

from typing import Any

import numpy as np
import pytest
import torch

from sonoshare_shared.errors import InputError, ModelError
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import PROFILES
from sonoshare_shared.science.model.sampler import (
    NOISE,
    PHANTOM,
    Guidance,
    SamplerSettings,
    refine,
    sample,
)
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.precision import BFLOAT16

COUNT = 7


@pytest.fixture(scope="module")
def model() -> ConditionedUNet:
    torch.manual_seed(0)
    return ConditionedUNet(PROFILES["tiny"]).eval()


@pytest.fixture(scope="module")
def condition() -> Condition:
    boxes = np.random.default_rng(0).uniform(0.1, 0.5, (COUNT, 4))
    return Condition.of(np.arange(COUNT) % 2, np.arange(COUNT) % 4, boxes)


def settings(**changes: Any) -> SamplerSettings:
    return SamplerSettings(**({"steps": 10, "batch_size": COUNT} | changes))


@pytest.mark.parametrize("guidance", [Guidance(), Guidance(label=1.0, box=0.5)])
def test_an_image_is_the_same_whatever_the_batch_size(
    model: ConditionedUNet, condition: Condition, guidance: Guidance
) -> None:
    whole = sample(model, settings(guidance=guidance), condition, seed=3)
    single = sample(model, settings(guidance=guidance, batch_size=1), condition, seed=3)
    assert np.abs(whole.images - single.images).max() < 1e-5
    later = sample(model, settings(guidance=guidance), condition[4:], seed=3, start_index=4)
    assert np.abs(whole.images[4:] - later.images).max() < 1e-5
    assert whole.images.std() > 0.01
    assert np.abs(whole.images - sample(model, settings(), condition, seed=4).images).max() > 0.1


def test_the_noise_is_made_on_the_processor_whatever_the_models_device(
    model: ConditionedUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def noise(*shape: int, generator: torch.Generator) -> torch.Tensor:
        made.append((shape, generator.device.type))
        return randn(*shape, generator=generator)

    randn = torch.randn
    monkeypatch.setattr(torch, "randn", noise)
    sample(model, settings(steps=1), Condition.of(np.array([0, 1]), np.array([0, 1]), np.full((2, 4), np.nan)), seed=5)
    assert made == [((1, 32, 32), "cpu")] * 2


def test_bfloat16_draws_nearly_the_same_pictures_and_solves_in_float32(
    model: ConditionedUNet, condition: Condition
) -> None:
    exact = sample(model, settings(guidance=Guidance(label=1.0)), condition, seed=3)
    coarse = sample(model, settings(guidance=Guidance(label=1.0), precision=BFLOAT16), condition, seed=3)
    assert 1e-5 < np.abs(exact.images - coarse.images).max() < 0.05
    # Numbers of eight bits would be few: the solver's own steps are not rounded.
    assert len(np.unique(coarse.images)) > 0.9 * len(np.unique(exact.images))


def test_images_are_grey_values_and_masks_bool(model: ConditionedUNet, condition: Condition) -> None:
    drawn = sample(model, settings(), condition, seed=0)
    assert drawn.images.shape == drawn.masks.shape == (COUNT, 32, 32)
    assert drawn.images.dtype == np.float32
    assert drawn.masks.dtype == np.bool_
    assert 0 <= drawn.images.min() <= drawn.images.max() <= 1


def test_refining_keeps_the_annotation_and_starts_from_the_phantom(model: ConditionedUNet) -> None:
    phantoms = simulate(COUNT, seed=1, size=32)
    condition = Condition.of(phantoms.labels, phantoms.scanners, phantoms.boxes)
    barely = refine(model, phantoms.images, phantoms.masks, condition, seed=0, start_time=2, steps=1)
    assert np.array_equal(barely.masks, phantoms.masks)
    assert np.abs(barely.images - phantoms.images).mean() < 0.02
    far = refine(model, phantoms.images, phantoms.masks, condition, seed=0, start_time=800)
    assert np.array_equal(far.masks, phantoms.masks)
    assert np.abs(far.images - phantoms.images).mean() > 0.05


def test_guidance_pulls_away_from_the_absent_condition(model: ConditionedUNet, condition: Condition) -> None:
    plain = sample(model, settings(), condition, seed=1).images
    absent = sample(model, settings(), condition.without("box"), seed=1).images
    guided = sample(model, settings(guidance=Guidance(box=2.0)), condition, seed=1).images
    assert np.abs(guided - plain).mean() > 1e-4
    assert np.abs(guided - absent).mean() > np.abs(plain - absent).mean()


def test_times_decrease_from_the_start() -> None:
    assert SamplerSettings(steps=5, start=PHANTOM, start_time=250).times == [250, 200, 150, 100, 50]
    times = SamplerSettings(steps=16).times
    assert times == sorted(set(times), reverse=True)
    assert times[-1] > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": "image"},
        {"steps": 0},
        {"steps": 300, "start": PHANTOM, "start_time": 250},
        {"start": PHANTOM, "start_time": 1000},
        {"batch_size": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        settings(**wrong).checked()


def test_phantoms_are_needed_to_refine_and_refused_otherwise(model: ConditionedUNet, condition: Condition) -> None:
    images, masks = np.zeros((COUNT, 32, 32), np.float32), np.zeros((COUNT, 32, 32), bool)
    with pytest.raises(InputError, match="needs phantoms"):
        sample(model, settings(start=PHANTOM), condition, seed=0)
    with pytest.raises(InputError, match="from noise"):
        sample(model, settings(start=NOISE), condition, seed=0, images=images, masks=masks)
    with pytest.raises(InputError, match="shape"):
        sample(model, settings(start=PHANTOM), condition, seed=0, images=images[:3], masks=masks)
    with pytest.raises(ModelError, match="class index"):
        sample(model, settings(), Condition.of(np.full(COUNT, 8)), seed=0)


def test_nothing_to_draw_gives_an_empty_set(model: ConditionedUNet) -> None:
    assert sample(model, settings(), Condition.absent(0), seed=0).images.shape == (0, 32, 32)
