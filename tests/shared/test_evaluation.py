from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from tests.shared.labelled_phantoms import labelled

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.evaluation import classifier, described, distances, features, subgroups
from sonoshare_shared.science.evaluation.arms import Training
from sonoshare_shared.science.evaluation.auc import (
    auc,
    auc_of_counts,
    auc_of_groups,
    delong,
    delong_covariance,
    paired_difference,
    patient_bootstrap,
    sensitivity_at,
    thresholds,
)
from sonoshare_shared.science.evaluation.tstr import half_of_patients, tstr
from sonoshare_shared.science.phantom import simulate


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


# --- AUC


def test_auc_is_the_mann_whitney_estimate_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.integers(0, 2, 40)
        labels[:2] = (0, 1)
        scores = rng.integers(0, 6, 40).astype(float)  # many ties
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
        assert delong(labels, scores).auc == pytest.approx(roc_auc_score(labels, scores))


def test_every_form_of_the_auc_gives_the_same_area() -> None:
    rng = np.random.default_rng(12)
    positive, negative = rng.integers(2, 9, 40), rng.integers(0, 7, 25)
    area = auc(np.repeat([1, 0], [40, 25]), np.concatenate([positive, negative]))
    assert auc_of_groups(positive, negative) == area
    counts = (np.bincount(group, minlength=9).astype(float) for group in (positive, negative))
    assert auc_of_counts(*counts) == pytest.approx(area, abs=1e-12)
    with pytest.raises(InputError):
        auc_of_groups(positive, np.empty(0))


def test_delong_variance_by_its_definition() -> None:
    rng = np.random.default_rng(1)
    positive, negative = rng.normal(1.0, 1.0, 15), rng.normal(0.0, 1.0, 25)
    wins = positive[:, None] > negative[None, :]
    expected = wins.mean(axis=1).var(ddof=1) / 15 + wins.mean(axis=0).var(ddof=1) / 25
    found = delong(np.repeat([1, 0], [15, 25]), np.concatenate([positive, negative]))
    assert found.variance == pytest.approx(expected)
    assert found.interval[0] < found.auc < found.interval[1]


def test_delong_variance_matches_repeated_sampling() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([1, 0], [40, 60])
    trials = [delong(labels, rng.standard_normal(100) + labels) for _ in range(400)]
    assert np.mean([t.variance for t in trials]) == pytest.approx(np.var([t.auc for t in trials]), rel=0.2)


def test_delong_covariance_of_equal_classifiers_leaves_no_difference() -> None:
    rng = np.random.default_rng(3)
    labels, scores = np.repeat([1, 0], 20), rng.standard_normal(40)
    areas, covariance = delong_covariance(labels, np.stack([scores, 2 * scores + 1]))
    assert areas[0] == areas[1]
    assert covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1] == pytest.approx(0.0)


def test_bootstrap_over_patients_is_wider_than_over_images() -> None:
    rng = np.random.default_rng(4)
    truth = np.repeat(rng.integers(0, 2, 60), 5)
    scores = np.repeat(rng.standard_normal(60), 5) + truth  # all images of a patient score alike
    clustered = patient_bootstrap(truth, scores, np.repeat(np.arange(60), 5), draws=300)
    independent = patient_bootstrap(truth, scores, np.arange(300), draws=300)
    assert clustered.value == independent.value == pytest.approx(auc(truth, scores))
    width = np.diff(clustered.interval)[0] / np.diff(independent.interval)[0]
    assert 1.7 < width < 2.8  # sqrt(5)
    assert clustered == patient_bootstrap(truth, scores, np.repeat(np.arange(60), 5), draws=300)


def test_bootstrap_averages_over_classifiers() -> None:
    rng = np.random.default_rng(5)
    truth = np.repeat([0, 1], 30)
    scores = rng.standard_normal((3, 60)) + truth
    mean = np.mean([auc(truth, row) for row in scores])
    assert patient_bootstrap(truth, scores, np.arange(60), draws=50).value == pytest.approx(mean)


