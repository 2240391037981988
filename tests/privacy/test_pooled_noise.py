"""Pooled noise: t shares are the whole noise, a share leaves once and masked, and its charge says what it rests on."""

import copy
import math
import pickle
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import ndtr
from scipy.stats import chi2
from tests.privacy.conftest import Cohort

import sonoshare_privacy.step_release as release_module
from sonoshare_privacy.accounting import Event, PooledGaussian, SampledGaussian, epsilon, merged
from sonoshare_privacy.masking import pair_masks
from sonoshare_privacy.mechanisms.gaussian import Grid, gaussian_integers
from sonoshare_privacy.patient_gradients import PatientGradients
from sonoshare_privacy.pooled_release import PooledRelease, PooledSum, share_deviation
from sonoshare_privacy.step_release import Patients
from sonoshare_shared.errors import InputError, IntegrityError, LedgerError, NewerVersionError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.charge import NO_PREVIOUS, Charge
from sonoshare_shared.protocol.documents.plan import Mechanism

HONEST = 3
HOSPITALS = ("east", "north", "south", "west")


@given(
    clip=st.floats(1e-9, 1e9),
    sigma=st.floats(1 / 64, 1e6),
    dimension=st.integers(1, 1 << 34),
    honest=st.integers(2, 256),
)
@settings(max_examples=300, deadline=None)
def test_the_variances_of_t_shares_are_never_less_than_the_whole(
    clip: float, sigma: float, dimension: int, honest: int
) -> None:
    grid = Grid(clip, sigma, dimension)
    together, whole = honest * Fraction(share_deviation(grid, honest)) ** 2, Fraction(grid.deviation) ** 2
    assert whole <= together <= whole * (1 + Fraction(1, 1 << 38))


@pytest.mark.parametrize("honest", [2, 5])
@pytest.mark.parametrize("more", [0, 3])
def test_drawn_shares_add_up_to_the_stated_variance(honest: int, more: int) -> None:
    grid, numbers = Grid(0.5, 1.3, 1 << 16), 1 << 16
    shares = [gaussian_integers(numbers, share_deviation(grid, honest)).double() for _ in range(honest + more)]
    stated = grid.deviation**2 * (honest + more) / honest
    found = float(sum(shares).square().sum()) / stated
    low, high = chi2.ppf([1e-7, 1 - 1e-7], numbers)
    assert low < found < high


def law(deviation: float, reach: int = 60) -> NDArray[np.float64]:
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    return np.asarray(weights / weights.sum())


