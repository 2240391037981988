"""Masked sums: exact for everybody together, nothing for anybody alone. Proof: docs/proofs/masked-sums.md."""

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from sonoshare_privacy.masking.agreement import EphemeralKey, Sum, require_public_key
from sonoshare_privacy.masking.fixed_point import LARGEST_TOTAL, Grid, Words, decode, encode
from sonoshare_privacy.masking.layout import LOSS_REACH, Layout
from sonoshare_privacy.masking.pair_masks import from_bytes, masked, summed, to_bytes
from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.update_bound import round_reach
from sonoshare_shared.errors import InputError, IntegrityError

SUM = Sum(study="study", plan="a" * 64, round=3, members="b" * 64)
BLOCK = 1 << 14
FALSE_ALARM = 1e-9
"""Probability with which a test of uniformity fails although words are uniform."""
FIELD = 2**255 - 19
SMALL_ORDER = (
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    FIELD - 1,
)


def secrets_of(names: list[str], what: Sum = SUM) -> dict[str, dict[str, bytes]]:
    """What each hospital derives with each other one."""
    keys = {name: EphemeralKey.generate() for name in names}
    return {
        own: {other: keys[own].shared_with(keys[other].public_hex, own, other, what) for other in names if other != own}
        for own in names
    }


def all_masked(words: Mapping[str, Words]) -> dict[str, Words]:
    secrets = secrets_of(list(words))
    return {name: masked(words[name], name, secrets[name]) for name in words}


def drawn(size: int, seed: int = 0) -> Words:
    return np.random.default_rng(seed).integers(0, 2**64, size, dtype=np.uint64)


def require_uniform(words: Words) -> None:
    """Chi-squared over the 256 values of each of the eight bytes of a word."""
    octets = words.view(np.uint8).reshape(-1, 8)
    expected = len(words) / 256
    for place in range(8):
        counts = np.bincount(octets[:, place], minlength=256)
        assert chi2.sf(float(((counts - expected) ** 2 / expected).sum()), 255) > FALSE_ALARM / 8, place


@settings(max_examples=40, deadline=None)
@given(
    hospitals=st.integers(2, 9),
    size=st.sampled_from([0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]),
    seed=st.integers(0, 2**32),
)
def test_the_sum_over_all_hospitals_is_exact_modulo_two_to_the_64(hospitals: int, size: int, seed: int) -> None:
    words = {f"hospital-{i}": drawn(size, seed + i) for i in range(hospitals)}
    expected = np.zeros(size, np.uint64)
    for own in words.values():
        expected = expected + own
    assert np.array_equal(summed(all_masked(words).values()), expected)


@pytest.mark.parametrize("words", [np.zeros(1 << 17, np.uint64), np.full(1 << 17, 2**64 - 1, np.uint64)])
def test_a_single_masked_update_is_uniform_whatever_it_was(words: Words) -> None:
    secrets = secrets_of(["a", "b", "c"])
    sent = masked(words, "b", secrets["b"])
    require_uniform(sent)
    # The algebra: what is sent is the words plus masks that do not depend on them.
    other = drawn(len(words))
    assert np.array_equal(sent - words, masked(other, "b", secrets["b"]) - other)
    assert len(np.unique(sent)) > len(words) - 10  # and the stream does not begin again with a block


def test_a_hospital_that_plays_with_the_coordinator_learns_the_sum_of_the_rest_and_nothing_finer() -> None:
    words = {name: np.full(1 << 16, i, np.uint64) for i, name in enumerate(("a", "b", "c", "d"))}
    secrets = secrets_of(list(words))
    sent = {name: masked(words[name], name, secrets[name]) for name in words}
    # "d" knows its own masks with each of the others, and takes them off.
    known = {name: sent[name] - (masked(np.zeros_like(words[name]), name, {"d": secrets["d"][name]})) for name in "abc"}
    assert np.array_equal(summed(known.values()), words["a"] + words["b"] + words["c"])
    for size in (1, 2):
        for some in combinations("abc", size):
            require_uniform(summed(known[name] for name in some))
    require_uniform(known["a"] - known["b"])


def test_masks_of_two_sets_have_nothing_in_common() -> None:
    """The same keys, asked for with everybody and then without "c": the difference of the sums is no update."""
    keys = {name: EphemeralKey.generate() for name in "abc"}
    ones = np.ones(1 << 16, np.uint64)

    def sent(names: str, what: Sum) -> dict[str, Words]:
        secrets = {
            own: {
                other: keys[own].shared_with(keys[other].public_hex, own, other, what)
                for other in names
                if other != own
            }
            for own in names
        }
        return {own: masked(ones, own, secrets[own]) for own in names}

    everybody, fewer = sent("abc", SUM), sent("ab", replace(SUM, members="c" * 64))
    assert np.array_equal(summed(fewer.values()), 2 * ones)
    for one in "ab":
        for other in "abc":
            require_uniform(fewer[one] - everybody[other])


