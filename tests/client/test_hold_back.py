"""Who waits for a decision about twins: every set of pairs among five patients, and each of them taken away."""

from collections.abc import Iterator
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.crafted import make_node

from sonoshare_client.intake.twins import compare_new
from sonoshare_client.vault.hold_back import waiting
from sonoshare_client.vault.store import Vault
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_shared.science.phantom import simulate

PATIENTS = "abcde"
EDGES = tuple(combinations(PATIENTS, 2))


def graphs() -> Iterator[list[Any]]:
    """Every set of pairs among five patients; likeness in three orders, one of them all alike."""
    forwards = range(len(EDGES))
    orders = (forwards, tuple(reversed(forwards)), (0,) * len(EDGES))
    for chosen in range(2 ** len(EDGES)):
        for order in orders:
            yield [(*pair, 0.7 + 0.01 * order[n]) for n, pair in enumerate(EDGES) if chosen >> n & 1]


def without(pairs: list[Any], patient: str) -> list[Any]:
    return [pair for pair in pairs if patient not in pair[:2]]


def test_one_patient_changes_at_most_one_other_and_no_pair_takes_part_whole() -> None:
    most = 0
    for pairs in graphs():
        held = waiting(pairs)
        assert all(held & {one, other} for one, other, _ in pairs)
        assert held <= {name for pair in pairs for name in pair[:2]}
        for patient in PATIENTS:
            changed = (held ^ waiting(without(pairs, patient))) - {patient}
            assert len(changed) <= 1
            most = max(most, len(changed))
    assert most == 1


def test_it_does_not_matter_in_which_order_pairs_are_given_or_written() -> None:
    pairs = [("a", "b", 0.8), ("b", "c", 0.9), ("c", "d", 0.8), ("d", "a", 0.8)]
    expected = waiting(pairs)
    for shuffled in permutations(pairs):
        assert waiting((other, one, score) for one, other, score in shuffled) == expected


def test_of_a_patient_who_resembles_eight_others_only_the_most_alike_waits_too() -> None:
    assert waiting(("hub", f"leaf {n}", 0.7 + 0.01 * n) for n in range(8)) == {"hub", "leaf 7"}


@pytest.mark.parametrize("first", [True, False])
def test_a_patient_with_pictures_like_those_of_eight_others_holds_one_of_them_back(tmp_path: Path, first: bool) -> None:
    """By real comparisons: X has eight pictures, each like the only picture of one other patient."""
    pixels = np.rint(255 * simulate(10, seed=5, size=128).images).astype(np.uint8)
    rng = np.random.default_rng(1)
    alike = np.clip(pixels.astype(int) + rng.integers(-6, 7, pixels.shape), 0, 255).astype(np.uint8)
    home = make_node(tmp_path / "home")

    def come(vault: Vault, names: list[str]) -> None:
        with vault.writing() as writer:
            for name in names:
                images = alike[:8] if name == "X" else pixels[[int(name)]]
                for image in images:
                    writer.add(name, StoredImage(image, None, None, "benign", ""))
            writer.flush()
            compare_new(vault, writer)

    others = [str(number) for number in range(10)]
    with Vault(home) as vault:
        for names in [["X"], others] if first else [others, ["X"]]:
            come(vault, names)
        assert len(vault.twins()) == 8
        with_x = {one.pseudonym for one in vault.enrolled("s", settle=False)}
        with vault.writing() as writer:
            writer.forget(vault.pseudonym("X"))
        without_x = {one.pseudonym for one in vault.enrolled("s", settle=False)}
        x = vault.pseudonym("X")
    assert len(without_x) == 10
    assert len((with_x ^ without_x) - {x}) == 1
