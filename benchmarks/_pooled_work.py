"""Trainings of the pooled-noise benchmark: the real engine, ledger and optimisers, sums added up in one process.

Hospitals have phantoms of another look than the base's (`another_look`), so that there is something to learn, and
nothing in it is a patient's. Masks change no sum (tests hold that), so they are left out here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._phantom_patients import phantom_patients
from sonoshare_client.agent.draws import PatientDraws, loss_of, probe
from sonoshare_client.vault.cohort import PatientArrays
from sonoshare_privacy import Budget, Budgets, Ledger
from sonoshare_privacy.accounting import noise_multiplier_for
from sonoshare_privacy.mechanisms.draw_words import fresh_keys
from sonoshare_privacy.mechanisms.gaussian import Grid
from sonoshare_privacy.noisy_adam import NoisyAdam
from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.patient_gradients import PatientGradients
from sonoshare_privacy.pooled_optimiser import first_state, stepped
from sonoshare_privacy.pooled_release import PooledRelease, PooledSum, Share
from sonoshare_privacy.schedule import round_optimiser
from sonoshare_privacy.step_release import NoisedSum, Patients, StepRelease
from sonoshare_privacy.sum_check import SumCheck, check_sums
from sonoshare_server.consortium.studies import phantom_clip_norm
from sonoshare_server.federation.aggregate import aggregate, read_tensors
from sonoshare_shared.protocol.documents.plan import Mechanism
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.science.model.adapter import adapter_bytes, adapter_state, load_adapter, trained_parameters
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.tensors import State

PROFILE: Final = "tiny"
TRAINED: Final = "affine"
DRAWS, RATE, LATEST = 2, 0.25, 999
GAMMA: Final = 0.4
PLACES: Final = 8
LEDGER_SLACK: Final = 0.01


@dataclass(frozen=True)
class Study:
    """What all trainings share; public.

    Attributes:
        hospitals: patients of each.
        steps: of the study.
        epsilon: of each patient; delta is 1 / (10 N).
        learning_rate: of each tensor's root mean square.
    """

    hospitals: Sequence[list[PatientArrays]]
    steps: int
    epsilon: float
    learning_rate: float


@dataclass(frozen=True)
class Result:
    """What a training ended with.

    Attributes:
        adapter: the model's.
        noise: norm of the noise in the mean gradient of a step over all hospitals.
        check: of the sums; None where noise is not pooled.
    """

    adapter: State
    noise: float
    check: SumCheck | None = None


def another_look(patients: list[PatientArrays]) -> list[PatientArrays]:
    """The same patients under a brighter grey-value curve."""
    return [replace(one, images=(one.images.astype(np.float64) ** GAMMA).astype(one.images.dtype)) for one in patients]


def hospitals_of(count: int, patients: int, seed: int, size: int) -> list[list[PatientArrays]]:
    """Patients of some hospitals."""
    return [another_look(phantom_patients(patients, seed=1000 * seed + i, size=size)) for i in range(count)]


def mechanism_of(study: Study, model: ConditionedUNet) -> Mechanism:
    """The same mechanism for own and pooled noise: the same epsilon for each patient."""
    delta = 0.1 / len(study.hospitals[0])
    return Mechanism(
        rate=RATE,
        noise_multiplier=noise_multiplier_for(study.epsilon, delta, RATE, study.steps),
        clip_norm=phantom_clip_norm(model, TRAINED, DRAWS, LATEST),
        draws=DRAWS,
        delta=delta,
    )


class Hospital:
    """Patients with ledger and paid steps; one engine serves all hospitals of this process in turn."""

    def __init__(
        self, number: int, patients: list[PatientArrays], mechanism: Mechanism, engine: PatientGradients, folder: Path
    ) -> None:
        self._engine, self._mechanism, self._count = engine, mechanism, len(patients)
        self._drawing = PatientDraws(patients, DRAWS, torch.device("cpu"), LATEST)
        limit = Budget(1e3, mechanism.delta)
        self._ledger = Ledger(
            folder / f"{number}.db",
            key=SigningKey.generate(),
            hospital=f"hospital-{number}",
            clock=lambda: datetime.now(UTC),
            budgets=lambda: Budgets(study=limit, lifetime=limit),
        )

    def own(self, steps: int) -> StepRelease:
        """Paid sums with own noise."""
        return StepRelease(
            self._engine,
            self._mechanism,
            ledger=self._ledger,
            study="own",
            purpose="benchmark",
            steps=steps,
            cohort=self._count,
        )

    def pooled(self, steps: int, honest: int) -> PooledRelease:
        """Paid shares."""
        return PooledRelease(
            self._engine,
            self._mechanism,
            honest=honest,
            ledger=self._ledger,
            study="pooled",
            purpose="benchmark",
            steps=steps,
            planned=steps,
            cohort=self._count,
        )

    def patients(self, model: ConditionedUNet) -> Patients:
        """Who is drawn, at the model as it stands."""
        padding = probe(model, DRAWS, LATEST)[0]
        return Patients(self._count, self._drawing.draw, loss_of(model), padding)

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


class Training:
    """A model, its engine, and hospitals that train it."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study = study
        self.model, _ = load_base(PROFILE)
        self.parameters = trained_parameters(self.model, TRAINED)
        self.mechanism = mechanism_of(study, self.model)
        self.engine = PatientGradients(
            self.model,
            self.parameters,
            draws=DRAWS,
            clip_norm=self.mechanism.clip_norm,
            clip_mode="clip",
            places=PLACES,
        )
        self.grid = Grid(self.mechanism.clip_norm, self.mechanism.noise_multiplier, self.engine.dimension + 1)
        self.hospitals = [
            Hospital(i, patients, self.mechanism, self.engine, folder) for i, patients in enumerate(study.hospitals)
        ]
        self.cohort = len(study.hospitals[0])

    def own(self, local_steps: int) -> Result:
        """Each hospital's own noise, so many steps between two exchanges, updates averaged as the coordinator does."""
        study, rounds = self.study, self.study.steps // local_steps
        paid = [hospital.own(study.steps) for hospital in self.hospitals]
        people = [hospital.patients(self.model) for hospital in self.hospitals]
        with self.engine:
            for number in range(1, rounds + 1):
                settings = round_optimiser(study.learning_rate, rounds, number)
                before, updates = adapter_state(self.model, TRAINED), {}
                for i, (release, whose) in enumerate(zip(paid, people, strict=True)):
                    load_adapter(self.model, before, TRAINED)
                    adam = NoisyAdam(self.parameters, settings, total_steps=local_steps)
                    for _ in range(local_steps):
                        released: NoisedSum = release.next(whose)
                        adam.step(released.mean_gradient(RATE * self.cohort))
                    adam.finish()
                    after = adapter_state(self.model, TRAINED)
                    moved = {key: after[key] - before[key] for key in before}
                    updates[f"hospital-{i}"] = read_tensors(adapter_bytes(moved))
                merged = aggregate(read_tensors(adapter_bytes(before)), updates, dict.fromkeys(updates, 1.0))
                tensors = read_tensors(merged.adapter)
                load_adapter(self.model, {key: torch.from_numpy(value) for key, value in tensors.items()}, TRAINED)
        return Result(adapter_state(self.model, TRAINED), self._noise(math.sqrt(len(self.hospitals))))

    def own_summed(self) -> Result:
        """Each hospital's own noise, added up: the coordinator takes the step, as with pooled noise."""
        study, settings = self.study, Optimiser(learning_rate=self.study.learning_rate)
        paid = [hospital.own(study.steps) for hospital in self.hospitals]
        people = [hospital.patients(self.model) for hospital in self.hospitals]
        state = first_state({name: value.detach().numpy().copy() for name, value in self.parameters.items()}, settings)
        with self.engine:
            for _ in range(study.steps):
                released = [release.next(whose).integers for release, whose in zip(paid, people, strict=True)]
                total = torch.stack(released).sum(0)[:-1].numpy().astype(np.float64)
                mean = total * (self.grid.step / (RATE * self.cohort * len(self.hospitals)))
                state = stepped(state, mean, settings, total=study.steps)
                self._put(state.tensors())
        self._put(state.averaged())
        return Result(adapter_state(self.model, TRAINED), self._noise(math.sqrt(len(self.hospitals))))

    def pooled(self, honest: int) -> Result:
        """Noise shared by ``honest`` hospitals; every hospital adds its share."""
        study, settings = self.study, Optimiser(learning_rate=self.study.learning_rate)
        paid = [hospital.pooled(study.steps, honest) for hospital in self.hospitals]
        people = [hospital.patients(self.model) for hospital in self.hospitals]
        state = first_state({name: value.detach().numpy().copy() for name, value in self.parameters.items()}, settings)
        sums = []
        with self.engine:
            for _ in range(study.steps):
                added = self._added([release.next(whose) for release, whose in zip(paid, people, strict=True)], honest)
                state = stepped(state, added.mean_gradient(), settings, total=study.steps)
                self._put(state.tensors())
                sums.append(added)
        self._put(state.averaged())
        deviations = math.sqrt(len(self.hospitals) / honest)
        return Result(adapter_state(self.model, TRAINED), self._noise(deviations), check_sums(sums))

    def _added(self, shares: list[Share], honest: int) -> PooledSum:
        words = np.zeros(self.grid.dimension, np.uint64)
        for share in shares:
            words += share.take()
        count = len(shares)
        return PooledSum.of(words, self.grid, rate=RATE, patients=count * self.cohort, shares=count, honest=honest)

    def _put(self, tensors: dict[str, NDArray[np.float32]]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(torch.from_numpy(tensors[name].copy()))

    def _noise(self, deviations: float) -> float:
        """Norm of so many stated deviations of noise in the mean gradient over all hospitals' patients."""
        one = self.grid.deviation * self.grid.step * math.sqrt(self.engine.dimension)
        return deviations * one / (RATE * self.cohort * len(self.hospitals))

    def signal(self) -> float:
        """Norm of the mean clipped gradient of all patients at the base: what noise stands against. They are public."""
        total = torch.zeros(self.grid.dimension, dtype=torch.int64)
        with self.engine:
            for hospital in self.hospitals:
                whose = hospital.patients(self.model)
                for part in self.engine.chunks(self.cohort):
                    chunk = torch.arange(self.cohort)[part]
                    drawn = whose.draw(chunk, fresh_keys(len(chunk), torch.device("cpu")))
                    self.engine.add_clipped(drawn, whose.padding, whose.loss, self.grid, total)
        mean = total[:-1].double() * self.grid.step / (self.cohort * len(self.hospitals))
        return float(mean.norm())

    def close(self) -> None:
        """Close the ledgers."""
        for hospital in self.hospitals:
            hospital.close()
