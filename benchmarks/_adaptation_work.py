"""The units of work of the adaptation benchmark: one adapted model, its held-out losses, its pictures' scores.

A variant is one way to adapt the base to the patients of four folds. Four methods: ``dp`` is the real engine under a
budget, ``plain`` takes the same steps without clipping and noise, ``minibatch`` is ordinary fine-tuning in many small
steps, the ceiling of what patients can teach the trained parameters; both are for public pictures only. ``public`` is
the warm start alone, which sees phantoms and no patient.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._utility_adapters import Training, batches_of, patients_of, plain_adapter, private_adapter
from benchmarks._utility_work import Array, held_out_losses
from sonoshare_client.agent.draws import PatientDraws
from sonoshare_client.vault.cohort import PatientArrays
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.plan import LAST_TIME
from sonoshare_shared.science.evaluation.classifier import fit
from sonoshare_shared.science.evaluation.folds import within_fold_ranks
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.levels import eight_bits, fractions
from sonoshare_shared.science.model.adapter import adapter_state, load_adapter, trained_parameters
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import profile_named
from sonoshare_shared.science.model.sampler import NOISE, PHANTOM, SamplerSettings, sample
from sonoshare_shared.science.model.tensors import State, read_tensors, write_tensors
from sonoshare_shared.science.phantom import PhantomBatch, simulate
from sonoshare_shared.science.tasks.warm_start import Rows, fine_tune

Method = Literal["dp", "plain", "minibatch", "public"]
BASE: Final = "base"
"""The untuned base, beside which every variant stands."""
REFINED_BY: Final = 150
"""Held-out losses are told for all times and for times up to this one, which refining uses."""
PHANTOM_SEED: Final = 900
SAMPLER_STEPS: Final = {NOISE: 16, PHANTOM: 8}
SAMPLED_AT_ONCE: Final = 64


@dataclass(frozen=True)
class Variant:
    """One way to adapt the base.

    Attributes:
        training: constants of the steps.
        method: see the module.
        epsilon: of a private one; delta is 1 / (10 N).
        batch: rows of a step of ``minibatch``, whose learning rate is Adam's own.
        seed: of the draws of what is not private.
    """

    training: Training = field(default_factory=Training)
    method: Method = "dp"
    epsilon: float = 8.0
    batch: int = 16
    seed: int = 0

    def digest(self) -> str:
        """Names the variant's units."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


def variant_of(text: str, training: Training) -> tuple[str, Variant]:
    """Read ``NAME,key=value,...``; keys are those of `Variant` and `Training`, a name alone is today's default.

    Raises:
        InputError: an unknown key, or a value that is none.
    """
    name, *pairs = text.split(",")
    variant = Variant(training)
    known: dict[str, Any] = {one.name: getattr(variant, one.name) for one in fields(Variant)}
    known |= {one.name: getattr(training, one.name) for one in fields(Training)}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in known or key in {"training", "profile", "base", "device"}:
            raise InputError(f"unknown key {key!r} of variant {name}", remedy=f"use {', '.join(sorted(known))}")
        if key == "method" and value not in get_args(Method):
            raise InputError(f"unknown method {value!r}", remedy=f"use {', '.join(get_args(Method))}")
        try:
            given: Any = type(known[key])(value)
        except ValueError as error:
            raise InputError(f"{key}={value} of variant {name} is no number", remedy="correct it") from error
        if key in vars(training):
            variant = replace(variant, training=replace(variant.training, **{key: given}))
        else:
            variant = replace(variant, **{key: given})
    return name, variant


def minibatch_adapter(patients: list[PatientArrays], variant: Variant) -> State:
    """Ordinary fine-tuning on one row each of some patients a step, by the loop of warm starts. For public pictures."""
    training = variant.training
    model = training.start()
    drawing = PatientDraws(patients, 1, training.on, training.latest_time)
    random, generator = np.random.default_rng(variant.seed), torch.Generator(training.on).manual_seed(variant.seed)

    def rows(_: int) -> Rows:
        chosen = random.choice(len(patients), min(variant.batch, len(patients)), replace=False).tolist()
        parts = list(batches_of(drawing, chosen, generator, 1))
        batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        condition = Condition(batch["labels"], batch["scanners"], batch["boxes"])
        return Rows(batch["images"], batch["masks"], condition, batch["t"], batch["noise"])

    parameters = trained_parameters(model, training.trained)
    fine_tune(model, parameters, rows, steps=training.steps, learning_rate=training.learning_rate)
    return adapter_state(model, training.trained)


