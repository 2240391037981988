"""What is ruled out by whole numbers is exactly what does not reach the limit: windows, rankings, whatever the way."""

import os
import subprocess
import sys
from collections import Counter
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sonoshare_privacy.audits import rounded, twins
from sonoshare_privacy.audits.correlation import COARSE, candidate_windows, posed_windows
from sonoshare_privacy.audits.edits import EDITS
from sonoshare_privacy.audits.rounded import Reaching
from sonoshare_privacy.audits.twins import find_twins
from sonoshare_shared.science.device import CPU
from sonoshare_shared.science.phantom import simulate

pytestmark = pytest.mark.usefixtures("one_thread")

LIMIT: Final = 0.6
NUMBERS: Final = 196

EXACT: Final = """
import sys, torch
most, numbers = int(sys.argv[1]), int(sys.argv[2])
largest = torch.full((166, numbers), most, dtype=torch.int8)
signs = torch.where(torch.rand(166, numbers) < 0.5, -1, 1).to(torch.int8)
for left, right in ((largest, largest), (largest, -largest), (-largest, -largest), (largest * signs, largest)):
    assert torch.equal(torch._int_mm(left, right.T).long(), left.long() @ right.T.long())
"""


def reached(windows: Tensor, posed: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """The whole product, plainly."""
    scores = (windows.double() @ posed.double().T).amax(1).numpy()
    places = np.flatnonzero(scores >= LIMIT)
    return places, scores[places].astype(np.float32)


def unit(windows: Tensor) -> Tensor:
    return functional.normalize(windows, dim=1, eps=1e-6)


def beside(posed: Tensor, score: Tensor, noise: Tensor) -> Tensor:
    """Windows that have a score with the first pose."""
    away = unit(noise - (noise @ posed[0])[:, None] * posed[0])
    return score[:, None] * posed[0] + (1 - score**2).sqrt()[:, None] * away


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    spikes=st.integers(1, NUMBERS),
    poses=st.integers(1, 40),
    spread=st.sampled_from([1e-8, 1e-6, 1e-4, 1e-2, 0.3]),
)
def test_what_reaches_the_limit_is_found_and_nothing_else(seed: int, spikes: int, poses: int, spread: float) -> None:
    """Windows of few large pixels lose most by rounding; scores lie around the limit as close as floats can."""
    made = torch.Generator().manual_seed(seed)
    noise = torch.randn(poses + 200, NUMBERS, generator=made) * (torch.rand(NUMBERS, generator=made) < spikes / NUMBERS)
    posed = unit(noise[:poses] + 1e-3)
    windows = beside(posed, LIMIT + spread * torch.randn(200, generator=made), noise[poses:] + 1e-3)
    places, scores = reached(windows, posed)
    for way in (True, False):
        found = Reaching(windows, LIMIT, rounded=way).with_posed(posed)
        np.testing.assert_array_equal(found[0], places)
        np.testing.assert_allclose(found[1], scores, rtol=1e-7)


def test_blank_broken_and_absent_windows_reach_nothing() -> None:
    posed = unit(torch.randn(5, NUMBERS))
    windows = torch.cat([posed[:2], torch.zeros(1, NUMBERS), torch.full((1, NUMBERS), torch.nan)])
    for way in (True, False):
        places, _ = Reaching(windows, LIMIT, rounded=way).with_posed(posed)
        assert places.tolist() == [0, 1]
        assert not len(Reaching(windows, LIMIT, rounded=way).with_posed(torch.full_like(posed, torch.nan))[0])
        assert not len(Reaching(windows[:0], LIMIT, rounded=way).with_posed(posed)[0])


@pytest.mark.parametrize("instructions", ["ALL", "AVX512_CORE", "AVX2"])
def test_whole_numbers_have_exact_products(instructions: str) -> None:
    """The largest of one sign and of both; older processors add pairs of products in 16 bits and cut off what is more.

    The kernels of those are taken in a process of its own, as far as this machine has them.
    """
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": "1"}
    asked = [sys.executable, "-c", EXACT, str(rounded._MOST_STEPS), str(NUMBERS)]
    subprocess.run(asked, check=True, env=environment, timeout=120)


def test_most_pictures_are_ruled_out() -> None:
    images = simulate(120, seed=3, size=64).images
    windows, posed = candidate_windows(images, view=COARSE), posed_windows(images[:10], view=COARSE)
    compared = Reaching(windows, LIMIT, rounded=True)
    assert sum(len(compared._not_ruled_out(one)) for one in posed) < 0.05 * 10 * len(images)


def ranked_plainly(
    images: NDArray[np.float32], owners: NDArray[Any], new: NDArray[Any]
) -> tuple[list[tuple[int, int]], bool]:
    """The ranking by the whole product over all pairs, sorted once."""
    windows, posed = candidate_windows(images, view=COARSE), posed_windows(images, view=COARSE)
    best: dict[tuple[int, int], float] = {}
    for place, one in enumerate(posed):
        for other, score in zip(*reached(windows, one), strict=True):
            if owners[place] != owners[other] and (new[place] or new[other]):
                pair = (min(place, int(other)), max(place, int(other)))
                best[pair] = max(float(score), best.get(pair, -1.0))
    looked: Counter[Any] = Counter()
    kept = []
    for pair in sorted(best, key=lambda pair: (-best[pair], pair)):
        people = frozenset(owners[list(pair)].tolist())
        looked[people] += 1
        if looked[people] <= twins._LOOKS_PER_PEOPLE:
            kept.append(pair)
    most = max(twins._LEAST_MOST, twins._MOST_PER_IMAGE * len(images))
    return kept[:most], len(kept) <= most


@pytest.fixture(scope="module")
def alike() -> NDArray[np.float32]:
    """Sixty phantoms, sixty edits of them, and twenty times one picture."""
    images, rng = simulate(60, seed=21, size=64).images, np.random.default_rng(1)
    edited = [EDITS[at % len(EDITS)].apply(one, images[at - 1], rng) for at, one in enumerate(images)]
    return np.concatenate([images, np.stack(edited), np.repeat(images[:1], 20, axis=0)])


@pytest.mark.parametrize("way", [True, False])
@pytest.mark.parametrize("most", [2000, 25])
@pytest.mark.parametrize("old", [0, 70, 139])
def test_the_ranking_is_that_of_the_whole_product(
    alike: NDArray[np.float32], way: bool, most: int, old: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounded, "whole_numbers_are_fast", lambda _: way)
    monkeypatch.setattr(rounded, "_WINDOWS_AT_ONCE", 33)
    monkeypatch.setattr(twins, "_LEAST_MOST", most)
    monkeypatch.setattr(twins, "_MOST_PER_IMAGE", 0)
    monkeypatch.setattr(twins, "_RANKED_PER_LOOK", 2)
    owners, new = np.arange(len(alike)) // 2 * 7 % 71, np.arange(len(alike)) >= old
    expected = ranked_plainly(alike, owners, new)
    assert twins._likely(alike, owners, new, CPU, frozenset()) == expected
    assert len(expected[0]) >= 20


def test_both_ways_find_the_same_twins(alike: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> None:
    owners, new, found = np.arange(len(alike)), np.ones(len(alike), np.bool_), []
    for way in (True, False):
        monkeypatch.setattr(rounded, "whole_numbers_are_fast", lambda _, way=way: way)
        found.append(find_twins(alike, owners, new))
    assert found[0] == found[1]