@pytest.mark.parametrize(
    "changed",
    [
        replace(SUM, study="studz"),
        replace(SUM, plan="b" * 64),
        replace(SUM, round=4),
        replace(SUM, members="c" * 64),
    ],
)
def test_a_pair_s_secret_is_the_same_for_both_and_bound_to_all_that_the_sum_is(changed: Sum) -> None:
    one, other = EphemeralKey.generate(), EphemeralKey.generate()
    secret = one.shared_with(other.public_hex, "a", "b", SUM)
    assert secret == other.shared_with(one.public_hex, "b", "a", SUM)
    assert secret == EphemeralKey.from_secret(one.secret).shared_with(other.public_hex, "a", "b", SUM)
    assert secret != one.shared_with(other.public_hex, "a", "b", changed)
    # A hospital that signs another's key as its own shares no secret with anybody by it.
    assert secret != one.shared_with(other.public_hex, "a", "c", SUM)


@pytest.mark.parametrize("point", SMALL_ORDER)
@pytest.mark.parametrize("high_bit", [0, 1 << 255])
def test_a_key_of_small_order_is_refused(point: int, high_bit: int) -> None:
    public = (point | high_bit).to_bytes(32, "little").hex()
    with pytest.raises(IntegrityError, match="no key"):
        require_public_key(public)
    with pytest.raises(IntegrityError, match="no key"):
        EphemeralKey.generate().shared_with(public, "a", "b", SUM)


def test_a_key_has_one_way_to_be_written() -> None:
    public = EphemeralKey.generate().public_hex
    require_public_key(public)
    bent = (int.from_bytes(bytes.fromhex(public), "little") | 1 << 255).to_bytes(32, "little").hex()
    beyond = (FIELD + 9).to_bytes(32, "little").hex()  # the base point, once more
    for other in (bent, beyond, public[2:], "zz" * 32, ""):
        with pytest.raises(IntegrityError, match="no key"):
            require_public_key(other)


def test_a_damaged_key_a_lonely_mask_and_words_of_another_length_are_refused() -> None:
    with pytest.raises(IntegrityError):
        EphemeralKey.from_secret(bytes(31))
    with pytest.raises(InputError):
        EphemeralKey.generate().shared_with(EphemeralKey.generate().public_hex, "a", "a", SUM)
    for secrets in ({}, {"a": bytes(32)}):
        with pytest.raises(InputError):
            masked(drawn(3), "a", secrets)
    for parts in ([], [drawn(3), drawn(4)]):
        with pytest.raises(InputError):
            summed(parts)
    data = to_bytes(drawn(3))
    assert np.array_equal(from_bytes(data, 3), drawn(3))
    for broken in (data[:-1], data + b"\0", b""):
        with pytest.raises(IntegrityError, match="not 3 masked numbers"):
            from_bytes(broken, 3)


@settings(max_examples=100, deadline=None)
@given(
    reach=st.floats(1e-12, 1e12),
    weights=st.lists(st.integers(1, 100_000), min_size=1, max_size=30),
    seed=st.integers(0, 2**32),
)
def test_a_decoded_mean_lies_within_half_a_unit_of_the_exact_one(reach: float, weights: list[int], seed: int) -> None:
    rng, grid = np.random.default_rng(seed), Grid.of(reach)
    # In float64, so that most lie between two whole numbers of units: float32's own are few.
    values = [rng.uniform(-reach, reach, 20) for _ in weights]
    total = sum(weights)
    sent = [encode(value, grid, weight) for value, weight in zip(values, weights, strict=True)]
    mean = decode(summed(sent), grid, total)
    for i in range(20):
        exact = math.fsum(w * float(v[i]) for w, v in zip(weights, values, strict=True)) / total
        assert abs(mean[i] - exact) <= grid.mean_error + 2**-50 * abs(exact)
    assert grid.mean_error <= 2**-32 * reach


