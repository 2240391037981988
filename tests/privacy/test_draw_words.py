"""Numbers for patients' draws: Philox as published, one key a patient, and no trace of anybody else."""

from typing import Final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sonoshare_privacy.mechanisms import draw_words
from sonoshare_privacy.mechanisms.draw_words import coins, integers_below, normals, public_keys, shares, words

LOW: Final = (1 << 32) - 1
PUBLISHED: Final = (
    # Known answers of Philox 4x32-10 in Random123 (Salmon et al. 2011): counter, key, words.
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((LOW, LOW, LOW, LOW), (LOW, LOW), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """The paper's rounds, in whole numbers."""
    a, b, c, d = counter
    one, two = key
    for _ in range(10):
        even, odd = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (odd >> 32) ^ b ^ one, odd & LOW, (even >> 32) ^ d ^ two, even & LOW
        one, two = (one + 0x9E3779B9) & LOW, (two + 0xBB67AE85) & LOW
    return a, b, c, d


@pytest.mark.parametrize(("counter", "key", "answer"), PUBLISHED)
def test_the_comparison_is_philox_as_published(
    counter: tuple[int, ...], key: tuple[int, ...], answer: tuple[int, ...]
) -> None:
    assert philox(counter, key) == answer


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(0, LOW), min_size=4, max_size=4), min_size=1, max_size=4), st.integers(1, 23))
def test_words_are_philox_of_the_key_and_the_place_in_the_stream(keys: list[list[int]], count: int) -> None:
    found = words(torch.tensor(keys), count).tolist()
    for (one, two, three, four), stream in zip(keys, found, strict=True):
        blocks = [philox((block, 0, three, four), (one, two)) for block in range(-(-count // 4))]
        assert stream == [word for block in blocks for word in block][:count]


def test_a_patient_has_the_same_numbers_in_every_place_and_company() -> None:
    keys = public_keys(9, 1)
    everybody = words(keys, 1000)
    for place in range(9):
        alone = words(keys[place : place + 1], 1000)
        turned = words(keys.roll(3, 0), 1000)[(place + 3) % 9]
        for numbers in (lambda w: w, coins, shares, normals):
            assert torch.equal(numbers(everybody)[place], numbers(alone)[0])
            assert torch.equal(numbers(everybody)[place], numbers(turned))
            assert torch.equal(numbers(everybody[place, :7]), numbers(everybody)[place, :7]), "nor of how many"


def test_normal_numbers_are_the_inverse_of_the_distribution() -> None:
    edges = torch.tensor([0, 1, 2, LOW >> 1, (LOW >> 1) - 1, (LOW >> 1) + 1, LOW, LOW - 1, 1 << 30, 3 << 30])
    drawn = torch.cat([edges, words(public_keys(1, 5), 1 << 18)[0]])
    tail = (2 * (drawn & (LOW >> 1)) + 1).double() / (1 << 33)
    exact = -torch.special.ndtri(tail) * torch.where(drawn > LOW >> 1, -1, 1)
    found = normals(drawn)
    assert found.dtype is torch.float32
    assert float((found.double() - exact).abs().max()) < 2e-6
    assert 6.2 < float(found.abs().max()) < 6.4
    assert stats.kstest(found[len(edges) :].double().numpy(), "norm").pvalue > 1e-4


def test_choices_are_even() -> None:
    drawn = words(public_keys(3, 8), 30_000)
    limits = torch.tensor([1, 5, 7])
    found = integers_below(drawn, limits)
    for row, limit in zip(found, limits.tolist(), strict=True):
        counts = torch.bincount(row, minlength=limit)
        assert len(counts) == limit
        assert limit == 1 or stats.chisquare(counts.numpy()).pvalue > 1e-4
    assert abs(float(coins(drawn).double().mean()) - 0.5) < 0.01
    assert 0 <= float(shares(drawn).min()) < float(shares(drawn).max()) < 1
    edge = torch.tensor([[LOW]])
    assert integers_below(edge, torch.tensor([256])).item() == 255
    assert float(shares(edge)) < 1


def test_streams_of_neighbouring_keys_have_nothing_in_common() -> None:
    keys = torch.tensor([[7, 7, 7, 7], [8, 7, 7, 7], [7, 8, 7, 7], [7, 7, 8, 7], [7, 7, 7, 8]])
    numbers = normals(words(keys, 40_000)).double()
    assert float(torch.corrcoef(numbers).fill_diagonal_(0).abs().max()) < 0.03
    assert len({int(word) for word in words(keys, 40_000).flatten()}) > 199_900


def test_fresh_keys_come_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def token(size: int) -> bytes:
        asked.append(size)
        return bytes(range(size))

    monkeypatch.setattr("sonoshare_privacy.mechanisms.draw_words.secrets.token_bytes", token)
    assert draw_words.fresh_keys(2).tolist()[1][0] == 0x13121110
    assert asked == [32], "128 bits a patient"
