"""Do canaries tell a sound training from a broken one?

    python -m benchmarks.canaries [--seeds 20] [--epsilon 3] [--json]

Real private training of a small network (19 thousand numbers, 200 made-up patients, 100 steps at rate 0.1, 200
canaries) through `PatientDP`, once as it is and once with each of seven faults planted in the mechanism, for every
seed. Prints one JSON object as the last line of stdout:

- ``false_alarms``: sound runs that the conformance test flagged (bar 0);
- ``bound_above_claim``: sound runs whose lower bound on epsilon exceeded the claim (bar 0); ``largest_lower_bound``;
- ``caught``: by fault, runs that the conformance test flagged (bar 19 of 20); ``refuted``: by fault, runs whose lower
  bound exceeded the claim (sees gross faults only).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sonoshare_privacy.patient_gradients.per_patient as gradients_module
import sonoshare_privacy.step_release as release_module
from sonoshare_privacy import Budget, Budgets, Canaries, Ledger, PatientDP
from sonoshare_privacy.accounting import noise_multiplier_for
from sonoshare_privacy.canaries import CanaryRecord, claim, conformance, lower_bound
from sonoshare_privacy.mechanisms.gaussian import gaussian_integers
from sonoshare_privacy.mechanisms.sampling import poisson_sample
from sonoshare_privacy.patient_gradients.buffer import add_rounded_sum
from sonoshare_shared.protocol.documents.plan import Mechanism
from sonoshare_shared.protocol.keys import SigningKey

PATIENTS, STEPS, RATE, DELTA = 200, 100, 0.1, 1 / 3000
SOUND = "sound"


def scaled_noise(part: float) -> Callable[[torch.Tensor, float], None]:
    """Noise of the wrong size."""

    def add(total: torch.Tensor, deviation: float) -> None:
        total += (gaussian_integers(len(total), deviation).double() * part).to(torch.int64)

    return add


def repeated_noise() -> Callable[[torch.Tensor, float], None]:
    """The same noise in every step."""
    kept: list[torch.Tensor] = []

    def add(total: torch.Tensor, deviation: float) -> None:
        if not kept:
            kept.append(gaussian_integers(len(total), deviation))
        total += kept[0]

    return add


def unclipped(rows: torch.Tensor, factors: torch.Tensor, step: float, out: torch.Tensor) -> torch.Tensor:
    """Neither the clip nor the measure that would refuse its absence."""
    add_rounded_sum(rows, torch.ones_like(factors), step, out)
    return torch.zeros_like(factors)


FAULTS: dict[str, tuple[Any, str, Callable[[], Any]]] = {
    "half_the_noise": (release_module, "add_gaussian_integers", lambda: scaled_noise(0.5)),
    "tenth_of_the_noise": (release_module, "add_gaussian_integers", lambda: scaled_noise(0.1)),
    "noise_divided_by_batch": (release_module, "add_gaussian_integers", lambda: scaled_noise(1 / (RATE * PATIENTS))),
    "no_noise": (release_module, "add_gaussian_integers", lambda: scaled_noise(0.0)),
    "no_clipping": (gradients_module, "add_rounded_sum", lambda: unclipped),
    "rate_understated": (release_module, "poisson_sample", lambda: lambda n, q: poisson_sample(n, 4 * q)),
    "repeated_noise": (release_module, "add_gaussian_integers", repeated_noise),
}


@contextmanager
def planted(fault: str) -> Iterator[None]:
    """Break the mechanism for a while."""
    if fault == SOUND:
        yield
        return
    module, name, make = FAULTS[fault]
    original = getattr(module, name)
    setattr(module, name, make())
    try:
        yield
    finally:
        setattr(module, name, original)


def train(seed: int, mechanism: Mechanism, fault: str, folder: Path) -> CanaryRecord:
    """One training with canaries."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(16, 128), nn.LayerNorm(128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1)
    )
    inputs = torch.randn(PATIENTS, 16)

    def loss(batch: Any) -> torch.Tensor:
        value: torch.Tensor = (model(batch["x"]).squeeze(1) - batch["x"][:, 0]).square()
        return value

    ledger = Ledger(
        folder / f"{seed}-{fault}.db",
        key=SigningKey.generate(),
        hospital="alpha",
        clock=lambda: datetime.now(UTC),
        budgets=lambda: Budgets(study=Budget(100.0, DELTA), lifetime=Budget(100.0, DELTA)),
    )
    dp = PatientDP(
        model=model,
        parameters=dict(model.named_parameters()),
        mechanism=mechanism,
        divisor=RATE * PATIENTS,
        ledger=ledger,
        study="canaries",
        probe=[{"x": torch.randn(1, 16)} for _ in range(2)],
    )
    with planted(fault):
        outcome = dp.train(
            patients=PATIENTS,
            draw=lambda indices, _: {"x": inputs[indices]},
            loss=loss,
            steps=STEPS,
            purpose="canaries",
            canaries=Canaries(),
        )
    ledger.close()
    if outcome.canaries is None:
        raise RuntimeError("a training with canaries gave no record")
    return outcome.canaries


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    sigma = noise_multiplier_for(settings.epsilon, DELTA, RATE, STEPS)
    mechanism = Mechanism(rate=RATE, noise_multiplier=sigma, clip_norm=0.5, draws=1, delta=DELTA)
    stated = claim(mechanism, STEPS)
    flagged, bounds = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for fault in (SOUND, *FAULTS):
            records = [train(seed, mechanism, fault, Path(folder)) for seed in range(settings.seeds)]
            flagged[fault] = sum(bool(conformance(record).faults) for record in records)
            bounds[fault] = [lower_bound(record) for record in records]
            print(fault, flagged[fault], f"{max(bounds[fault]):.2f}", file=sys.stderr)
    result = {
        "seeds": settings.seeds,
        "epsilon": settings.epsilon,
        "noise_multiplier": sigma,
        "claim_at_audit_delta": stated,
        "false_alarms": flagged.pop(SOUND),
        "bound_above_claim": sum(bound > stated for bound in bounds[SOUND]),
        "largest_lower_bound": max(bounds.pop(SOUND)),
        "caught": flagged,
        "refuted": {fault: sum(bound > stated for bound in values) for fault, values in bounds.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