def test_the_largest_sum_does_not_wrap() -> None:
    grid = Grid.of(1.0)
    for sign in (1.0, -1.0):
        words = encode(np.array([sign]), grid, LARGEST_TOTAL // 4)
        assert decode(summed([words] * 3), grid, 3 * (LARGEST_TOTAL // 4))[0] == sign
    with pytest.raises(InputError):
        decode(words, grid, LARGEST_TOTAL)
    for weight in (0, -1, LARGEST_TOTAL):
        with pytest.raises(InputError):
            encode(np.zeros(1), grid, weight)


@pytest.mark.parametrize("value", [1.0001, -1.0001, 1e30, math.nan, math.inf])
def test_a_number_beyond_its_bound_is_not_encoded(value: float) -> None:
    with pytest.raises(IntegrityError):
        encode(np.array([0.5, value]), Grid.of(1.0), 1)


@pytest.mark.parametrize("reach", [0.0, -1.0, math.nan, math.inf])
def test_a_grid_needs_a_bound(reach: float) -> None:
    with pytest.raises(InputError):
        Grid.of(reach)


@pytest.mark.parametrize("beyond", [1, 2**40, 2**63 - 2**34, -(2**38)])
def test_case_32_a_sum_that_no_updates_have_is_refused(beyond: int) -> None:
    grid = Grid.of(1.0)
    honest = [encode(np.full(3, 1.0), grid, 10) for _ in range(2)]
    # One hospital of weight 10 sends what it likes; with the others it must stay within the bound of three.
    evil = np.full(3, (10 * grid.most + beyond) % 2**64, np.uint64)
    with pytest.raises(IntegrityError, match="beyond"):
        decode(summed([*honest, evil]), grid, 30)


OPTIMISER, STEPS = Optimiser(), 4
ADAPTER = {"b": np.ones((3, 2), np.float32), "a": np.zeros(5, np.float32), "c": np.full((), 2.0, np.float32)}
REACH = round_reach(OPTIMISER, STEPS)


def update(rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    most = {"a": OPTIMISER.smallest_rms * REACH, "b": REACH, "c": 2 * REACH}
    return {
        name: rng.uniform(-most[name], most[name], tensor.shape).astype(np.float32) for name, tensor in ADAPTER.items()
    }


def test_the_mean_of_masked_updates_is_that_of_the_updates() -> None:
    rng, layout = np.random.default_rng(5), Layout.of(ADAPTER, OPTIMISER, STEPS)
    weights = {"north": 150, "south": 80, "west": 2}
    updates = {name: update(rng) for name in weights}
    losses = {name: rng.normal(size=STEPS).tolist() for name in weights}
    words = {name: layout.encoded(updates[name], losses[name], weights[name]) for name in weights}
    said = layout.decoded(summed(all_masked(words).values()), 232)
    for part in layout.parts:
        expected = sum(
            weights[name]
            * np.asarray(losses[name] if part.name is None else updates[name][part.name], np.float64).reshape(-1)
            for name in weights
        )
        got = said.losses if part.name is None else said.tensors[part.name]
        np.testing.assert_allclose(got, expected / 232, rtol=1e-15, atol=part.grid.mean_error * (1 + 1e-9))
    # The finest unit is far below what float32 keeps of the numbers that the update is added to.
    assert all(part.grid.mean_error < 2**-24 * REACH for part in layout.parts if part.name is not None)
    assert layout.words == 5 + 6 + 1 + STEPS


def test_a_mask_that_is_missing_or_of_another_round_is_noticed_in_the_sum() -> None:
    layout = Layout.of(ADAPTER, OPTIMISER, STEPS)
    words = {name: layout.encoded(update(np.random.default_rng(i)), [0.1] * STEPS, 10) for i, name in enumerate("abc")}
    sent, other_round = all_masked(words), all_masked(words)
    for lot in ([sent["a"], sent["b"]], [sent["a"], sent["b"], other_round["c"]], [*sent.values(), sent["a"]]):
        with pytest.raises(IntegrityError, match="beyond"):
            layout.decoded(summed(lot), 30)


def test_layouts_differ_where_names_sizes_or_units_do() -> None:
    layout = Layout.of(ADAPTER, OPTIMISER, STEPS)
    others = [
        Layout.of({**ADAPTER, "d": ADAPTER["a"]}, OPTIMISER, STEPS),
        Layout.of({**ADAPTER, "a": np.zeros(6, np.float32)}, OPTIMISER, STEPS),
        Layout.of({**ADAPTER, "b": np.full((3, 2), 9, np.float32)}, OPTIMISER, STEPS),
        Layout.of(ADAPTER, OPTIMISER, STEPS + 1),
    ]
    assert layout.digest() == Layout.of(dict(reversed(ADAPTER.items())), OPTIMISER, STEPS).digest()
    assert layout.digest() not in {other.digest() for other in others}


def test_an_update_that_does_not_fit_or_reaches_too_far_is_not_encoded_and_losses_are_cut() -> None:
    layout, fitting = Layout.of(ADAPTER, OPTIMISER, STEPS), update(np.random.default_rng(0))
    losses = [0.0] * STEPS
    for broken in (
        {**fitting, "d": fitting["a"]},
        {**fitting, "a": np.zeros(6, np.float32)},
        {**fitting, "b": np.full((3, 2), 1.01 * REACH, np.float32)},
        {**fitting, "a": np.full(5, np.nan, np.float32)},
    ):
        with pytest.raises(IntegrityError):
            layout.encoded(broken, losses, 1)
    with pytest.raises(IntegrityError):
        layout.encoded(fitting, losses[1:], 1)
    said = layout.decoded(layout.encoded(fitting, [1e9, -1e9, 0.5, math.inf], 1), 1)
    assert said.losses == (LOSS_REACH, -LOSS_REACH, 0.5, LOSS_REACH)
