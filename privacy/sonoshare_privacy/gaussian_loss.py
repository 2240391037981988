"""The privacy loss distribution of one sampled Gaussian step, as ``dp_accounting`` makes it, in less time.

The library looks up where the loss takes a value for one value after another, a hundred thousand times for a step; that
is most of what an answer costs. Here the same formula is applied to all values at once. The operations and their order
are the library's, so that every figure is the library's to the last bit (``tests/privacy/test_gaussian_loss.py``
compares them with ``from_gaussian_mechanism``).

Neighbouring relation: add or remove one patient. Losses and intervals are in nats.
"""

import math
from typing import Final

import numpy as np
from dp_accounting.pld import pld_pmf
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss
from numpy.typing import NDArray

from sonoshare_shared.errors import InputError

_NEAR: Final = 1e-9
"""Relative, within which the library takes a loss for the largest (or smallest) that there is: ``math.isclose``."""


class _Gaussian(GaussianPrivacyLoss):  # type: ignore[misc] # the library has no types
    """The library's loss of a sampled Gaussian step, which takes all values at once."""

    def deltas(self, epsilons: NDArray[np.float64]) -> NDArray[np.float64]:
        """Delta at each epsilon: ``get_delta_for_epsilon`` of the library.

        Args:
            epsilons: float64 [n], in nats.

        Returns:
            float64 [n], in [0, 1].
        """
        deltas = np.zeros_like(epsilons)
        reached = np.full_like(epsilons, fill_value=True, dtype=bool)
        if self.sampling_prob < 1 and self.adjacency_type == AdjacencyType.ADD:
            reached = epsilons < -math.log1p(-self.sampling_prob)
        elif self.sampling_prob < 1:
            reached = epsilons > math.log1p(-self.sampling_prob)
            deltas[~reached] = -np.expm1(epsilons[~reached])
        at = self._where(epsilons[reached])
        deltas[reached] = self.mu_upper_cdf(at) - np.exp(epsilons[reached] + self.mu_lower_log_cdf(at))
        return np.clip(deltas, 0, 1)

    def _where(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Largest outcome whose loss is at least this, for each: ``inverse_privacy_loss`` of the library."""
        added = self.adjacency_type == AdjacencyType.ADD
        unsampled = losses
        if self.sampling_prob < 1:
            sign = -1.0 if added else 1.0
            unsampled = sign * self._unsampled(sign * losses)
        at = -0.5 * self.sensitivity - unsampled * (self._standard_deviation**2) / self.sensitivity
        return np.asarray(self.sensitivity + at if added else at)

    def _unsampled(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """The loss without sampling that a loss with sampling stands for: log(1 + (exp(loss) - 1) / rate)."""
        least = math.log(1 - self.sampling_prob)
        at_least = np.abs(losses - least) <= _NEAR * np.maximum(np.abs(losses), abs(least))
        scale, offset = 1 / self.sampling_prob, 1 - 1 / self.sampling_prob
        unsampled = np.full_like(losses, -math.inf)
        if np.any(zero := ~at_least & (losses == 0)):
            unsampled[zero] = np.log(scale + offset)
        between = ~at_least & ~zero
        raised, taken = losses[between] + np.log(scale), np.log(-offset)
        if np.any(taken >= raised):
            raise InputError(
                f"the sampling rate {self.sampling_prob} is too near to 1 to be accounted for",
                remedy="take 1, or a rate that differs from it by 1e-9 or more",
            )
        unsampled[between] = raised + np.log1p(-np.exp(taken - raised))
        return unsampled


def one_step(rate: float, noise_multiplier: float, interval: float) -> PrivacyLossDistribution:
    """Both directions of one step, discretised by connecting the dots (pessimistic).

    Args:
        rate: Poisson sampling rate of patients, in (0, 1].
        noise_multiplier: deviation over sensitivity, positive.
        interval: of the discretised loss, in nats.

    Raises:
        InputError: the rate is below 1 by a rounding error only.
    """

    def towards(adjacency: AdjacencyType) -> pld_pmf.PLDPmf:
        loss = _Gaussian(noise_multiplier, sampling_prob=rate, adjacency_type=adjacency)
        bounds = loss.connect_dots_bounds()
        low, high = math.floor(bounds.epsilon_lower / interval), math.ceil(bounds.epsilon_upper / interval)
        deltas = loss.deltas(np.arange(low, high + 1) * interval)
        return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(interval, low, high, deltas)

    remove = towards(AdjacencyType.REMOVE)
    return PrivacyLossDistribution(remove) if rate == 1 else PrivacyLossDistribution(remove, towards(AdjacencyType.ADD))
