"""Membership attacks: they see a model that memorised, and nothing in one that did not."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sonoshare_privacy.audits import gate, membership
from sonoshare_privacy.audits.gate import Cohort
from sonoshare_privacy.audits.rates import private_auc
from sonoshare_shared.protocol.documents import AuditPlan
from sonoshare_shared.science.evaluation.auc import auc_of_counts, auc_of_groups
from sonoshare_shared.science.phantom import simulate


def seeded(seed: int) -> Callable[..., int]:
    """A source of uniform integers for tests (the real one is the system's)."""
    return random.Random(seed).randrange  # noqa: S311


SIZE = 32
PLAN = AuditPlan(
    held_out_fraction=0.5, epsilon_copies=0.5, epsilon_membership=0.5, tolerated_share=0.1, tolerated_auc=0.7
)


@dataclass(frozen=True)
class Memoriser:
    """The best denoiser of its training images (posterior mean over them): memorisation in closed form.

    Args:
        images: float32 [m, S, S], what it was trained on.
        blur: extra standard deviation around each image; 0 memorises fully.
    """

    images: np.ndarray
    blur: float = 0.0

    def losses(self, patient: Any, times: Any, noise: Any) -> NDArray[np.float64]:
        centres = self.images.reshape(len(self.images), -1).astype(np.float64)
        out = np.empty((len(patient), len(times)))
        for j, t in enumerate(times):
            sigma = 0.3 * t / 150
            noisy = patient.reshape(len(patient), -1) + sigma * noise[j].ravel()
            spread = sigma**2 + self.blur**2
            distance = ((noisy[:, None] - centres[None]) ** 2).sum(2)
            weight = np.exp(-(distance - distance.min(1, keepdims=True)) / (2 * spread))
            mean = (weight / weight.sum(1, keepdims=True)) @ centres
            guess = mean + self.blur**2 / spread * (noisy - mean)
            out[:, j] = ((guess - patient.reshape(len(patient), -1)) ** 2).mean(1)
        return out


@pytest.fixture(scope="module")
def patients() -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], list[Any]]:
    """100 trained, 100 held-out patients with one or two images, and 16 public phantoms."""
    images = simulate(316, seed=9, size=SIZE).images
    groups = [images[i : i + 1 + i % 2] for i in range(0, 300, 2)] + [images[i : i + 1] for i in range(1, 100, 2)]
    return groups[:100], groups[100:200], [image[None] for image in images[300:]]


def scores_of(
    model: Memoriser, patients: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], list[Any]]
) -> list[Any]:
    return [membership.loss_scores(group, model.losses, SIZE) for group in patients]


def test_loss_attack_sees_a_model_that_memorised(
    patients: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], list[Any]],
) -> None:
    model = Memoriser(np.concatenate(patients[0]))
    trained, held_out, public = scores_of(model, patients)
    assert auc_of_groups(trained, held_out) >= 0.9
    below = seeded(4)
    verdicts = []
    for _ in range(20):
        drawn = membership.draw_attack(trained, held_out, membership.rough_bins(public), 0.5, below)
        verdicts.append(gate.judge_auc("loss", drawn.split, PLAN, Cohort(100, 100))[0].verdict)
    assert verdicts.count("FAIL") >= 18
    assert "PASS" not in verdicts


def test_loss_attack_sees_nothing_in_a_model_of_other_images(
    patients: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], list[Any]],
) -> None:
    model = Memoriser(simulate(100, seed=77, size=SIZE).images, blur=0.2)
    trained, held_out, public = scores_of(model, patients)
    assert 0.4 <= auc_of_groups(trained, held_out) <= 0.6
    below = seeded(5)
    verdicts = []
    for _ in range(20):
        drawn = membership.draw_attack(trained, held_out, membership.rough_bins(public), 0.5, below)
        verdicts.append(gate.judge_auc("loss", drawn.split, PLAN, Cohort(100, 100))[0].verdict)
    assert "FAIL" not in verdicts


def test_scores_depend_on_that_patient_alone(
    patients: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], list[Any]],
) -> None:
    model = Memoriser(np.concatenate(patients[0])[:20], blur=0.1)
    together = membership.loss_scores(patients[1][:5], model.losses, SIZE)
    alone = [membership.loss_scores([one], model.losses, SIZE)[0] for one in patients[1][:5]]
    np.testing.assert_array_equal(together, alone)


def test_both_draws_together_never_exceed_the_budget() -> None:
    scores = np.zeros(30)
    for epsilon in (0.1, 0.25, 1 / 3, 0.5, 0.7):
        drawn = membership.draw_attack(scores, scores, membership.rough_bins(scores), epsilon, seeded(1))
        assert drawn.epsilon <= epsilon
        assert drawn.epsilon == pytest.approx(epsilon)


def test_the_rough_look_places_bins_wherever_the_patients_are() -> None:
    """Patients whose losses lie far from those of phantoms still fall into separate bins."""
    rng, below = np.random.default_rng(0), seeded(2)
    trained, held_out = rng.normal(1.2, 0.3, 150), rng.normal(1.0, 0.3, 60)
    drawn = membership.draw_attack(trained, held_out, membership.rough_bins(rng.normal(0, 0.25, 32)), 1.0, below)
    counts = drawn.split.bins.counts(np.concatenate([trained, held_out]))
    assert max(counts) < 0.65 * 210
    interval = private_auc(drawn.split, 0.05)
    assert interval.lower < auc_of_groups(trained, held_out) < interval.upper


def test_blind_baseline_sees_a_split_that_is_not_random() -> None:
    rough = [np.random.default_rng(i).random((2, 8, 8), dtype=np.float32) for i in range(40)]
    smooth = [0.1 * image for image in rough]
    assert auc_of_groups(membership.blind_scores(rough), membership.blind_scores(smooth)) == 1.0
    assert np.isfinite(membership.blind_scores([np.zeros((1, 8, 8), np.float32)])).all()


def test_binned_attack_keeps_most_of_its_power(
    patients: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], list[Any]],
) -> None:
    model = Memoriser(np.concatenate(patients[0]))
    trained, held_out, public = scores_of(model, patients)
    drawn = membership.draw_attack(trained, held_out, membership.rough_bins(public), 50.0, seeded(3))
    x, y = (np.array(h.counts, dtype=float) for h in (drawn.split.trained, drawn.split.held_out))
    assert auc_of_counts(x, y) >= auc_of_groups(trained, held_out) - 0.06
