from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.phantom import CLASSES, SCANNER_STYLES, PhantomBatch, Recipe, simulate, simulate_recipes

GOLDEN = Path(__file__).parents[1] / "golden" / "phantoms.npz"


@pytest.fixture(scope="module")
def batch() -> PhantomBatch:
    return simulate(160, seed=11)


def test_a_picture_depends_on_its_index_only_and_not_on_the_batch() -> None:
    whole = simulate(12, seed=5, size=32)
    for size in (1, 5, 12):
        parts = [simulate(min(size, 12 - at), seed=5, size=32, start_index=at) for at in range(0, 12, size)]
        assert np.array_equal(np.concatenate([part.images for part in parts]), whole.images)
        assert np.array_equal(np.concatenate([part.masks for part in parts]), whole.masks)
        assert np.array_equal(np.concatenate([part.boxes for part in parts]), whole.boxes)
        assert tuple(p for part in parts for p in part.parameters) == whole.parameters


def test_seed_and_place_name_the_phantoms_that_they_named_before() -> None:
    then = np.load(GOLDEN)
    recipes = [Recipe(i, CLASSES[i % 4], i // 4 % 4, scan=i // 16) for i in range(32)]
    now = simulate_recipes(recipes, np.arange(32) % 4, seed=41, size=32)
    large = simulate_recipes(recipes[:4:3], np.zeros(2, int), seed=41, size=256).images[:, ::4, ::4]
    assert np.array_equal(now.masks, then["masks"])
    assert np.array_equal(now.boxes, then["boxes"])
    for images, before in ((now.images, then["images"]), (large, then["large"])):
        apart = np.abs(eight_bits(images).astype(int) - before)  # another processor rounds the last bits otherwise
        assert apart.max() <= 1
        assert (apart == 0).mean() > 0.999


def test_the_class_name_counts_and_not_its_position() -> None:
    one = simulate(4, seed=3, size=32, classes=("benign", "malignant"), labels=[1, 1, 0, 0], scanners=[0, 1, 2, 3])
    other = simulate(4, seed=3, size=32, classes=("malignant", "benign"), labels=[0, 0, 1, 1], scanners=[0, 1, 2, 3])
    assert np.array_equal(one.images, other.images)


def test_seed_index_label_and_scanner_each_change_the_picture() -> None:
    def first(seed: int = 1, label: int = 0, scanner: int = 0, index: int = 0) -> np.ndarray:
        return simulate(1, seed=seed, size=32, labels=[label], scanners=[scanner], start_index=index).images[0]  # type: ignore[no-any-return]

    for other in (first(seed=2), first(label=1), first(scanner=1), first(index=1)):
        assert np.abs(other - first()).mean() > 0.01


def test_values_shapes_and_types(batch: PhantomBatch) -> None:
    assert batch.images.shape == (160, 64, 64)
    assert batch.images.dtype == np.float32
    assert batch.masks.dtype == np.bool_
    assert batch.boxes.shape == (160, 4)
    assert batch.images.min() >= 0.0
    assert batch.images.max() <= 1.0
    assert (batch.images.std(axis=(1, 2)) > 0.03).all()  # no blank picture
    assert set(batch.scanners) == set(range(len(SCANNER_STYLES)))
    for scanner in range(len(SCANNER_STYLES)):  # classes and scanners are crossed
        assert set(batch.labels[batch.scanners == scanner]) == {0, 1}


def test_mask_and_box_agree_within_a_pixel(batch: PhantomBatch) -> None:
    for mask, box in zip(batch.masks, batch.boxes, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        stated = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]]) * 64
        assert np.abs(found - stated).max() <= 1.5
        assert mask.sum() >= 12


def test_classes_differ_as_radiologists_say(batch: PhantomBatch) -> None:
    ratio = batch.boxes[:, 2] / batch.boxes[:, 3]
    benign, malignant = batch.labels == 0, batch.labels == 1
    assert np.median(ratio[benign]) > 1.25 * np.median(ratio[malignant])
    spiculated = [p.margin in ("spiculated", "angular") for p in batch.parameters if p is not None]
    assert np.mean(np.array(spiculated)[malignant]) > 5 * np.mean(np.array(spiculated)[benign])
    upright = [p.orientation == "not parallel" for p in batch.parameters if p is not None]
    assert np.mean(np.array(upright)[malignant]) > np.mean(np.array(upright)[benign])


def test_the_inside_is_darker_than_what_surrounds_it(batch: PhantomBatch) -> None:
    inside = [image[mask].mean() for image, mask in zip(batch.images, batch.masks, strict=True)]
    band = slice(8, 36)  # the depths where lesions lie
    outside = [i[band][~m[band]].mean() for i, m in zip(batch.images, batch.masks, strict=True)]
    assert np.mean(np.array(inside) < np.array(outside)) > 0.85


def test_shadow_and_enhancement_follow_from_attenuation(batch: PhantomBatch) -> None:
    behind: dict[str, list[float]] = {"shadowing": [], "enhancement": []}
    for image, box, lesion in zip(batch.images, batch.boxes, batch.parameters, strict=True):
        if lesion is None or lesion.posterior == "none":
            continue
        x, bottom = round(64 * (box[0] + box[2] / 2)), round(64 * (box[1] + box[3])) + 1
        rows = slice(bottom, bottom + 8)
        behind[lesion.posterior].append(image[rows, max(x - 2, 0) : x + 3].mean() - image[rows].mean())
    assert np.mean(behind["enhancement"]) > np.mean(behind["shadowing"]) + 0.05


def test_a_normal_picture_has_no_lesion() -> None:
    batch = simulate(3, seed=1, classes=("normal", "benign"), labels=[0, 0, 1])
    assert not batch.masks[:2].any()
    assert not batch.boxes[:2].any()
    assert batch.parameters[:2] == (None, None)
    assert batch.masks[2].any()


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
def test_every_grid_size(size: int) -> None:
    batch = simulate(2, seed=1, size=size)
    assert batch.images.shape == (2, size, size)
    assert batch.masks.any(axis=(1, 2)).all()


def test_an_empty_batch() -> None:
    assert simulate(0, seed=1).images.shape == (0, 64, 64)


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": ("benign", "cat")},
        {"classes": ()},
        {"size": 48},
        {"size": 4096},
        {"labels": [0]},
        {"labels": [0, 2]},
        {"scanners": [0, 9]},
        {"seed": -1},
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        simulate(2, **({"seed": 1} | wrong))