def test_a_paired_difference_is_narrower_than_the_figures() -> None:
    rng = np.random.default_rng(6)
    truth = np.repeat([0, 1], 50)
    first = rng.standard_normal(100) + truth
    second = first + 0.1 * rng.standard_normal(100)
    difference = paired_difference(truth, first, second, np.arange(100), draws=200)
    alone = patient_bootstrap(truth, first, np.arange(100), draws=200)
    assert difference.interval[0] <= 0.0 <= difference.interval[1]
    assert np.diff(difference.interval) < 0.5 * np.diff(alone.interval)


def test_sensitivity_at_a_specificity_by_counting() -> None:
    labels = np.repeat([0, 1], 10)
    scores = np.concatenate([np.arange(10), [0.5, 3.5, 8.5, 8.7, 9.0, 9.5, 12, 13, 14, 15]]).astype(float)
    found = [
        patient_bootstrap(labels, scores, np.arange(20), draws=20, statistic=sensitivity_at(specificity)).value
        for specificity in (0.8, 0.9, 0.99)
    ]
    assert found == [0.8, 0.8, 0.5]  # thresholds 7, 8 and 9
    rng = np.random.default_rng(0)
    for table in (rng.integers(0, 5, (2, 20)).astype(float), rng.standard_normal((2, 20))):
        limit = thresholds(labels == 1, table, 0.9)[:, None]
        assert ((table[:, labels == 0] <= limit).mean(axis=1) >= 0.9).all()
        assert ((table[:, labels == 0] < limit).mean(axis=1) < 0.9).all()  # no lower threshold would do


@pytest.mark.parametrize("specificity", [0.0, 1.0, -1.0])
def test_a_specificity_that_has_no_meaning_is_refused(specificity: float) -> None:
    with pytest.raises(InputError, match="specificity"):
        sensitivity_at(specificity)


def test_a_classifier_goes_on_from_another_and_leaves_it_as_it_is() -> None:
    batch = simulate(16, seed=3, size=32)
    first = classifier.fit(batch.images, batch.labels, steps=3, seed=0)
    before = first.predict(batch.images)
    unmoved = classifier.fit(batch.images, batch.labels, steps=1, seed=1, start=first)
    afresh = classifier.fit(batch.images, batch.labels, steps=1, seed=1)
    assert np.array_equal(first.predict(batch.images), before)
    assert not np.allclose(unmoved.predict(batch.images), afresh.predict(batch.images))


@pytest.mark.parametrize(("labels", "scores"), [([1, 1], [0.1, 0.2]), ([0, 1], [0.1]), ([0, 1], [0.1, np.nan])])
def test_an_auc_that_has_no_meaning_is_refused(labels: list[int], scores: list[float]) -> None:
    with pytest.raises(InputError):
        auc(np.array(labels), np.array(scores))


# --- features and distances


def test_features_do_not_depend_on_the_batch(capfd: pytest.CaptureFixture[str]) -> None:
    images = simulate(34, seed=1, size=32).images
    pooled, grid = features.pooled(images), features.grid(images[:3])
    assert pooled.shape == (34, features.POOLED)
    assert grid.shape == (3, features.GRID_CHANNELS, 4, 4)
    assert np.allclose(features.pooled(images[33:]), pooled[33:], atol=1e-4)
    assert np.allclose(features.grid(images[2:3]), grid[2:], atol=1e-4)
    assert features.pooled(images[:0]).shape == (0, features.POOLED)
    assert capfd.readouterr().out == ""  # stdout belongs to results


def test_features_refuse_other_shapes() -> None:
    with pytest.raises(InputError):
        features.pooled(np.zeros((4, 4)))


def test_frechet_of_gaussians_in_closed_form() -> None:
    rng = np.random.default_rng(7)
    one = rng.standard_normal((20000, 3)) * np.array([1.0, 2.0, 3.0])
    two = rng.standard_normal((20000, 3)) * np.array([2.0, 2.0, 1.0]) + np.array([1.0, 0.0, 0.0])
    # Squared mean difference 1, plus squared differences of the standard deviations 1 and 4.
    assert distances.frechet(one, two) == pytest.approx(6.0, abs=0.2)
    assert distances.frechet(one[:9], one[:9]) == pytest.approx(0.0, abs=1e-6)


