"""One sampled Gaussian step: bit by bit the distribution that ``dp_accounting`` makes."""

from typing import Any

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as library

from sonoshare_privacy.accounting import COARSE_INTERVAL, INTERVAL
from sonoshare_privacy.gaussian_loss import one_step
from sonoshare_shared.errors import InputError


def parts(pmf: Any) -> tuple[Any, ...]:
    """What a direction's distribution consists of."""
    dense = pmf.to_dense_pmf()
    return type(pmf), dense._discretization, dense._lower_loss, dense._infinity_mass, dense._pessimistic_estimate


def same(rate: float, noise_multiplier: float, interval: float) -> bool:
    """Whether both directions are the library's, to the last bit."""
    theirs = library.from_gaussian_mechanism(
        noise_multiplier,
        pessimistic_estimate=True,
        value_discretization_interval=interval,
        sampling_prob=rate,
        use_connect_dots=True,
    )
    ours = one_step(rate, noise_multiplier, interval)
    pairs = ((theirs._pmf_remove, ours._pmf_remove), (theirs._pmf_add, ours._pmf_add))
    return theirs._symmetric == ours._symmetric and all(
        parts(a) == parts(b) and np.array_equal(a.to_dense_pmf()._probs, b.to_dense_pmf()._probs) for a, b in pairs
    )


@pytest.mark.parametrize("rate", [1.0, 1 - 1e-9, 0.9, 0.25, 0.02, 1e-4, 1e-12, 1e-17])
@pytest.mark.parametrize("noise_multiplier", [0.3, 1.7, 25.0])
def test_every_bit_is_the_librarys(rate: float, noise_multiplier: float) -> None:
    assert same(rate, noise_multiplier, 10 * COARSE_INTERVAL)


@pytest.mark.parametrize(("rate", "noise_multiplier", "interval"), [(0.25, 4.2, INTERVAL), (0.1, 0.04, 0.1)])
def test_also_at_the_interval_of_record_and_for_loud_releases(
    rate: float, noise_multiplier: float, interval: float
) -> None:
    assert same(rate, noise_multiplier, interval)


def test_a_rate_that_only_rounding_separates_from_one_is_refused() -> None:
    with pytest.raises(InputError, match="too near to 1"):
        one_step(1 - 1e-16, 0.3, COARSE_INTERVAL)
