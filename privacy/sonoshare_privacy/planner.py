"""What a cohort and a budget can buy, before a unit of it is spent. Uses public numbers only.

Neighbouring relation: add or remove one patient; every hospital keeps the whole epsilon for its own patients.

Noise to signal. A step's noisy sum has noise of norm sigma C sqrt(d) over d trained numbers, and a signal of at most
q N C (every sampled patient's clipped gradient pointing the same way). So

    noise_to_signal = sigma sqrt(d) / (q N)                 one step, one hospital

and over T steps the average's is sqrt(T) times smaller. H hospitals with noise of their own divide it by sqrt(H); with
one noise for all (masked aggregation) by H. `trainable_parameters` is the d at which the average's ratio is
`LEARNABLE`: about where affine adapters of 3e4 numbers still learned from 150 patients at epsilon 8. It is a rule of
thumb for the *order* of magnitude, not a promise: gradients of different patients do not all agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sonoshare_privacy.accounting import Event, PureDP, SampledGaussian, epsilon, noise_multiplier_for
from sonoshare_shared.errors import InputError, PolicyError

LEARNABLE: Final = 0.6  # noise to signal of the average over all steps
HOSPITALS: Final = (1, 2, 3, 5, 10, 20)


@dataclass(frozen=True)
class Consortium:
    """What several such hospitals could do together.

    Attributes:
        hospitals: how many, each of the plan's size.
        noise_to_signal: of one step, each hospital adding its own noise.
        trainable_parameters: likewise.
        pooled_noise_to_signal: with one noise for the masked sum.
        pooled_trainable_parameters: likewise.
    """

    hospitals: int
    noise_to_signal: float
    trainable_parameters: int
    pooled_noise_to_signal: float
    pooled_trainable_parameters: int


@dataclass(frozen=True)
class Plan:
    """A study's mechanism and what to expect of it.

    Attributes:
        patients: nominal cohort N of each hospital.
        hospitals: H.
        noise_multiplier: sigma that keeps the budget.
        epsilon: of record, training and audits together.
        epsilon_training: of record, training alone.
        delta: at which epsilon holds.
        steps: T.
        rate: q.
        parameters: d that ``noise_to_signal`` is stated for.
        noise_to_signal: of one step, all H hospitals together, own noise.
        trainable_parameters: for all H hospitals together, own noise.
        with_more_hospitals: what joining brings.
        audits: epsilon set aside for audits.
    """

    patients: int
    hospitals: int
    noise_multiplier: float
    epsilon: float
    epsilon_training: float
    delta: float
    steps: int
    rate: float
    parameters: int
    noise_to_signal: float
    trainable_parameters: int
    with_more_hospitals: tuple[Consortium, ...]
    audits: float = 0.0

    def epsilon_after(self, steps: int) -> float:
        """Epsilon of record, without audits, once so many steps were taken."""
        if steps == 0:
            return 0.0
        return epsilon([SampledGaussian(self.rate, self.noise_multiplier, steps)], self.delta)


def plan_study(
    *,
    patients: int,
    epsilon_target: float,
    delta: float,
    hospitals: int = 1,
    steps: int = 200,
    rate: float = 0.25,
    parameters: int = 30_000,
    audits: Sequence[float] = (),
) -> Plan:
    """Calibrate a study.

    Args:
        patients: nominal cohort of each hospital.
        epsilon_target: budget of training and audits together.
        delta: below 1 / ``patients``.
        hospitals: how many take part.
        steps: noisy sums of each hospital in the whole study.
        rate: Poisson sampling rate.
        parameters: trained numbers that the noise is judged for.
        audits: epsilons of the audits that the budget has to cover.

    Raises:
        PolicyError: delta is 1 / patients or more.
        InputError: a number is out of range, or the audits use up the budget.
    """
    if min(patients, hospitals, steps, parameters) < 1 or not 0 < rate <= 1:
        raise InputError("patients, hospitals, steps and parameters must be positive, the rate in (0, 1]")
    if not 0 < delta * patients < 1:
        raise PolicyError(
            f"delta {delta:g} is not below 1 / {patients} patients", remedy=f"take {0.1 / patients:.2g} or less"
        )
    beside: list[Event] = [PureDP(value) for value in audits]
    sigma = noise_multiplier_for(epsilon_target, delta, rate, steps, beside=beside)
    training = SampledGaussian(rate, sigma, steps)
    ratio = sigma * math.sqrt(parameters) / (rate * patients)
    largest = (LEARNABLE * math.sqrt(steps) * rate * patients / sigma) ** 2
    counts = sorted({*HOSPITALS, hospitals})
    return Plan(
        patients=patients,
        hospitals=hospitals,
        noise_multiplier=sigma,
        epsilon=epsilon([training, *beside], delta),
        epsilon_training=epsilon([training], delta),
        delta=delta,
        steps=steps,
        rate=rate,
        parameters=parameters,
        noise_to_signal=ratio / math.sqrt(hospitals),
        trainable_parameters=int(largest * hospitals),
        with_more_hospitals=tuple(
            Consortium(
                hospitals=count,
                noise_to_signal=ratio / math.sqrt(count),
                trainable_parameters=int(largest * count),
                pooled_noise_to_signal=ratio / count,
                pooled_trainable_parameters=int(largest * count**2),
            )
            for count in counts
        ),
        audits=math.fsum(audits),
    )
