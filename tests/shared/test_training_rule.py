"""How long the yardstick trains, and how its pictures vary: by public numbers alone, alike on every device."""

import numpy as np
import pytest
import torch
from tests.shared.labelled_phantoms import labelled

from sonoshare_shared.science.evaluation import classifier
from sonoshare_shared.science.evaluation.augmentation import Variation, standardised, varied
from sonoshare_shared.science.evaluation.classifier import BATCH, RECIPE, Classifier, Recipe, fit


def test_a_small_set_has_the_least_steps_and_a_large_one_the_passes() -> None:
    recipe = Recipe(least_steps=100, passes=10)
    assert recipe.steps_for(2) == 100
    assert recipe.steps_for(10 * BATCH) == 100
    assert recipe.steps_for(11 * BATCH) == 110
    assert recipe.steps_for(11 * BATCH + 1) == 111


def test_the_rule_of_the_report_trains_on_ten_thousand_pictures_as_thoroughly_as_on_a_thousand() -> None:
    passes = {n: RECIPE.steps_for(n) * BATCH / n for n in (1_000, 10_000, 100_000)}
    assert min(passes.values()) >= RECIPE.passes


def test_without_steps_a_classifier_is_trained_by_the_rule() -> None:
    some, short = labelled(8, 1, "a"), Recipe(least_steps=2, passes=20)
    by_rule = fit(some.images, some.labels, recipe=short).predict(some.images)
    assert np.array_equal(by_rule, fit(some.images, some.labels, steps=3).predict(some.images))  # 20 * 8 / 64


def test_a_classifier_is_kept_and_scores_the_same() -> None:
    some = labelled(12, 1, "a")
    trained = fit(some.images, some.labels, steps=3)
    assert np.array_equal(Classifier.of(trained.state()).predict(some.images), trained.predict(some.images))


@pytest.mark.parametrize("variation", [Variation(), Variation(crop=0.3, gamma=0.3)])
def test_a_training_batch_is_standardised_pictures_that_vary(variation: Variation) -> None:
    x = torch.from_numpy(labelled(64, 1, "a").images)[:, None]
    drawn = [varied(x, variation, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert abs(float(drawn[0].mean())) < 0.1
    assert float(drawn[0].std(dim=(2, 3)).mean()) == pytest.approx(1.0, abs=0.1)
    alike = [torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(x, drawn[0], strict=True)]
    assert 0.2 < np.median(alike) < 0.95  # still the same pictures, at other places


def test_a_window_stays_inside_its_picture() -> None:
    columns = torch.linspace(0.1, 0.9, 64).expand(200, 1, 64, 64)
    drawn = varied(columns, Variation(crop=0.5), torch.Generator().manual_seed(0))
    assert torch.isfinite(drawn).all()
    inside = torch.from_numpy(np.sort(drawn[:, 0, 0].numpy(), axis=1))
    assert float((inside.diff(dim=1) > 0).float().mean()) > 0.9  # a constant border would show equal neighbours


def test_the_same_draws_whatever_was_drawn_from_the_global_state() -> None:
    x = standardised(torch.rand(4, 1, 16, 16)).clamp(0, 1)
    torch.manual_seed(1)
    first = varied(x, Variation(crop=0.2, gamma=0.2), torch.Generator().manual_seed(3))
    torch.manual_seed(2)
    assert torch.equal(varied(x, Variation(crop=0.2, gamma=0.2), torch.Generator().manual_seed(3)), first)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_trains_the_same_classifier_twice_and_leaves_its_state() -> None:
    some, there = labelled(64, 1, "a"), torch.device("cuda", 0)
    before = torch.cuda.get_rng_state()
    trained = [classifier.fit(some.images, some.labels, steps=3, device=there) for _ in range(2)]
    assert torch.equal(torch.cuda.get_rng_state(), before)
    scores = [one.predict(some.images) for one in trained]
    assert np.array_equal(scores[0], scores[1])
    assert np.allclose(Classifier.of(trained[0].state()).predict(some.images), scores[0], atol=1e-3)
