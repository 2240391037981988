"""Seven faults to plant in the mechanism: (module, name of the function to replace, maker of the replacement)."""

import torch

import sonoshare_privacy.patient_dp as engine_module
import sonoshare_privacy.patient_gradients.per_patient as gradients_module
from sonoshare_privacy.mechanisms.gaussian import gaussian_integers
from sonoshare_privacy.mechanisms.sampling import poisson_sample


def scaled_noise(part):
    return lambda total, deviation: total.add_((gaussian_integers(len(total), deviation).double() * part).long())


def repeated_noise():
    kept = {}

    def noise(total, deviation):
        total += kept.setdefault(len(total), gaussian_integers(len(total), deviation))

    return noise


FAULTS = {
    "half the noise": (engine_module, "add_gaussian_integers", lambda: scaled_noise(0.5)),
    "a tenth of the noise": (engine_module, "add_gaussian_integers", lambda: scaled_noise(0.1)),
    "noise divided by the batch": (engine_module, "add_gaussian_integers", lambda: scaled_noise(1 / 20)),
    "no noise": (engine_module, "add_gaussian_integers", lambda: scaled_noise(0.0)),
    "no clipping": (gradients_module, "clip_factors", lambda: lambda norms, *_: torch.ones_like(norms)),
    "a rate four times the stated": (engine_module, "poisson_sample", lambda: lambda n, q: poisson_sample(n, 4 * q)),
    "the same noise in every step": (engine_module, "add_gaussian_integers", repeated_noise),
}
