"""How a base is trained: the course of the rate, what batches show, and what crops do to what is known."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.shared.base_pictures import SIDE, pictures, source

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.model.base_batches import (
    PUBLIC_SCALE,
    PublicPart,
    TrainingSet,
    crop_corner,
    cropped,
    cropped_boxes,
    training_batch,
)
from sonoshare_shared.science.model.profiles import PROFILES
from sonoshare_shared.science.model.public_images import public_part
from sonoshare_shared.science.model.recipe import FLAT, TrainSettings, continues, kept_at, rate_at, recipe

FLAT_RUN = TrainSettings(course=FLAT, learning_rate=1.0, warm_up=10, length=100)


def test_a_flat_course_warms_up_stays_and_falls_to_a_fiftieth() -> None:
    rates = [rate_at(FLAT_RUN, step) for step in range(1, 101)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert set(rates[9:60]) == {1.0}
    assert rates[99] == pytest.approx(0.02)
    assert np.diff(rates[59:]) == pytest.approx(np.full(40, -0.98 / 40))
    endless = replace(FLAT_RUN, length=None)
    assert rate_at(endless, 10**6) == 1.0


def test_an_inverse_root_course_needs_no_length() -> None:
    settings = TrainSettings(learning_rate=1.0, warm_up=100, reference_step=600)
    assert [rate_at(settings, step) for step in (50, 100, 600, 2400)] == pytest.approx([0.5, 1.0, 1.0, 0.5])
    with pytest.raises(InputError, match="has no length"):
        replace(settings, length=1000).checked()
    with pytest.raises(InputError, match="ends in its warm-up"):
        replace(FLAT_RUN, length=16).checked()
    assert replace(FLAT_RUN, length=17).checked().length == 17


@pytest.mark.parametrize("averaging", [None, 0.99])
def test_an_average_forgets_the_untrained_weights_and_remembers_ever_longer(averaging: float | None) -> None:
    settings = TrainSettings(averaging=averaging)
    kept = [kept_at(settings, step) for step in range(1, 3000)]
    assert kept[0] == 0.0
    assert all(b >= a for a, b in pairwise(kept))
    assert kept[-1] == pytest.approx(averaging or 1 - 7.94 / 2999, abs=1e-4)


def test_a_length_may_change_until_the_rate_begins_to_fall() -> None:
    longer, endless = replace(FLAT_RUN, length=200), replace(FLAT_RUN, length=None)
    for old, new, last in ((FLAT_RUN, longer, 60), (longer, FLAT_RUN, 60), (endless, longer, 120)):
        assert continues(new, old, last)
        assert not continues(new, old, last + 1)
        assert [rate_at(new, step) for step in range(1, last + 1)] == [rate_at(old, s) for s in range(1, last + 1)]
    assert continues(FLAT_RUN, FLAT_RUN, 100)
    assert not continues(replace(FLAT_RUN, seed=1), FLAT_RUN, 0)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_a_recipe_that_makes_a_run(name: str) -> None:
    assert recipe(name).checked().phantoms > 0


def test_public_pictures_fill_their_share_of_every_batch_and_sources_take_it_by_weight() -> None:
    few, many = source("few", 3, 40, weight=3.0), source("many", 50, 120, weight=1.0)
    data = TrainingSet(pictures(7, SIDE, 200), public_part([few, many]))
    settings = TrainSettings(batch_size=40, public_share=0.5, gamma=0.0, gain=0.0)
    for step in range(3):
        levels = (training_batch(data, settings, step).images[:, 0, 0, 0] * 255).round()
        counts = [int((levels == level).sum()) for level in (200, 40, 120)]
        assert counts == [20, 15, 5]


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    data = TrainingSet(pictures(7, SIDE, 90), public_part([source("one", 5, 40, 1.0)]))
    one, again, other = (training_batch(data, TrainSettings(batch_size=8), step) for step in (4, 4, 5))
    assert all(torch.equal(a, b) for a, b in ((one.images, again.images), (one.noise, again.noise), (one.t, again.t)))
    assert not torch.equal(one.noise, other.noise)


def test_picture_mask_and_box_move_together_and_a_known_box_stays_whole() -> None:
    box = (0.0625, 0.5, 0.25, 0.375)
    public = PublicPart(pictures(4, PUBLIC_SCALE * SIDE, 60, box), torch.full((4,), 0.25, dtype=torch.float64))
    settings = TrainSettings(batch_size=64, public_share=0.75, crop=0.6, gamma=0.0, gain=0.0, drop=0.0)
    batch = training_batch(TrainingSet(pictures(2, SIDE, 200), public), settings, 0)
    shown, masks, boxes = batch.images[16:, 0], batch.masks[16:, 0] > 0.5, batch.condition.boxes[16:]
    assert len({tuple(row) for row in boxes.tolist()}) > 40
    for image, mask, (x, y, w, h) in zip(shown, masks, boxes.tolist(), strict=True):
        # The square is as wide in its crop as the crop is narrow, and none of it is cut off.
        assert 0.25 <= w <= 0.25 / 0.6 + 1e-5
        assert h / w == pytest.approx(1.5, rel=1e-4)
        rows, columns = torch.where(mask)
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.array(found) / SIDE - np.array([x, y, x + w, y + h])).max() <= 1 / SIDE
        assert image[mask].mean() > image[~mask].mean() + 15 / 255


def test_a_whole_picture_is_averaged_down_to_the_grid() -> None:
    fine = torch.rand(3, 1, 2 * SIDE, 2 * SIDE)
    shown = cropped(fine, torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 3), SIDE)
    torch.testing.assert_close(shown, torch.nn.functional.avg_pool2d(fine, 2))


def test_crops_of_unknown_boxes_go_anywhere_and_boxes_that_are_too_long_are_cut() -> None:
    u, side = torch.linspace(0, 1, 11), torch.full((11,), 0.8)
    for start, length in ((torch.nan, torch.nan), (0.0, 0.0)):
        corner = crop_corner(torch.full((11,), start), torch.full((11,), length), side, u)
        assert corner.tolist() == pytest.approx((0.2 * u).tolist())
    corner = crop_corner(torch.full((11,), 0.02), torch.full((11,), 0.95), side, u)
    assert corner.min() >= 0.02 - 1e-6
    assert corner.max() <= 0.17 + 1e-6
    boxes = torch.tensor([[0.02, 0.1, 0.95, 0.2], [torch.nan] * 4, [0.0] * 4])
    cut = torch.tensor([[0.1, 0.0, 0.8]]).expand(3, 3)
    moved = cropped_boxes(boxes, cut)
    assert moved[0].tolist() == pytest.approx([0.0, 0.125, 1.0, 0.25])
    assert torch.isnan(moved[1]).all()
    assert moved[2].tolist() == [0.0] * 4


def test_a_source_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match="the same"):
        public_part([source("one", 3, 40, 1.0), source("one", 3, 40, 2.0)])
    assert public_part([]) is None
