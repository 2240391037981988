"""The network and its loss: conditions, absence, independence of rows, known parts only."""

from typing import get_args

import pytest
import torch
from torch import nn

from sonoshare_deploy.cli.parameters import PROFILE
from sonoshare_shared.errors import ModelError
from sonoshare_shared.protocol.documents.plan import Profile as PlannedProfile
from sonoshare_shared.science.model.conditions import Condition, box_channels
from sonoshare_shared.science.model.diffusion import (
    add_noise,
    denormalise,
    normalise,
    stratified_times,
    times_at,
    velocity,
)
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet, require_known_modules
from sonoshare_shared.science.model.profiles import PROFILES, profile_named

TINY = PROFILES["tiny"]


@pytest.fixture(scope="module")
def model() -> ConditionedUNet:
    torch.manual_seed(0)
    return ConditionedUNet(TINY).eval()


def batch(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 32, 32, generator=generator)
    t = torch.randint(0, 1000, (count,), generator=generator)
    corner = torch.rand(count, 2, generator=generator) * 0.5
    extent = torch.rand(count, 2, generator=generator) * 0.4 + 0.1
    index = torch.arange(count)
    return x, t, Condition(index % 2, index % 4, torch.cat((corner, extent), dim=1))


def test_every_row_depends_on_its_own_inputs_only(model: ConditionedUNet) -> None:
    x, t, condition = batch(5)
    together = model(x, t, condition)
    x2 = x.clone()
    x2[3] = 100.0
    disturbed = model(x2, t, condition)
    others = torch.tensor([0, 1, 2, 4])
    assert torch.allclose(together.v[others], disturbed.v[others], atol=1e-5)
    alone = model(x[3:4], t[3:4], condition[3:4])
    assert torch.allclose(alone.v[0], together.v[3], atol=1e-5)
    assert torch.allclose(alone.mask_logits[0], together.mask_logits[3], atol=1e-5)


@pytest.mark.parametrize("name", ["class", "scanner", "box"])
def test_each_condition_matters_and_can_be_absent(model: ConditionedUNet, name: str) -> None:
    x, t, condition = batch(4)
    with_all = model(x, t, condition).v
    without = model(x, t, condition.without(name)).v
    assert torch.isfinite(without).all()
    assert (with_all - without).abs().max() > 1e-6


def test_an_absent_condition_hides_its_value(model: ConditionedUNet) -> None:
    x, t, condition = batch(4)
    other = Condition(1 - condition.labels, 3 - condition.scanners, condition.boxes.flip(0))
    hidden = [c.without("class").without("scanner").without("box") for c in (condition, other)]
    assert torch.equal(model(x, t, hidden[0]).v, model(x, t, hidden[1]).v)
    assert torch.equal(model(x, t, hidden[0]).v, model(x, t, Condition.absent(4)).v)


def test_channels_last_gives_the_same_result(model: ConditionedUNet) -> None:
    x, t, condition = batch(3)
    plain = model(x, t, condition).v
    torch.manual_seed(0)
    other = ConditionedUNet(TINY).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.allclose(other(x, t, condition).v, plain, atol=1e-5)


def test_box_channels_cover_exactly_the_box() -> None:
    boxes = torch.tensor([[0.1, 0.3, 0.25, 0.5], [0.0, 0.0, 0.0, 0.0], [torch.nan] * 4])
    drawn = box_channels(boxes, 8)
    assert drawn.shape == (3, 2, 8, 8)
    assert torch.allclose(drawn[:, 0].mean(dim=(1, 2)), torch.tensor([0.25 * 0.5, 0.0, 0.0]), atol=1e-6)
    assert drawn[:, 1].amin(dim=(1, 2)).tolist() == drawn[:, 1].amax(dim=(1, 2)).tolist() == [1.0, 1.0, 0.0]
    assert drawn[0, 0, :, 3:].max() == 0
    assert drawn[0, 0, 3, 1] == pytest.approx(1.0)


def test_mirroring_moves_the_box_and_keeps_absence() -> None:
    condition = Condition.absent(2)
    boxes = torch.tensor([[0.1, 0.3, 0.2, 0.5], [torch.nan] * 4])
    mirrored = Condition(condition.labels, condition.scanners, boxes).mirrored(torch.tensor([True, True]))
    assert torch.allclose(mirrored.boxes[0], torch.tensor([0.7, 0.3, 0.2, 0.5]))
    assert torch.isnan(mirrored.boxes[1]).any()


