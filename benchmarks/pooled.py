"""What pooled noise buys: noise to signal and held-out loss, own against pooled, at the same epsilon for each patient.

    python -m benchmarks.pooled [--hospitals 4,10] [--patients 40] [--steps 24] [--epsilon 8] [--seeds 3]
        [--learning-rate .02] [--only NAME,...] [--json]

The tiny base's affine adapter (9,680 numbers) learns phantoms of another grey-value curve, which are nobody's patients.
Every training of one row has the same hospitals, steps, rate, multiplier and ledger; delta is 1 / (10 N) of each
hospital. ``own-L`` takes L steps at each hospital between two exchanges, with noise of its own (``own-8-fast`` at twice
the learning rate); ``own-summed`` adds sums with own noise up, and the coordinator takes the step, one an exchange;
``pooled-all`` and ``pooled-half`` do the same and share the noise among all hospitals, or rest on half of them.

Prints one JSON object as the last line of stdout: by number of hospitals ``multiplier``, ``base`` (held-out loss before
any training) and for each training ``exchanges``, ``noise_to_signal`` (of one step's mean over all hospitals, against
the mean clipped gradient of all patients at the base), ``loss`` and ``gain`` over the base (median over seeds, with the
smallest and largest), and for pooled ones ``noise_in_sums``, the check's estimate over the stated deviation.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._phantom_patients import phantom_patients
from benchmarks._pooled_work import LATEST, PROFILE, TRAINED, Result, Study, Training, another_look, hospitals_of
from benchmarks._utility_work import held_out_losses
from sonoshare_shared.science.evaluation.labelled import LabelledImages
from sonoshare_shared.science.model.adapter import load_adapter
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.profiles import profile_named

HELD_OUT, HELD_OUT_SEED = 400, 77
LOCAL_STEPS = (1, 4, 8)
LEARNING_RATE = 0.02


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": float(np.median(values)), "smallest": min(values), "largest": max(values)}


def held_out() -> LabelledImages:
    """Patients of the other look that nobody trains on."""
    size = profile_named(PROFILE).size
    people = another_look(phantom_patients(HELD_OUT, seed=HELD_OUT_SEED, size=size))
    return LabelledImages(
        images=np.concatenate([one.images for one in people]).astype(np.float32),
        labels=np.concatenate([one.labels for one in people]),
        masks=np.concatenate([one.masks for one in people]),
        boxes=np.concatenate([one.boxes for one in people]),
        patients=np.array([f"{i}" for i in range(len(people))]),
        devices=np.full(len(people), ""),
        folds=np.zeros(len(people), np.int64),
        classes=("benign", "malignant"),
    )


def losses_of(adapter: Any, tested: LabelledImages) -> NDArray[np.float64]:
    """Held-out losses of an adapter, or of the base."""
    model, _ = load_base(PROFILE)
    if adapter is not None:
        load_adapter(model, adapter, TRAINED)
    return held_out_losses(model, tested, HELD_OUT_SEED, LATEST)


def trainings(hospitals: int) -> dict[str, tuple[int, Callable[[Training], Result]]]:
    """By name: how many steps an exchange has, and what is run."""
    found: dict[str, tuple[int, Callable[[Training], Result]]] = {
        f"own-{local}": (local, lambda training, local=local: training.own(local))  # type: ignore[misc]
        for local in LOCAL_STEPS
    }
    found["own-8-fast"] = (8, lambda training: training.own(8))
    found["own-summed"] = (1, lambda training: training.own_summed())
    for name, honest in (("pooled-all", hospitals), ("pooled-half", hospitals // 2)):
        found[name] = (1, lambda training, honest=honest: training.pooled(honest))  # type: ignore[misc]
    return found


def row(hospitals: int, arguments: argparse.Namespace, tested: LabelledImages) -> dict[str, Any]:
    """All trainings of one number of hospitals."""
    base = float(losses_of(None, tested).mean())
    found: dict[str, dict[str, Any]] = {}
    chosen = arguments.only.split(",") if arguments.only else list(trainings(hospitals))
    wanted = {name: how for name, how in trainings(hospitals).items() if name in chosen}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in wanted}
    multiplier = 0.0
    for seed in range(arguments.seeds):
        people = hospitals_of(hospitals, arguments.patients, seed, profile_named(PROFILE).size)
        strength = None
        for name, (local, run) in wanted.items():
            rate = arguments.learning_rate * (2 if name.endswith("-fast") else 1)
            study = Study(people, arguments.steps, arguments.epsilon, rate)
            with tempfile.TemporaryDirectory() as folder:
                training = Training(study, Path(folder))
                strength = strength or training.signal()
                result, multiplier = run(training), training.mechanism.noise_multiplier
                training.close()
            seen[name].append((float(losses_of(result.adapter, tested).mean()), result.noise / strength))
            found[name] = {"exchanges": arguments.steps // local}
            if result.check is not None:
                found[name] |= {"noise_in_sums": result.check.noise, "noise_enough": result.check.enough}
        print(f"{hospitals} hospitals, seed {seed}: {seen}", file=sys.stderr, flush=True)
    for name, figures in seen.items():
        found[name] |= {
            "loss": spread([loss for loss, _ in figures]),
            "gain": spread([base - loss for loss, _ in figures]),
            "noise_to_signal": float(np.median([noise for _, noise in figures])),
        }
    return {"multiplier": multiplier, "base": base, **found}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hospitals", default="4,10", help="numbers of hospitals")
    parser.add_argument("--patients", type=int, default=40, help="of each hospital")
    parser.add_argument("--steps", type=int, default=24, help="of the study")
    parser.add_argument("--epsilon", type=float, default=8.0, help="of each patient")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE, help="of each tensor's size")
    parser.add_argument("--only", default="", help="some of the trainings, by name")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tested = held_out()
    result: dict[str, Any] = {name: getattr(arguments, name) for name in ("patients", "steps", "epsilon", "seeds")}
    for hospitals in (int(text) for text in arguments.hospitals.split(",")):
        result[str(hospitals)] = row(hospitals, arguments, tested)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
