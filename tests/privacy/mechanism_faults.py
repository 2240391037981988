"""Seven faults to plant in the mechanism: (module, name of the function to replace, maker of the replacement)."""

from collections.abc import Callable
from typing import Any

import torch

import sonoshare_privacy.patient_gradients.per_patient as gradients_module
import sonoshare_privacy.step_release as release_module
from sonoshare_privacy.mechanisms.gaussian import gaussian_integers
from sonoshare_privacy.mechanisms.sampling import poisson_sample
from sonoshare_privacy.patient_gradients.buffer import add_rounded_sum


def scaled_noise(part: float) -> Callable[..., Any]:
    return lambda total, deviation: total.add_((gaussian_integers(len(total), deviation).double() * part).long())


def repeated_noise() -> Callable[..., Any]:
    kept: dict[Any, Any] = {}

    def noise(total: Any, deviation: Any) -> None:
        total += kept.setdefault(len(total), gaussian_integers(len(total), deviation))

    return noise


def unclipped() -> Callable[..., Any]:
    """Neither the clip nor the measure that would refuse its absence."""

    def add(rows: Any, factors: Any, step: Any, out: Any) -> torch.Tensor:
        add_rounded_sum(rows, torch.ones_like(factors), step, out)
        return torch.zeros_like(factors)

    return add


FAULTS = {
    "half the noise": (release_module, "add_gaussian_integers", lambda: scaled_noise(0.5)),
    "a tenth of the noise": (release_module, "add_gaussian_integers", lambda: scaled_noise(0.1)),
    "noise divided by the batch": (release_module, "add_gaussian_integers", lambda: scaled_noise(1 / 20)),
    "no noise": (release_module, "add_gaussian_integers", lambda: scaled_noise(0.0)),
    "no clipping": (gradients_module, "add_rounded_sum", unclipped),
    "a rate four times the stated": (release_module, "poisson_sample", lambda: lambda n, q: poisson_sample(n, 4 * q)),
    "the same noise in every step": (release_module, "add_gaussian_integers", repeated_noise),
}