class Adaptation:
    """Real pictures with folds, each held out in turn, and the folder of finished units.

    Args:
        real: pictures with folds.
        folds: held out in turn; figures are over all of their pictures, in this order.
        units: where units are kept.
        training: profile, base and device of every variant.
        images: of a synthetic set.
        classifier_steps: of the small CNN; None for those of its rule.
    """

    def __init__(
        self,
        real: LabelledImages,
        folds: Sequence[int],
        units: Units,
        training: Training,
        *,
        images: int,
        classifier_steps: int | None = None,
    ) -> None:
        self._real, self._folds, self._units, self._training, self._images = real, folds, units, training, images
        self._classifier_steps = classifier_steps
        self._phantoms: dict[int, PhantomBatch] = {}
        self.tested = real.take(np.concatenate([self._rows(fold) for fold in folds]))

    def _rows(self, fold: int) -> NDArray[np.intp]:
        return np.flatnonzero(self._real.folds == fold)

    def model(self, variant: Variant | None, fold: int) -> ConditionedUNet:
        """The base, or the base with a variant's adapter that never saw the fold."""
        if variant is None:
            return self._training.prepared()

        def make(path: Path) -> None:
            before = time.process_time()
            write_tensors(path, self._trained(variant, fold))
            self._units.get(_cost(variant, fold), lambda: {"cpu_seconds": time.process_time() - before})

        path = self._units.file(f"adapter-{variant.digest()}-fold{fold}.safetensors", make)
        model = variant.training.prepared()
        load_adapter(model, read_tensors(path), variant.training.trained)
        return model

    def _trained(self, variant: Variant, fold: int) -> State:
        if variant.method == "public":
            return adapter_state(variant.training.start(), variant.training.trained)
        patients = patients_of(self._real.take(self._real.folds != fold))
        if variant.method == "dp":
            return private_adapter(patients, variant.training, variant.epsilon)
        if variant.method == "plain":
            return plain_adapter(patients, variant.training, variant.seed)
        return minibatch_adapter(patients, variant)

    def losses(self, variant: Variant | None, latest_time: int) -> Array:
        """Held-out losses of each picture at one time and noise, the same for all variants."""

        def of(fold: int) -> dict[str, Any]:
            held_out = self._real.take(self._rows(fold))
            return {"losses": held_out_losses(self.model(variant, fold), held_out, fold, latest_time).tolist()}

        names = {fold: f"losses-{_named(variant)}-{latest_time}-fold{fold}" for fold in self._folds}
        return np.concatenate([self._unit(name, partial(of, fold))["losses"] for fold, name in names.items()])

    def cpu_seconds(self, variant: Variant) -> float:
        """What the trainings took in the mean of the folds."""
        found = [self._unit(_cost(variant, fold), lambda: {"cpu_seconds": float("nan")}) for fold in self._folds]
        return float(np.mean([each["cpu_seconds"] for each in found]))

    def scores(self, variant: Variant | None, start: str, seed: int) -> Array:
        """Scores of the tested pictures by the small CNN trained on a variant's pictures, as ranks within their fold.

        Args:
            variant: None for the base, which has seen no fold: one classifier tests all of them.
            start: ``raw`` (phantoms as simulated), ``noise``, or the time from which phantoms are refined.
            seed: of phantoms, sampling and classifier, shared by all variants.
        """

        def of(fold: int, rows: NDArray[np.intp] | slice) -> dict[str, Any]:
            images, labels = self._drawn(self.model(variant, fold), start, seed)
            steps, device = self._classifier_steps, self._training.on
            classifier = fit(images, labels, steps=steps, seed=seed, device=device)
            return {"scores": classifier.predict(self._real.images[rows]).tolist()}

        name = f"scores-{_named(variant)}-{start}-{self._images}-{self._classifier_steps or 'rule'}-{seed}"
        parts = []
        for fold in self._folds:
            rows = self._rows(fold)
            if variant is None:
                everybody = self._unit(name, partial(of, fold, slice(None)))["scores"]
                parts.append(np.asarray(everybody)[rows])
            else:
                parts.append(np.asarray(self._unit(f"{name}-fold{fold}", partial(of, fold, rows))["scores"]))
        return np.concatenate([within_fold_ranks(part) for part in parts])

    def _drawn(self, model: ConditionedUNet, start: str, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        phantoms = self._simulated(seed)
        if start == "raw":
            return fractions(eight_bits(phantoms.images)), phantoms.labels
        begin = NOISE if start == NOISE else PHANTOM
        settings = SamplerSettings(steps=SAMPLER_STEPS[begin], start=begin, batch_size=SAMPLED_AT_ONCE)
        if begin == PHANTOM:
            settings = replace(settings, start_time=int(start))
        drawn = sample(
            model,
            settings,
            Condition.of(phantoms.labels, None, phantoms.boxes),
            seed=PHANTOM_SEED + seed,
            images=phantoms.images if begin == PHANTOM else None,
            masks=phantoms.masks if begin == PHANTOM else None,
        )
        return fractions(eight_bits(drawn.images)), phantoms.labels

    def _simulated(self, seed: int) -> PhantomBatch:
        if seed not in self._phantoms:
            size = profile_named(self._training.profile).size
            self._phantoms[seed] = simulate(self._images, seed=PHANTOM_SEED + seed, size=size)
        return self._phantoms[seed]

    def _unit(self, name: str, make: Callable[[], dict[str, Any]]) -> Mapping[str, Any]:
        found = self._units.get(name, make)
        if found is None:
            raise InputError(f"unit {name} is missing", remedy="run without --report")
        return found


def _cost(variant: Variant, fold: int) -> str:
    return f"cost-{variant.digest()}-fold{fold}"


def _named(variant: Variant | None) -> str:
    return BASE if variant is None else variant.digest()


TIMES_TOLD: Final = {"all": LAST_TIME, "refined": REFINED_BY}
"""Ranges of times for which held-out losses are told."""