def test_kernel_distance_is_unbiased_and_grows() -> None:
    rng = np.random.default_rng(8)
    same = [distances.kernel_distance(rng.standard_normal((50, 8)), rng.standard_normal((60, 8))) for _ in range(60)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(60)
    assert distances.kernel_distance(rng.standard_normal((50, 8)), rng.standard_normal((60, 8)) + 1.0) > 1.0


def test_precision_recall_density_coverage() -> None:
    rng = np.random.default_rng(9)
    real = rng.standard_normal((200, 4))
    same = distances.compare(real, rng.standard_normal((200, 4)))
    assert min(same.precision, same.recall, same.coverage) > 0.85
    assert same.density == pytest.approx(1.0, abs=0.2)
    collapsed = distances.compare(real, 0.05 * rng.standard_normal((200, 4)))
    assert collapsed.precision > 0.9
    assert collapsed.recall < 0.1
    far = distances.compare(real, real + 50.0)
    assert (far.precision, far.recall, far.density, far.coverage) == (0.0, 0.0, 0.0, 0.0)


def test_distances_refuse_what_cannot_be_compared() -> None:
    with pytest.raises(InputError):
        distances.compare(np.zeros((10, 3)), np.zeros((10, 4)))
    with pytest.raises(InputError):
        distances.compare(np.zeros((10, 3)), np.zeros((3, 3)))


# --- classifiers


def test_the_classifier_learns() -> None:
    train, test = labelled(200, 1, "a"), labelled(120, 2, "b")
    trained = classifier.fit(train.images, train.labels, steps=50, seed=3)
    assert auc(test.labels, trained.predict(test.images)) > 0.7


def test_the_classifier_is_reproducible_and_leaves_the_global_state() -> None:
    train = labelled(20, 1, "a")
    before = torch.random.get_rng_state()
    scores = [classifier.fit(train.images, train.labels, steps=4, seed=s).predict(train.images) for s in (3, 3, 4)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_the_classifier_ignores_gain() -> None:
    train = labelled(40, 1, "a")
    trained = classifier.fit(train.images, train.labels, steps=5)
    assert np.allclose(trained.predict(train.images), trained.predict(0.5 * train.images + 0.2), atol=0.05)


def test_the_probe_is_the_logistic_regression_it_says() -> None:
    rng = np.random.default_rng(10)
    labels = np.repeat([0, 1], 50)
    x = rng.standard_normal((100, 6)) + labels[:, None] * np.array([2.0, 0, 0, 0, 0, 0])
    probe = classifier.fit_probe(x, labels, penalty=1.0)
    assert auc(labels, probe.predict(x)) > 0.9
    assert abs(probe.weights[0]) == np.abs(probe.weights).max()


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 1], [0, 1]])
def test_the_classifier_refuses_wrong_labels(labels: list[int]) -> None:
    with pytest.raises(InputError):
        classifier.fit(np.zeros((4, 32, 32)), np.array(labels), steps=1)


# --- the whole measurement


def test_half_of_patients_is_stable_and_by_patient() -> None:
    patients = np.array([f"p{i // 2}" for i in range(400)])
    chosen = half_of_patients(patients)
    assert 0.35 < chosen.mean() < 0.65
    assert np.array_equal(chosen[::2], chosen[1::2])
    assert np.array_equal(half_of_patients(patients[::-1]), chosen[::-1])