@pytest.mark.parametrize("deviation", [0.75, 1.0, 1.4])
@pytest.mark.parametrize("honest", [2, 3, 6])
def test_a_sum_of_discrete_gaussians_is_as_near_to_one_as_the_page_says(deviation: float, honest: int) -> None:
    """Kairouz, Liu and Steinke 2021: the logarithm of the ratio is at most tau, everywhere."""
    total = law(deviation)
    for _ in range(honest - 1):
        total = np.convolve(total, law(deviation))
    whole = law(deviation * math.sqrt(honest), len(total) // 2)
    middle = slice(len(total) // 2 - 8, len(total) // 2 + 9)
    apart = np.abs(np.log(total[middle] / whole[middle])).max()
    tau = 10 * sum(math.exp(-2 * (math.pi * deviation) ** 2 * k / (k + 1)) for k in range(1, honest))
    assert apart <= tau
    assert apart > 0 or tau < 1e-12


def test_the_smallest_share_of_any_plan_is_so_wide_that_the_sum_is_the_gaussian() -> None:
    narrowest = share_deviation(Grid(1.0, 1 / 64, 1), 256)
    assert narrowest >= 2.0**33
    tau_exponent = math.log(10 * 255) - (math.pi * narrowest) ** 2  # of e
    assert tau_exponent < -(2.0**60)


def audited(noise: NDArray[np.float64], sigma: float, at: float) -> tuple[float, float]:
    """Delta that telling two neighbouring sums apart shows at an epsilon, and its standard error; noise in units of
    the sensitivity, one patient of norm 1 or none.
    """
    half = len(noise) // 2
    limit = 0.5 + sigma**2 * at
    hit, false = float((1 + noise[:half] > limit).mean()), float((noise[half:] > limit).mean())
    return hit - math.exp(at) * false, math.sqrt((hit + math.exp(2 * at) * false) / half)


@pytest.mark.parametrize("adding", [HONEST, HONEST - 1, 1])
def test_neighbouring_sums_are_told_apart_as_stated_and_better_only_where_shares_are_missing(adding: int) -> None:
    sigma, at, trials = 1.0, 1.0, 1 << 20
    grid = Grid(1.0, sigma, 1)
    noise = sum((gaussian_integers(trials, share_deviation(grid, HONEST)).numpy() for _ in range(adding)), 0)
    shown, error = audited(np.zeros(trials) + noise / grid.sensitivity, sigma, at)
    stated = float(ndtr(0.5 / sigma - at * sigma) - math.exp(at) * ndtr(-0.5 / sigma - at * sigma))
    if adding == HONEST:
        assert abs(shown - stated) < 5 * error
    else:
        assert shown > stated + 5 * error


@pytest.fixture
def pooled(cohort: Cohort, open_ledger: Callable[..., Any], mechanism: Mechanism) -> Callable[..., Any]:
    """Makes a hospital's release of shares with its engine and ledger."""

    def make(hospital: str = "north", steps: int = 1, planned: int = 1) -> tuple[PooledRelease, Any, Any]:
        engine = PatientGradients(
            cohort.model,
            dict(cohort.model.named_parameters()),
            draws=mechanism.draws,
            clip_norm=mechanism.clip_norm,
            clip_mode=mechanism.clip_mode,
            places=4,
        )
        ledger = open_ledger(f"{hospital}.db", hospital=hospital)
        release = PooledRelease(
            engine,
            mechanism,
            honest=HONEST,
            ledger=ledger,
            study="study-a",
            purpose="round 1",
            steps=steps,
            planned=planned,
            cohort=40,
        )
        return release, engine, ledger

    return make


def everybody(cohort: Cohort, count: int = 40) -> Patients:
    return Patients(count, cohort.draw, cohort.loss, cohort.probe()[0])


def test_the_charge_says_what_it_rests_on_and_costs_what_the_whole_noise_costs(pooled: Callable[..., Any]) -> None:
    _, _, ledger = pooled(steps=2, planned=2)
    (event,) = ledger.entries()[-1].charge.events
    assert event == PooledGaussian(0.25, 2.0, 2, HONEST)
    assert ledger.spent().epsilon == epsilon([SampledGaussian(0.25, 2.0, 2)], 1e-5)
    assert b'"honest":3' in ledger.entries()[-1].body
    assert event.alone.noise_multiplier == pytest.approx(2.0 / math.sqrt(3))
    assert epsilon([event.alone], 1e-5) > epsilon([event], 1e-5)


def test_what_rests_on_others_is_never_merged_with_what_does_not() -> None:
    events: list[Event] = [
        PooledGaussian(0.25, 2.0, 1, 3),
        SampledGaussian(0.25, 2.0, 4),
        PooledGaussian(0.25, 2.0, 1, 3),
    ]
    together = merged([*events, PooledGaussian(0.25, 2.0, 1, 4)])
    assert set(together) == {
        SampledGaussian(0.25, 2.0, 4),
        PooledGaussian(0.25, 2.0, 2, 3),
        PooledGaussian(0.25, 2.0, 1, 4),
    }
    assert epsilon(together, 1e-5) == epsilon([SampledGaussian(0.25, 2.0, 7)], 1e-5)


def test_a_charge_from_which_the_assumption_was_stripped_is_no_charge() -> None:
    charge = Charge(
        hospital="north",
        sequence=1,
        kind="reserved",
        events=(PooledGaussian(0.25, 2.0, 1, 3),),
        time="",
        previous=NO_PREVIOUS,
    )
    said = charge.model_dump(mode="json", by_alias=True)
    assert Charge.from_bytes(charge.canonical()).events == charge.events
    del said["events"][0]["honest"]
    with pytest.raises(IntegrityError, match="honest"):
        Charge.from_bytes(canonical_bytes(said))
    said["events"][0] |= {"mechanism": "sampled-gaussian", "honest": 3}
    with pytest.raises(NewerVersionError, match="honest"):
        Charge.from_bytes(canonical_bytes(said))
    with pytest.raises(ValidationError):
        PooledGaussian(0.25, 2.0, 1, 1)


def test_masked_shares_of_real_engines_add_up_to_contributions_and_noise(
    pooled: Callable[..., Any], cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.Tensor] = []

    def noise(total: torch.Tensor, deviation: float) -> None:
        drawn.append(gaussian_integers(len(total), deviation))
        total += drawn[-1]

    monkeypatch.setattr(release_module, "add_gaussian_integers", noise)
    pairs = {frozenset(pair): bytes([number]) * 32 for number, pair in enumerate(combinations(HOSPITALS, 2))}
    sent: dict[str, Any] = {}
    plain: Any = 0
    added: Any = 0
    for hospital in HOSPITALS:
        release, engine, _ = pooled(hospital)
        with engine:
            share = release.next(everybody(cohort))
        words = share.take()
        plain, added = plain + words.view(np.int64), added + drawn[-1].numpy()
        secrets = {other: pairs[frozenset((hospital, other))] for other in HOSPITALS if other != hospital}
        sent[hospital] = pair_masks.masked(words, hospital, secrets)
        assert not (sent[hospital] == words).any()
    found = PooledSum.of(
        pair_masks.summed(sent.values()), release.grid, rate=0.25, patients=160, shares=4, honest=HONEST
    )
    assert (found.integers == plain).all()
    contributions = np.abs(plain - added)
    most = 160 * release.grid.sensitivity
    assert 0 < contributions.max() < most
    assert 0 < found.mean_loss() - float(added[-1]) * found.grid.step / (0.2 * 0.5) * 2 / 40 < 2
    with pytest.raises(IntegrityError, match="no patients and no noise"):
        PooledSum.of(sent["north"], release.grid, rate=0.25, patients=160, shares=4, honest=HONEST)
    with pytest.raises(InputError, match="honest hospitals"):
        PooledSum.of(sent["north"], release.grid, rate=0.25, patients=160, shares=2, honest=HONEST)


def test_a_share_is_taken_once_and_never_copied(pooled: Callable[..., Any], cohort: Cohort) -> None:
    release, engine, _ = pooled()
    with engine:
        share = release.next(everybody(cohort))
    for double in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(LedgerError):
            double(share)
    assert len(share.take()) == engine.dimension + 1
    with pytest.raises(LedgerError, match="taken once"):
        share.take()
    assert "Share object" in repr(share)


def test_more_noise_than_is_accounted_for_is_refused_before_the_charge(
    pooled: Callable[..., Any], open_ledger: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match=r"2\*\*40"):
        pooled(planned=1 << 35)
    with pytest.raises(InputError, match="steps"):
        pooled(steps=2, planned=1)
    assert len(open_ledger("north.db", hospital="north").entries()) == 1
