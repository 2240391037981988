"""Adapters for the utility benchmark: under DP with the real engine, and without privacy by a loop of its own.

Under DP there is one cohort, or hospitals that train apart and whose updates are averaged by the server's own code.

The loop without privacy lives here and not in the engine, which has no path without noise. It takes the same steps
from the same draws at the same rate with the same optimiser; it does not clip and adds nothing. For public images only.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch.nn import Parameter

from sonoshare_client.agent.draws import PatientDraws, loss_of, probe
from sonoshare_client.vault.cohort import PatientArrays
from sonoshare_privacy import Budget, Budgets, Ledger, PatientDP
from sonoshare_privacy.accounting import PureDP, noise_multiplier_for
from sonoshare_privacy.mechanisms.draw_words import public_keys
from sonoshare_privacy.noisy_adam import NoisyAdam
from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.patient_gradients.room import CPU_ROOM
from sonoshare_privacy.schedule import round_optimiser
from sonoshare_server.consortium.studies import phantom_clip_norm
from sonoshare_server.federation.aggregate import aggregate, read_tensors
from sonoshare_shared.protocol.documents.plan import LAST_TIME, Mechanism, Task, Trained
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.model.adapter import (
    adapter_bytes,
    adapter_state,
    load_adapter,
    prepare,
    trained_parameters,
)
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.tensors import State
from sonoshare_shared.science.tasks.files import read_task
from sonoshare_shared.science.tasks.phantoms import start_at_task
from sonoshare_shared.science.tasks.warm_start import WarmStart, warm_start

DIAGNOSIS: Final = read_task("diagnosis")
ROUNDS: Final = 3  # of a federated training, as commands propose
LEDGER_SLACK: Final = 1e-3  # of epsilon: calibration is exact to fewer digits than the ledger's limit


@dataclass(frozen=True)
class Training:
    """Public constants of one adapter's training; those of UTILITY's measurement.

    Attributes:
        profile: of the model.
        trained: which parameters.
        rate: q.
        draws: K.
        steps: T.
        learning_rate: of each tensor's root mean square.
        latest_time: last time of the draws.
        average: decay of the average of iterates.
        base: path of a base file of one's own; None takes the shipped one.
        device: what computes.
        warm_steps: in which the adapter learns phantoms of the task `diagnosis` first.
    """

    profile: str = "small"
    trained: Trained = "affine"
    rate: float = 0.25
    draws: int = 2
    steps: int = 24
    learning_rate: float = 0.02
    latest_time: int = LAST_TIME
    average: float = Optimiser.average
    base: str | None = None
    device: str = "cpu"
    warm_steps: int = 0

    @property
    def on(self) -> torch.device:
        """What computes."""
        return torch.device(self.device)

    def start(self) -> ConditionedUNet:
        """The model from which patients are learned: the base, prepared for what is trained, and its warm start."""
        model = self.prepared()
        constants = WarmStart(self.warm_steps, self.latest_time)
        warm_start(model, trained_parameters(model, self.trained), DIAGNOSIS, constants)
        return model

    def prepared(self) -> ConditionedUNet:
        """The base, prepared for what is trained."""
        model, _ = load_base(self.profile, None if self.base is None else Path(self.base))
        prepare(model, self.trained)
        return model.to(self.on)


def patients_of(images: LabelledImages) -> list[PatientArrays]:
    """Group rows by patient; the scanner is absent, as in the task `diagnosis`."""
    groups = []
    for name in np.unique(images.patients):
        rows = np.flatnonzero(images.patients == name)
        groups.append(
            PatientArrays(
                pseudonym=str(name),
                held_out=False,
                images=images.images[rows],
                masks=images.masks[rows],
                has_mask=np.asarray(images.masks[rows].any(axis=(1, 2))),
                boxes=images.boxes[rows],
                labels=images.labels[rows],
                scanners=np.full(len(rows), -1, np.int64),
            )
        )
    return groups


def private_adapter(
    patients: list[PatientArrays], training: Training, epsilon: float, beside: tuple[PureDP, ...] = ()
) -> State:
    """Train under patient-level DP with ``PatientDP``, delta = 1 / (10 N), one cohort; noise from the CSPRNG.

    Args:
        patients: who is trained on.
        training: public constants.
        epsilon: of the training and what is charged ``beside`` it, composed.
        beside: other charges of the same patients.
    """
    model = training.start()
    with tempfile.TemporaryDirectory() as folder:
        hospital = _Hospital(patients, model, training, epsilon, Path(folder), beside)
        hospital.train(model, training.steps, _optimiser(training))
        hospital.ledger.close()
    return adapter_state(model, training.trained)


def federated_adapter(hospitals: Sequence[list[PatientArrays]], training: Training, epsilon: float) -> State:
    """Train as a study does: each hospital with budget, ledger and noise of its own, updates averaged after a round.

    Weights are the shares of all patients; delta is 1 / (10 N) of each hospital.
    """
    model = training.start()
    with tempfile.TemporaryDirectory() as folder:
        nodes = {
            f"hospital-{i}": _Hospital(patients, model, training, epsilon, Path(folder) / f"{i}")
            for i, patients in enumerate(hospitals)
        }
        weights = {name: float(len(node.patients)) for name, node in nodes.items()}
        for number in range(1, ROUNDS + 1):
            before = adapter_state(model, training.trained)
            updates = {}
            for name, node in nodes.items():
                load_adapter(model, before, training.trained)
                optimiser = round_optimiser(training.learning_rate, ROUNDS, number)
                node.train(model, training.steps // ROUNDS, optimiser)
                after = adapter_state(model, training.trained)
                updates[name] = read_tensors(adapter_bytes({key: after[key] - before[key] for key in before}))
            merged = read_tensors(aggregate(read_tensors(adapter_bytes(before)), updates, weights).adapter)
            load_adapter(model, {key: torch.from_numpy(value) for key, value in merged.items()}, training.trained)
        for node in nodes.values():
            node.ledger.close()
    return adapter_state(model, training.trained)


def _optimiser(training: Training) -> Optimiser:
    return Optimiser(learning_rate=training.learning_rate, average=training.average)


class _Hospital:
    """Patients, the mechanism that spends ``epsilon`` over a whole training, and the ledger that holds it to that."""

    def __init__(  # noqa: PLR0917
        self,
        patients: list[PatientArrays],
        model: ConditionedUNet,
        training: Training,
        epsilon: float,
        folder: Path,
        beside: tuple[PureDP, ...] = (),
    ) -> None:
        self.patients, self._training = patients, training
        self._purpose = f"utility benchmark at epsilon {epsilon:g}"
        delta = 1.0 / (10 * len(patients))
        self.mechanism = Mechanism(
            rate=training.rate,
            noise_multiplier=noise_multiplier_for(epsilon, delta, training.rate, training.steps, beside=beside),
            clip_norm=phantom_clip_norm(model, training.trained, training.draws, training.latest_time),
            draws=training.draws,
            delta=delta,
        )
        limit = Budget(epsilon + LEDGER_SLACK, delta)
        folder.mkdir(exist_ok=True)
        self.ledger = Ledger(
            folder / "ledger.db",
            key=SigningKey.generate(),
            hospital="benchmark",
            clock=lambda: datetime.now(UTC),
            budgets=lambda: Budgets(study=limit, lifetime=limit),
        )

    def train(self, model: ConditionedUNet, steps: int, optimiser: Optimiser) -> None:
        """Charge and take some of the steps; the model is changed in place."""
        training = self._training
        parameters = trained_parameters(model, training.trained)
        dp = PatientDP(
            model=model,
            parameters=parameters,
            mechanism=self.mechanism,
            divisor=training.rate * len(self.patients),
            ledger=self.ledger,
            study="utility",
            optimiser=optimiser,
            probe=probe(model, training.draws),
        )
        drawing = PatientDraws(self.patients, training.draws, training.on, training.latest_time)
        dp.train(
            patients=len(self.patients), draw=drawing.draw, loss=loss_of(model), steps=steps, purpose=self._purpose
        )


def plain_adapter(patients: list[PatientArrays], training: Training, seed: int, task: Task | None = None) -> State:
    """Train by the same steps without clipping or noise; see the module's contract.

    Args:
        patients: public ones.
        training: constants.
        seed: of the draws.
        task: whose class embeddings start at their pathologies, as a study's do; None where classes are the base's.
    """
    model = training.start()
    if task is not None:
        start_at_task(model, task)
    parameters = trained_parameters(model, training.trained)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    drawing = PatientDraws(patients, training.draws, training.on, training.latest_time)
    random = np.random.default_rng(seed)
    generator = torch.Generator(training.on).manual_seed(seed)
    adam = NoisyAdam(parameters, _optimiser(training), total_steps=training.steps)
    for _ in range(training.steps):
        chosen = np.flatnonzero(random.random(len(patients)) < training.rate)
        batches = batches_of(drawing, chosen.tolist(), generator, training.draws)
        adam.step(_summed_gradient(model, parameters, batches) / max(1, len(chosen) * training.draws))
    adam.finish()
    return adapter_state(model, training.trained)


def batches_of(
    drawing: PatientDraws, chosen: list[int], generator: torch.Generator, draws: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Rows of some patients, those of one together, in parts that fit the memory."""
    at_once = max(1, CPU_ROOM.rows_at_once // draws)
    for first in range(0, len(chosen), at_once):
        part = torch.tensor(chosen[first : first + at_once])
        seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
        yield dict(drawing.draw(part, public_keys(len(part), seed, generator.device)))


def _summed_gradient(
    model: ConditionedUNet, parameters: Mapping[str, Parameter], batches: Iterator[dict[str, torch.Tensor]]
) -> torch.Tensor:
    """Sum of the rows' gradients, flat."""
    loss, total = (
        loss_of(model),
        torch.zeros(sum(p.numel() for p in parameters.values()), device=next(model.parameters()).device),
    )
    for batch in batches:
        gradients = torch.autograd.grad(loss(batch).sum(), list(parameters.values()))
        total += torch.cat([gradient.reshape(-1) for gradient in gradients])
    return total
