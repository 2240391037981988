"""The product's own training step beside a plain one, for a profile of the model, on a CPU or a GPU.

Both sides draw the same number of rows from the same patients by the agent's draws, run the same network in the same
arithmetic and move by the same optimiser. *Plain* takes all rows at once: mean loss, one backward pass. *Ours* is the
agent's step: sampling (at rate 1, so that the work is the same in every step), chunks of one shape, per-patient
gradients, clip, exact integer sum, cryptographic noise.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

import torch
from torch import nn

from benchmarks._parts import seconds_of
from benchmarks._phantom_patients import phantom_patients
from sonoshare_client.agent.draws import PatientDraws, loss_of, probe
from sonoshare_privacy import Budget, Budgets, Ledger, Optimiser
from sonoshare_privacy.mechanisms.draw_words import fresh_keys
from sonoshare_privacy.mechanisms.gaussian import Grid
from sonoshare_privacy.noisy_adam import NoisyAdam
from sonoshare_privacy.patient_gradients import PatientGradients
from sonoshare_privacy.patient_gradients.per_patient import Loss
from sonoshare_privacy.patient_gradients.places import places_of_chunk
from sonoshare_privacy.patient_gradients.room import CPU_ROOM, memory_of, most_places
from sonoshare_privacy.step_release import Patients, StepRelease
from sonoshare_shared.protocol.documents.plan import Mechanism, Precision
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.model.adapter import prepare, trained_parameters
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import Profile
from sonoshare_shared.science.precision import computing_in, forward_in

BARS: Final = {"affine": 1.15, "lora": 1.3, "full": 1.5, "memory": 1.2}
_PICTURES: Final = 64  # phantoms; patients beyond have the same ones again
_DELTA: Final = 1e-5
_PLANNED_STEPS: Final = 1000
Step = Callable[[], object]


@dataclass(frozen=True)
class Work:
    """What both sides do.

    Attributes:
        profile: of the network.
        trained: ``affine``, ``lora`` or ``full``.
        patients: of a step.
        draws: K.
        device: where.
        precision: as a plan names it; both sides compute in it.
    """

    profile: Profile
    trained: str
    patients: int
    draws: int
    device: torch.device
    precision: Precision

    def model(self) -> tuple[ConditionedUNet, dict[str, nn.Parameter]]:
        """A network of random weights and what is trained of it."""
        torch.manual_seed(0)
        model = ConditionedUNet(self.profile)
        prepare(model, self.trained)
        model.to(self.device)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        parameters = trained_parameters(model, self.trained)
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        return model, parameters

    def drawing(self) -> PatientDraws:
        """The agent's draws of made-up patients."""
        made = phantom_patients(min(self.patients, _PICTURES), seed=7, size=self.profile.size)
        patients = [made[place % _PICTURES] for place in range(self.patients)]
        return PatientDraws(patients, self.draws, self.device)


def plain_step(work: Work) -> Step:
    """All rows at once, without privacy."""
    model, parameters = work.model()
    drawing, loss = work.drawing(), loss_of(model)
    adam = NoisyAdam(parameters, Optimiser(learning_rate=1e-6), total_steps=_PLANNED_STEPS)
    everybody = torch.arange(work.patients)

    def step() -> None:
        rows = drawing.draw(everybody, fresh_keys(work.patients, work.device))
        with computing_in(work.precision):  # else a GPU would take TF32 for this side's convolutions alone
            with forward_in(work.precision, work.device):
                value = loss(rows).mean()
            gradients = torch.autograd.grad(value, list(parameters.values()))
        adam.step(torch.cat([gradient.reshape(-1) for gradient in gradients]))

    return step


def places_for(work: Work, model: ConditionedUNet, parameters: dict[str, nn.Parameter], loss: Loss) -> int:
    """Places of a chunk, as `PatientDP` settles them."""
    row_bytes = sum(parameter.numel() * parameter.itemsize for parameter in parameters.values())
    memory, rows = memory_of(work.device), probe(model, work.draws)[0]

    def chunk(places: int) -> None:
        engine = _engine(work, model, parameters, places)
        grid = Grid(1.0, 1.0, engine.dimension + 1)
        with engine:
            engine.add_clipped(
                rows, rows, loss, grid, torch.zeros(grid.dimension, dtype=torch.int64, device=work.device)
            )

    most = CPU_ROOM.most_places(work.draws, row_bytes) if memory is None else most_places(chunk, memory)
    return places_of_chunk(draws=work.draws, expected=work.patients, most=most, device=work.device.type)


def _engine(work: Work, model: ConditionedUNet, parameters: dict[str, nn.Parameter], places: int) -> PatientGradients:
    return PatientGradients(
        model,
        parameters,
        draws=work.draws,
        clip_norm=1.0,
        clip_mode="clip",
        places=places,
        precision=work.precision,
    )


@contextlib.contextmanager
def our_step(work: Work) -> Iterator[tuple[Step, int]]:
    """The agent's step, and its places; what it charges is a ledger in a folder of its own."""
    model, parameters = work.model()
    drawing, loss = work.drawing(), loss_of(model)
    engine = _engine(work, model, parameters, places_for(work, model, parameters, loss))
    mechanism = Mechanism(rate=1.0, noise_multiplier=60.0, clip_norm=1.0, draws=work.draws, delta=_DELTA)
    limit = Budget(1e3, _DELTA)
    with tempfile.TemporaryDirectory() as folder, engine:
        ledger = Ledger(
            Path(folder) / "ledger.db",
            key=SigningKey.generate(),
            hospital="benchmark",
            clock=lambda: datetime.now(UTC),
            budgets=lambda: Budgets(study=limit, lifetime=limit),
        )
        release = StepRelease(
            engine,
            mechanism,
            ledger=ledger,
            study="benchmark",
            purpose="steps",
            steps=_PLANNED_STEPS,
            cohort=work.patients,
        )
        whose = Patients(work.patients, drawing.draw, loss, padding=probe(model, work.draws)[0])
        adam = NoisyAdam(parameters, Optimiser(learning_rate=1e-6), total_steps=_PLANNED_STEPS)

        def step() -> None:
            released = release.next(whose)
            adam.step(released.mean_gradient(work.patients).to(work.device))

        yield step, engine.places
        ledger.close()


def compare(work: Work, repeats: int) -> dict[str, float]:
    """Median seconds of both sides, turn by turn, after a step each that warms up."""
    plain = plain_step(work)
    with our_step(work) as (ours, places):
        found: dict[str, list[float]] = {"plain": [], "ours": []}
        for repeat in range(repeats + 1):
            for name, step in (("plain", plain), ("ours", ours)):
                spent = seconds_of(step, work.device)
                if repeat:
                    found[name].append(spent)
    result = {name: median(values) for name, values in found.items()}
    ratio = median(b / a for a, b in zip(found["plain"], found["ours"], strict=True))
    return {**result, "ratio": result["ours"] / result["plain"], "median_of_ratios": ratio, "places": places}


def gpu_memory(work: Work) -> dict[str, float]:
    """MiB that each side's tensors take at most, model, optimiser and pictures included; each alone on the card."""

    def peak(step: Step) -> float:
        step()
        torch.cuda.reset_peak_memory_stats(work.device)
        step()
        torch.cuda.synchronize(work.device)
        return torch.cuda.max_memory_allocated(work.device) / (1 << 20)

    plain = peak(plain_step(work))
    torch.cuda.empty_cache()
    with our_step(work) as (step, _):
        ours = peak(step)
    torch.cuda.empty_cache()
    return {"plain": plain, "ours": ours, "ratio": ours / plain}
