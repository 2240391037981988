"""Phantoms painted in batches by torch are the simulator's phantoms: same masks and boxes, grey levels to a level."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.model.phantom_cache import simulate_set
from sonoshare_shared.science.model.phantom_stream import PhantomStream
from sonoshare_shared.science.phantom import CLASSES, SCANNER_STYLES, LesionParameters, Recipe, simulate_recipes
from sonoshare_shared.science.phantom import on_device as painting
from sonoshare_shared.science.phantom.arithmetic import Arithmetic, NumpyArithmetic
from sonoshare_shared.science.phantom.on_device import simulate_on
from sonoshare_shared.science.phantom.torch_arithmetic import TorchArithmetic

CPU = torch.device("cpu")
SEED = 7
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
    return np.abs(one.cpu().numpy().astype(int) - other.cpu().numpy().astype(int))


def require_the_same(images: torch.Tensor, wanted: torch.Tensor) -> None:
    within = levels_apart(images, wanted) <= 1
    assert within.mean(axis=(1, 2)).min() >= 0.999  # of every picture


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_they_are_the_simulators_phantoms(size: int, device: torch.device) -> None:
    wanted = simulate_recipes(RECIPES, LABELS, seed=SEED, size=size)
    made = simulate_on(device, RECIPES, LABELS, seed=SEED, size=size)
    assert len(kinds_of(wanted.parameters)) == 20  # every shape, margin, pattern, posterior and extra is among them
    assert {(r.kind, r.scanner) for r in RECIPES} == {(k, s) for k in CLASSES for s in range(len(SCANNER_STYLES))}
    assert np.array_equal(made.masks.cpu().numpy(), wanted.masks)
    assert np.array_equal(made.boxes.cpu().numpy(), wanted.boxes)
    assert made.labels.tolist() == LABELS.tolist()
    assert made.scanners.tolist() == wanted.scanners.tolist()
    require_the_same(made.images, torch.from_numpy(eight_bits(wanted.images)))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_phantom_does_not_depend_on_its_batch(rows: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = PhantomStream(seed=3, size=64, device=CPU).batch(40, 11)
    monkeypatch.setattr(painting, "ROWS_ON_CPU", rows)
    stream = PhantomStream(seed=3, size=64, device=CPU, threads=threads)
    parts = [stream.batch(40, 4), stream.batch(44, 7)]
    for name in ("masks", "boxes", "labels", "scanners", "has_mask"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    require_the_same(torch.cat([part.images for part in parts]), whole.images)


def test_the_stream_goes_on_where_the_cached_set_ends() -> None:
    wanted = simulate_set(12, seed=5, size=32, start_index=1000)
    made = PhantomStream(seed=5, size=32, device=CPU).batch(1000, 12)
    for name in ("masks", "boxes", "labels", "scanners", "has_mask"):
        assert torch.equal(getattr(made, name), getattr(wanted, name))
    require_the_same(made.images, wanted.images)
    assert made.images.dtype == torch.uint8
    assert len(PhantomStream(seed=5, size=32, device=CPU).batch(0, 0)) == 0


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
        lambda: PhantomStream(seed=1, size=32, device=CPU, threads=0),
        lambda: PhantomStream(seed=1, size=48, device=CPU).batch(0, 1),
        lambda: PhantomStream(seed=1, size=32, device=CPU).batch(-1, 1),
        lambda: PhantomStream(seed=1, size=32, device=CPU).batch(0, -1),
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