def test_tstr_reports_every_field() -> None:
    synthetic, test, train = labelled(80, 1, "s"), labelled(40, 2, "t"), labelled(40, 3, "r")
    report: dict[str, Any] = tstr(synthetic, test, train, training=Training((0, 1), 10)).as_json()
    fields = {"synthetic", "real", "both", "frechet", "kernel_distance", "precision", "recall", "density", "coverage"}
    assert fields <= set(report)
    assert set(report["synthetic"]) == {"auc", "interval"}
    assert (report["test_patients"], report["train_patients"]) == (20, 20)
    assert set(report["sensitivity"]) == {"synthetic", "real", "both", "real_as_long", "pretrained", "real_longer"}
    against = {arm: difference["against"] for arm, difference in report["minus_real"].items()}
    assert against == {
        "synthetic": "real",
        "both": "real_as_long",
        "real_as_long": "real",
        "pretrained": "real_longer",
        "real_longer": "real",
    }
    low, high = report["minus_real"]["pretrained"]["auc"]["interval"]
    assert low <= report["pretrained"]["auc"] - report["real_longer"]["auc"] <= high
    low, high = report["minus_real"]["both"]["auc"]["interval"]
    assert low <= report["both"]["auc"] - report["real"]["auc"] <= high
    scanners = report["subgroups"]["scanner"]
    assert sum(part["images"] for part in scanners.values()) == 40
    assert all(part["synthetic"] is None for part in scanners.values())  # ten images: no AUC with a meaning
    kinds = {"frechet", "kernel_distance", "precision", "recall", "density", "coverage"}
    assert set(report["lesion_crop"]) == kinds
    assert report["lesion_crop"]["frechet"] != report["frechet"]
    for part in (*scanners.values(), *report["subgroups"]["class"].values()):
        assert set(part["distances"]) == {"whole", "lesion_crop"}
        assert set(part["distances"]["whole"]) == kinds
    right = {name: part["synthetic"]["right"] for name, part in report["subgroups"]["class"].items()}
    assert right["benign"] >= 0.9  # the specificity that thresholds keep
    assert right["malignant"] == pytest.approx(report["sensitivity"]["synthetic"]["sensitivity"])
    alone = tstr(synthetic, test, training=Training((0,), 5)).as_json()
    assert alone["real"] is None
    assert alone["both"] is None
    assert alone["minus_real"] == {}


def test_distances_by_scanner_are_from_the_same_scanner_and_null_where_too_few() -> None:
    real, synthetic = (described.describe(labelled(40, seed, "p")) for seed in (2, 1))
    here, there = np.arange(40) < 20, np.arange(40) >= 20
    one = replace(synthetic, devices=np.where(here, "A", "B"))
    whole = {name: subgroups._of_scanner((replace(real, devices=one.devices), one), name)["whole"] for name in "AB"}
    assert whole["A"] == described.distances(real, synthetic, (here, here))["whole"]
    assert whole["B"] == described.distances(real, synthetic, (there, there))["whole"]
    without = replace(synthetic, has_crop=np.arange(40) < 5)
    assert described.distances(real, without)["lesion_crop"] is None
    assert described.distances(real, without)["whole"] is not None


@pytest.mark.parametrize(("count", "classes"), [(398, 2), (400, 2), (400, 4), (1200, 2), (1200, 3)])
def test_a_part_of_a_large_set_keeps_its_classes(monkeypatch: pytest.MonkeyPatch, count: int, classes: int) -> None:
    monkeypatch.setattr(described, "MOST", 200)
    monkeypatch.setattr(features, "pooled", lambda images, _device: np.zeros((len(images), 3), np.float32))
    few = labelled(4, 3, "p").take(np.zeros(count, np.intp))
    taking_turns = replace(few, labels=np.arange(count) % classes)  # as a release draws them
    kept = np.bincount(described.describe(taking_turns).labels, minlength=classes)
    assert kept.sum() == 200
    assert kept.min() > 0.6 * 200 / classes


def test_a_crop_holds_the_lesion_and_little_else() -> None:
    some = labelled(12, 3, "c")
    cut = described.crops(some.masks.astype(np.float32), some.boxes)
    assert (cut.mean(axis=(1, 2)) > 0.2).all()
    assert (cut.mean(axis=(1, 2)) > some.masks.mean(axis=(1, 2))).all()


def test_a_patient_in_training_and_test_is_refused() -> None:
    one = labelled(20, 1, "p")
    with pytest.raises(InputError, match="training and test"):
        tstr(one, one, one, training=Training((0,), 1))
