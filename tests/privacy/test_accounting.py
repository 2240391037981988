"""CASES 46: the accountant against golden values, closed forms and two other accountants."""

import gc
import itertools
import math
from typing import Any

import dp_accounting
import pytest
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from dp_accounting.rdp import rdp_privacy_accountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from sonoshare_privacy.accounting import (
    PureDP,
    SampledGaussian,
    epsilon,
    epsilon_at_most,
    noise_multiplier_for,
    prv_epsilon,
)
from sonoshare_shared.errors import InputError

# rate, noise multiplier, steps, delta, epsilon of record (PLD at 1e-4), Opacus PRV
GOLDEN = [
    (0.1, 1.0, 100, 1e-4, 5.96592, 5.97640),
    (0.01, 2.0, 10_000, 1e-4, 1.84289, 1.85299),
    (0.25, 4.0, 500, 1e-4, 5.85103, 5.86141),
    (0.5, 6.0, 200, 1e-4, 4.69330, 4.70345),
    (0.05, 0.7, 200, 1e-4, 8.89576, 8.90606),
    (0.25, 8.0, 1000, 1e-4, 3.78297, 3.79312),
    (1.0, 10.0, 50, 1e-4, 2.53253, 2.54274),
]

TARGETS = [(8, 1e-4, 0.25, 200), (1, 1e-5, 0.1, 100), (3, 1e-5, 1, 60)]


@pytest.mark.parametrize("row", GOLDEN)
def test_case_46_golden_table(row: tuple[float, float, int, float, float, float]) -> None:
    rate, sigma, steps, delta, pld, prv = row
    events = [SampledGaussian(rate, sigma, steps)]
    assert epsilon(events, delta) == pytest.approx(pld, abs=2e-5)
    assert abs(epsilon(events, delta) - prv) < 0.02


@pytest.mark.parametrize("row", GOLDEN[:3])
def test_case_46_prv_cross_check_and_rdp_above(row: tuple[float, float, int, float, float, float]) -> None:
    rate, sigma, steps, delta, pld, prv = row
    events = [SampledGaussian(rate, sigma, steps)]
    assert prv_epsilon(events, delta) == pytest.approx(prv, abs=1e-3)
    rdp = rdp_privacy_accountant.RdpAccountant()
    rdp.compose(dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(sigma)), steps)
    assert pld < rdp.get_epsilon(delta) < 1.3 * pld


@given(st.floats(1.0, 50.0), st.integers(1, 1000), st.floats(1e-8, 1e-2))
def test_rate_one_is_the_closed_form_and_never_below_it(sigma: Any, steps: Any, delta: Any) -> None:
    found = epsilon([SampledGaussian(1.0, sigma, steps)], delta)
    mu = math.sqrt(steps) / sigma
    needed = norm.cdf(mu / 2 - found / mu) - math.exp(found + norm.logcdf(-mu / 2 - found / mu))
    assert needed <= delta * (1 + 1e-9)
    if found > 0.01:
        lower = found * (1 - 1e-6)
        assert norm.cdf(mu / 2 - lower / mu) - math.exp(lower + norm.logcdf(-mu / 2 - lower / mu)) > delta


def test_composition_ignores_order_and_grouping() -> None:
    parts: list[SampledGaussian | PureDP] = [
        SampledGaussian(0.1, 2.0, 30),
        SampledGaussian(0.25, 4.0, 50),
        PureDP(0.25),
        SampledGaussian(1, 20.0, 9),
    ]
    values = {epsilon(order, 1e-5) for order in itertools.permutations(parts)}
    assert len(values) == 1
    split: list[SampledGaussian | PureDP] = [SampledGaussian(0.1, 2.0, 10), *parts[1:], SampledGaussian(0.1, 2.0, 20)]
    assert epsilon(split, 1e-5) == values.pop()


def test_each_event_adds_and_the_whole_is_at_most_the_sum() -> None:
    study, audit, other = SampledGaussian(0.1, 2.0, 100), PureDP(0.5), SampledGaussian(0.3, 6.0, 40)
    one, two, three = (epsilon([study, audit, other][:n], 1e-5) for n in (1, 2, 3))  # type: ignore[arg-type]
    assert one < two < three
    assert two <= one + 0.5 + 1e-6
    assert three < one + 0.5 + epsilon([other], 1e-5)


def test_pure_events_never_cost_more_than_their_sum() -> None:
    assert epsilon([PureDP(0.5), PureDP(0.5)], 1e-9) <= 1.0
    assert epsilon([PureDP(1.0)], 1e-9) == pytest.approx(1.0, abs=1e-6)
    assert epsilon([], 1e-5) == 0


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([0.05, 0.25, 1.0]), st.floats(1.0, 8.0), st.integers(1, 300))
def test_quick_bound_is_above_and_near(rate: Any, sigma: Any, steps: Any) -> None:
    events = [SampledGaussian(rate, sigma, steps)]
    exact, bound = epsilon(events, 1e-5), epsilon_at_most(events, 1e-5)
    assert exact <= bound + 1e-9
    assert bound <= 1.05 * exact + 0.01


@pytest.mark.parametrize(
    ("target", "delta", "rate", "steps"), [(8, 1e-4, 0.25, 200), (1, 1e-5, 0.1, 100), (3, 1e-5, 1, 60)]
)
def test_calibration_keeps_the_target_and_wastes_little(target: int, delta: float, rate: float, steps: int) -> None:
    sigma = noise_multiplier_for(target, delta, rate, steps)
    assert epsilon([SampledGaussian(rate, sigma, steps)], delta) <= target
    assert epsilon([SampledGaussian(rate, sigma * 0.999, steps)], delta) > target


def test_calibration_leaves_room_for_what_stands_beside() -> None:
    audits = [PureDP(0.5), PureDP(0.5)]
    sigma = noise_multiplier_for(4, 1e-4, 1, 50, beside=audits)
    assert epsilon([SampledGaussian(1, sigma, 50), *audits], 1e-4) <= 4
    with pytest.raises(InputError, match="use up"):
        noise_multiplier_for(1, 1e-12, 1, 50, beside=[PureDP(0.5), PureDP(0.6)])


@pytest.mark.parametrize("arguments", [(0.0, 1.0, 1), (1.1, 1.0, 1), (0.5, 0.0, 1), (0.5, 1.0, 0), (0.5, math.nan, 1)])
def test_events_that_make_no_sense_cannot_be_built(arguments: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        SampledGaussian(*arguments)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5])
def test_delta_must_be_a_probability(delta: float) -> None:
    with pytest.raises(InputError):
        epsilon([PureDP(1.0)], delta)


def test_charges_leave_no_distributions_behind() -> None:
    """Each charge of a study's rounds makes a new one of megabytes: an agent that kept them would grow for years."""
    for rounds in range(1, 25):
        epsilon([SampledGaussian(0.2, 1.7, 2 * rounds)], 1e-3)
    kept = [thing for thing in gc.get_objects() if type(thing) is PrivacyLossDistribution]
    assert len(kept) < 12
