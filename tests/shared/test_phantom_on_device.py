"""Phantoms painted in batches by torch are the simulator's: same masks and boxes; of the same noise, same pictures."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.model.base_pictures import BasePictures, joined
from sonoshare_shared.science.model.phantom_cache import simulate_set
from sonoshare_shared.science.model.phantom_stream import PhantomStream
from sonoshare_shared.science.phantom import CLASSES, SCANNER_STYLES, LesionParameters, Recipe, simulate_recipes
from sonoshare_shared.science.phantom import on_device as painting
from sonoshare_shared.science.phantom.arithmetic import Arithmetic, NumpyArithmetic
from sonoshare_shared.science.phantom.noise import NoiseKey, host_noise
from sonoshare_shared.science.phantom.on_device import simulate_on
from sonoshare_shared.science.phantom.torch_arithmetic import TorchArithmetic, normals

CPU = torch.device("cpu")
SEED = 7
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
RECIPES = [Recipe(i, CLASSES[i % 4], i // 4 % len(SCANNER_STYLES)) for i in range(32)]
LABELS = np.arange(len(RECIPES)) % len(CLASSES)
DEVICES = [
    CPU,
    pytest.param(
        torch.device("cuda"), marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
    ),
]
Picture = NDArray[np.float64]


def kinds_of(lesions: tuple[LesionParameters | None, ...]) -> set[str]:
    """Everything that a lesion can be or have, of those that are there."""
    found: set[str] = set()
    for lesion in lesions:
        if lesion is not None:
            found |= {lesion.shape, lesion.margin, lesion.echo_pattern, lesion.posterior}
            extras = ("capsule_db", "halo_db", "edge_shadow_db", "calcifications", "spicules")
            found |= {name for name in extras if getattr(lesion, name)}
    return found


def levels_apart(one: torch.Tensor, other: torch.Tensor) -> NDArray[np.int64]:
    return np.asarray(np.abs(one.cpu().numpy().astype(int) - other.cpu().numpy().astype(int)))


def require_the_same(images: torch.Tensor, wanted: torch.Tensor) -> None:
    within = levels_apart(images, wanted) <= 1
    assert within.mean(axis=(1, 2)).min() >= 0.999  # of every picture


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_of_the_same_noise_they_are_the_simulators_phantoms(size: int, device: torch.device) -> None:
    wanted = simulate_recipes(RECIPES, LABELS, seed=SEED, size=size)
    made = simulate_on(device, RECIPES, seed=SEED, size=size, noise=host_noise)
    assert len(kinds_of(wanted.parameters)) == 20  # every shape, margin, pattern, posterior and extra is among them
    assert {(r.kind, r.scanner) for r in RECIPES} == {(k, s) for k in CLASSES for s in range(len(SCANNER_STYLES))}
    assert np.array_equal(made.masks.cpu().numpy(), wanted.masks)
    assert np.array_equal(made.boxes.cpu().numpy(), wanted.boxes)
    require_the_same(made.images, torch.from_numpy(eight_bits(wanted.images)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_cuda_device_makes_the_same_noise() -> None:
    wanted = PhantomStream(seed=3, size=128, device=CPU).batch(0, 8)
    require_the_same(PhantomStream(seed=3, size=128, device=torch.device("cuda")).batch(0, 8).images, wanted.images)


@pytest.mark.parametrize("rows", [1, 5])
def test_a_phantom_does_not_depend_on_its_batch(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = PhantomStream(seed=3, size=64, device=CPU)
    whole = stream.batch(40, 11)
    monkeypatch.setattr(painting, "ROWS_ON_CPU", rows)
    parts = joined([stream.batch(40, 4), stream.batch(44, 7)])
    require_the_same_set(parts, whole)


def test_phantoms_drawn_ahead_by_another_process_are_the_same() -> None:
    stream = PhantomStream(seed=3, size=32, device=CPU)
    batches = stream.batches(100, 9, workers=1)
    found = [next(batches) for _ in range(2)]
    batches.close()
    require_the_same_set(joined(found), stream.batch(100, 18))


def require_the_same_set(made: BasePictures, wanted: BasePictures) -> None:
    for name in ("masks", "boxes", "labels", "scanners", "has_mask"):
        assert torch.equal(getattr(made, name), getattr(wanted, name))
        assert getattr(made, name).dtype == getattr(wanted, name).dtype
    require_the_same(made.images, wanted.images)


def test_the_stream_draws_the_lesions_of_the_cached_set() -> None:
    wanted = simulate_set(12, seed=5, size=32, start_index=1000)
    made = PhantomStream(seed=5, size=32, device=CPU).batch(1000, 12)
    for name in ("masks", "boxes", "labels", "scanners", "has_mask"):
        assert torch.equal(getattr(made, name), getattr(wanted, name))
    assert made.images.dtype == torch.uint8
    assert len(PhantomStream(seed=5, size=32, device=CPU).batch(0, 0)) == 0


def test_made_noise_is_white_and_normal() -> None:
    keys = torch.tensor([1, 2, 2**63 - 1, 3], dtype=torch.int64)
    made = normals(NoiseKey(keys, 256, 256), CPU).double()
    flat = made.flatten()
    count = flat.numel()
    for power, moment in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0), (6, 15.0)):
        spread = {1: 1.0, 2: 2.0, 3: 15.0, 4: 96.0, 6: 10170.0}[power]  # variance of the power of a normal number
        assert abs(flat.pow(power).mean() - moment) < 4.5 * (spread / count) ** 0.5
    for shift in ((0, 1), (1, 0), (1, 1), (0, 17)):
        neighbours = made * made.roll(shift, dims=(2, 3))
        assert abs(neighbours.mean()) < 4.5 * count**-0.5
    assert abs((made[:, 0] * made[:, 1]).mean()) < 4.5 * (count / 2) ** -0.5  # the two parts
    assert abs((made[0] * made[1]).mean()) < 4.5 * (count / 4) ** -0.5  # neighbouring keys
    assert flat.abs().max() > 4.5


def test_made_noise_depends_on_its_key_and_not_on_how_much_is_asked_for() -> None:
    keys = torch.tensor([5, 6], dtype=torch.int64)
    whole = normals(NoiseKey(keys, 128, 65), CPU)
    assert torch.equal(normals(NoiseKey(keys, 128, 9), CPU), whole[..., :9])
    assert torch.equal(normals(NoiseKey(keys[1:], 128, 65), CPU), whole[1:])


def test_made_noise_is_splitmix64() -> None:
    """Its first numbers from a state of 1234567, as Vigna's reference code gives them."""
    known = (6457827717110365317, 3203168211198807973, 9817491932198370423)
    made = normals(NoiseKey(torch.tensor([1234567 + GOLDEN]), 3, 1), CPU)[0, :, :, 0]
    for column, bits in enumerate(known):
        radius = (-2.0 * math.log((bits // 2**32 + 0.5) / 2**32)) ** 0.5
        turn = 2.0 * math.pi * (bits % 2**32) / 2**32
        assert made[:, column].tolist() == pytest.approx([radius * math.cos(turn), radius * math.sin(turn)], abs=1e-5)


def regions(images: NDArray[np.float64], masks: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """Of each picture: grey level and speckle in the lesion and in three bands of depth, and how it hangs together."""
    found: dict[str, NDArray[np.float64]] = {}
    places = {"lesion": masks} | {
        f"rows {top}": np.isin(np.arange(64), np.arange(top, top + 16))[None, :, None] & ~masks for top in (0, 16, 40)
    }
    for name, place in places.items():
        inside = [image[where] for image, where in zip(images, place, strict=True) if where.any()]
        found[f"level, {name}"] = np.array([each.mean() for each in inside])
        found[f"spread, {name}"] = np.array([each.std() for each in inside])
    flat = images - images.mean(axis=(1, 2), keepdims=True)
    for axis, name in ((1, "depth"), (2, "side")):
        for lag in (1, 3):
            found[f"correlation, {name} {lag}"] = (flat * np.roll(flat, lag, axis)).mean((1, 2)) / flat.var(axis=(1, 2))
    return found


def test_phantoms_of_made_noise_have_the_statistics_of_the_simulators() -> None:
    """Mean differences of 160 phantoms, by region, in standard errors; scanners, settings and lesions are the same."""
    cached, made = simulate_set(160, seed=9, size=64), PhantomStream(seed=9, size=64, device=CPU).batch(0, 160)
    one, other = (regions(each.images.numpy() / 255.0, each.masks.numpy()) for each in (cached, made))
    apart = {}
    for name, values in one.items():
        difference = other[name] - values
        apart[name] = abs(difference.mean()) / (difference.std() / np.sqrt(len(difference)))
    assert len(apart) == 12
    assert max(apart.values()) < 3.5, apart


def test_autocast_around_the_stream_changes_nothing() -> None:
    stream = PhantomStream(seed=5, size=32, device=CPU)
    wanted = stream.batch(0, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = stream.batch(0, 4)
    assert torch.equal(made.images, wanted.images)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PhantomStream(seed=-1, size=32, device=CPU),
        lambda: PhantomStream(seed=1, size=48, device=CPU),
        lambda: PhantomStream(seed=1, size=32, device=CPU).batch(-1, 1),
        lambda: PhantomStream(seed=1, size=32, device=CPU).batch(0, -1),
        lambda: PhantomStream(seed=1, size=32, device=CPU).batches(-1, 1, workers=1),
        lambda: PhantomStream(seed=1, size=32, device=CPU).batches(0, 0, workers=1),
        lambda: PhantomStream(seed=1, size=32, device=CPU).batches(0, 1, workers=0),
    ],
)
def test_wrong_arguments_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        wrong()


@pytest.mark.parametrize(
    "formula",
    [
        lambda on, x, at: on.magnitude(on.fft(on.paired(x, x.sin() if hasattr(x, "sin") else np.sin(x)), axis=-2)),
        lambda on, x, at: on.magnitude(on.ifft(on.paired(x, x), axis=-1)),
        lambda on, x, at: on.irfft(on.paired(x, x), 20),
        lambda on, x, at: x / on.deviation(x - x.mean()),
        lambda on, x, at: on.padded(x, 3),
        lambda on, x, at: on.blurred(x, 1.536),
        lambda on, x, at: on.shifted(x, at[..., :1, :] - 4, 12),
        lambda on, x, at: on.looked_up(x[..., 0, :], at),
        lambda on, x, at: on.whole(7.0 * x),
        lambda on, x, at: on.working(x),
    ],
)
def test_both_arithmetics_mean_the_same(formula: Callable[[Arithmetic, Any, Any], Any]) -> None:
    rng = np.random.default_rng(2)
    pictures, places = rng.normal(size=(3, 12, 12)), rng.integers(0, 12, size=(3, 12, 12))
    pictures -= pictures.mean(axis=(1, 2), keepdims=True)
    on = TorchArithmetic(CPU)
    batch = formula(on, on.loaded(pictures), on.exact(places)).numpy()
    for picture, place, found in zip(pictures, places, batch, strict=True):
        assert np.allclose(found, formula(NumpyArithmetic(), picture, place), atol=1e-5)
