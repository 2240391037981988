"""The comparison of training targets: each objective is the shipped one where it should be, and converts exactly."""

import pytest
import torch
from benchmarks.targets import TARGETS, objective

from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.diffusion import add_noise, scales, velocity
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import profile_named


@pytest.mark.parametrize("name", TARGETS)
def test_a_true_prediction_is_turned_into_the_true_velocity(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    x0, noise = torch.randn(2, 5, 1, 8, 8, generator=generator)
    t = torch.tensor([1, 120, 250, 500, 900])
    target = TARGETS[name]
    found = target.as_velocity(target.truth(x0, noise, t), add_noise(x0, noise, t), t)
    torch.testing.assert_close(found, velocity(x0, noise, t), rtol=1e-4, atol=1e-4)


def test_the_velocity_objective_is_the_one_that_ships() -> None:
    torch.manual_seed(0)
    model = ConditionedUNet(profile_named("tiny"))
    images, masks = torch.rand(3, 1, 32, 32), torch.rand(3, 1, 32, 32) < 0.3
    condition = Condition.of(torch.tensor([0, 1, 2]).numpy(), None, torch.rand(3, 4).numpy())
    t, noise = torch.tensor([10, 400, 990]), torch.randn(3, 1, 32, 32)
    given = (model, images, masks.float(), condition, t, noise)
    torch.testing.assert_close(objective(TARGETS["velocity"])(*given), denoising_loss(*given))
    assert not torch.allclose(objective(TARGETS["noise"])(*given), denoising_loss(*given))


def test_weighing_by_snr_is_bounded_and_level_below_the_bound() -> None:
    t = torch.tensor([0, 100, 500, 999])
    alpha, sigma = scales(t)
    weight = TARGETS["velocity_min_snr"].weight(alpha, sigma).flatten()
    ratio = (alpha / sigma).square().flatten()
    assert torch.all((weight >= 0) & (weight < 1))
    assert weight[2] == pytest.approx(float(ratio[2] / (ratio[2] + 1)))  # SNR 1: below the bound
    assert weight[0] == pytest.approx(float(5 / (ratio[0] + 1)))