def test_loss_is_per_row_and_uses_masks_only_where_known(model: ConditionedUNet) -> None:
    noise, t, condition = batch(4)
    images = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    masks = (images > 0.7).float()
    full = denoising_loss(model, images, masks, condition, t, noise)
    assert full.shape == (4,)
    none = denoising_loss(model, images, None, condition, t, noise)
    masks[1] = torch.nan
    partly = denoising_loss(model, images, masks, condition, t, noise)
    assert torch.allclose(partly[1], none[1])
    assert torch.allclose(partly[[0, 2, 3]], full[[0, 2, 3]])
    assert (full > none).all()
    alone = denoising_loss(model, images[2:3], masks[2:3], condition[2:3], t[2:3], noise[2:3])
    assert torch.allclose(alone[0], full[2], atol=1e-5)


def test_gradients_of_a_row_without_mask_are_finite(model: ConditionedUNet) -> None:
    noise, t, condition = batch(2)
    masks = torch.full((2, 1, 32, 32), torch.nan)
    loss = denoising_loss(model, torch.rand(2, 1, 32, 32), masks, condition.without("box"), t, noise).sum()
    gradients = torch.autograd.grad(loss, [model.conv_out.weight, model.class_embedding.weight])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_velocity_and_noisy_image_give_the_image_back() -> None:
    generator = torch.Generator().manual_seed(2)
    x0, noise = torch.randn(2, 6, 1, 8, 8, generator=generator)
    t = torch.tensor([0, 100, 400, 700, 900, 999])
    alpha, sigma = (add_noise(torch.ones_like(x0), torch.zeros_like(x0), t), add_noise(x0 * 0, x0 * 0 + 1, t))
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(x0), atol=1e-5)
    back = alpha * add_noise(x0, noise, t) - sigma * velocity(x0, noise, t)
    assert torch.allclose(back, x0, atol=1e-5)
    grey = torch.rand(2, 1, 4, 4, generator=generator)
    assert torch.allclose(denormalise(normalise(grey)), grey, atol=1e-6)


def test_stratified_times_fall_one_in_each_interval() -> None:
    t = stratified_times(10, torch.Generator().manual_seed(0))
    assert sorted((t // 100).tolist()) == list(range(10))


def test_stratified_times_of_a_part_of_the_range_fill_that_part_and_no_more() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        assert sorted((stratified_times(5, generator, latest=149) // 30).tolist()) == list(range(5))


@pytest.mark.parametrize("latest", [1, 150, 999])
def test_every_time_up_to_the_latest_has_the_same_share_of_the_draws(latest: int) -> None:
    shares = (torch.arange(10 * (latest + 1), dtype=torch.float64) + 0.5) / (10 * (latest + 1))
    assert torch.bincount(times_at(shares, latest)).tolist() == [10] * (latest + 1)
    assert times_at(torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), latest).tolist() == [0, latest]


def test_conditions_that_do_not_fit_are_refused() -> None:
    good = Condition.of(torch.zeros(2, dtype=torch.int64).numpy())
    assert good.checked(TINY) is good
    with pytest.raises(ModelError, match="class index"):
        Condition(torch.tensor([8, 0]), good.scanners, good.boxes).checked(TINY)
    with pytest.raises(ModelError, match="scanner index"):
        Condition(good.labels, torch.tensor([-2, 0]), good.boxes).checked(TINY)
    with pytest.raises(ModelError, match="shapes"):
        Condition(good.labels, good.scanners, good.boxes[:1]).checked(TINY)


def test_case_36_unknown_modules_are_refused() -> None:
    for profile in ("tiny", "small"):
        require_known_modules(ConditionedUNet(PROFILES[profile]))
    with pytest.raises(ModelError, match="unknown model profile"):
        profile_named("enormous")

    class Mixing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(dim=0)

    for foreign in (nn.LSTM(2, 2), Mixing()):
        model = ConditionedUNet(TINY)
        model.unet.conv_act = foreign
        with pytest.raises(ModelError, match="not known"):
            require_known_modules(model)


def test_case_48_batch_norm_and_dropout_are_refused() -> None:
    for foreign in (nn.BatchNorm2d(32), nn.Dropout(0.1), nn.SyncBatchNorm(32)):
        model = ConditionedUNet(TINY)
        model.unet.conv_norm_out = foreign
        with pytest.raises(ModelError, match="not known"):
            require_known_modules(model)


def test_profiles_have_distinct_digests_and_the_stated_size() -> None:
    assert len({profile.digest for profile in PROFILES.values()}) == len(PROFILES)
    small = ConditionedUNet(PROFILES["small"])
    assert 1.5e6 < sum(p.numel() for p in small.parameters()) < 2.5e6


def test_one_list_of_profiles_everywhere() -> None:
    assert get_args(PlannedProfile) == tuple(PROFILES) == tuple(PROFILE.choices)
    assert [profile.size for profile in PROFILES.values()] == [32, 64, 128, 256]
