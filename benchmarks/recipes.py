"""Which recipe teaches a base more in the same number of steps: courses of the learning rate, side by side.

    python -m benchmarks.recipes --work DIR [--profile small] [--steps 450] [--phantoms 3000] [--images 256]
        [--recipes inverse-root,flat,flat-slow] [--device auto] [--json]

One profile, one batch size, one seed of weights, batches, times and noise; recipes differ in the course of the rate and
in the averaging only (``sonoshare_shared.science.model.recipe``):

- ``inverse-root``: what ``small`` ships with (4e-3, 1/sqrt(step), power-function averaging);
- ``flat``: the same rate and averaging, constant to 60 % of the steps, then linear to 2 %;
- ``flat-slow``: what ``medium`` is trained with (6e-4, exponential averaging of .9995).

Trained and measured on phantoms only. Prints one JSON object as the last line of stdout, by recipe: ``held_out``, the
loss on phantoms of another seed; ``frechet``, the distance in EfficientNet-Lite0 features between ``--images`` phantoms
of a third seed and as many pictures drawn from noise (20 steps) under the class, scanner and box of other phantoms, for
two seeds of the sampling; ``seconds``, processor time of training. One training seed: differences as small as between
the two samplings say nothing. Every trained network is kept in ``--work``.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.targets import HELD_OUT_SEED, NOISE_STEPS, REFINED_SEED, described
from sonoshare_shared.science.device import chosen_device, device_words
from sonoshare_shared.science.evaluation.distances import frechet
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.model.base_batches import TrainingSet
from sonoshare_shared.science.model.base_pictures import SIMULATED_SCANNER_SLOT
from sonoshare_shared.science.model.base_run import BaseTraining
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.phantom_cache import cached_phantoms
from sonoshare_shared.science.model.profiles import Profile, profile_named
from sonoshare_shared.science.model.recipe import FLAT, TrainSettings
from sonoshare_shared.science.model.sampler import SamplerSettings, sample
from sonoshare_shared.science.model.tensors import write_tensors
from sonoshare_shared.science.phantom import PhantomBatch, simulate

WORK = Path(__file__).resolve().parents[1] / "work" / "recipes"
SAMPLING_SEEDS = (0, 1)


def recipes(base: TrainSettings, steps: int) -> dict[str, TrainSettings]:
    """The recipes that are compared, of a run of some steps."""
    flat = replace(base, course=FLAT, length=steps)
    return {
        "inverse-root": base,
        "flat": flat,
        "flat-slow": replace(flat, learning_rate=6e-4, averaging=0.9995),
    }


def measure(
    run: BaseTraining, steps: int, held_out: NDArray[np.float64], phantoms: PhantomBatch, keep: Path
) -> dict[str, Any]:
    """Train, and look at what was learned."""
    start = time.process_time()
    for _ in range(steps):
        run.advance()
    seconds = time.process_time() - start
    write_tensors(keep, run.averaged())
    run.model.load_state_dict(run.averaged())
    condition = Condition.of(phantoms.labels, phantoms.scanners + SIMULATED_SCANNER_SLOT, phantoms.boxes)
    distances = [
        frechet(held_out, described(sample(run.model, SamplerSettings(NOISE_STEPS), condition, seed=seed).images))
        for seed in SAMPLING_SEEDS
    ]
    return {"held_out": run.validate(), "frechet": distances, "seconds": seconds}


def compared(
    arguments: argparse.Namespace, profile: Profile, base: TrainSettings, device: torch.device
) -> dict[str, Any]:
    """Every recipe's figures, made if need be."""
    pinned = {"profile": profile.digest, "settings": asdict(base), "steps": arguments.steps, "images": arguments.images}
    units = Units(arguments.work, pinned, say=lambda unit: print(unit, file=sys.stderr, flush=True))
    held_out = described(simulate(arguments.images, seed=HELD_OUT_SEED, size=profile.size).images)
    phantoms = simulate(arguments.images, seed=REFINED_SEED, size=profile.size)
    found = {}
    for name in arguments.recipes.split(","):
        settings = recipes(base, arguments.steps)[name]

        def make(name: str = name, settings: TrainSettings = settings) -> dict[str, Any]:
            folder = units.folder / "phantoms"
            pictures = cached_phantoms(folder, count=settings.phantoms, seed=settings.seed, size=profile.size)
            run = BaseTraining(profile, settings, TrainingSet(pictures), device=device)
            return measure(run, arguments.steps, held_out, phantoms, units.folder / f"{name}.safetensors")

        found[name] = units.get(name, make)
        print(name, found[name], file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK, help="folder of phantoms and trained networks")
    parser.add_argument("--profile", default="small")
    parser.add_argument("--steps", type=int, default=450, help="of training")
    parser.add_argument("--phantoms", type=int, default=3000, help="trained on")
    parser.add_argument("--images", type=int, default=256, help="on each side of a distance")
    parser.add_argument("--recipes", default="inverse-root,flat,flat-slow")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    base, device = TrainSettings(phantoms=arguments.phantoms), chosen_device(arguments.device)
    if set(arguments.recipes.split(",")) - set(recipes(base, 1000)):
        parser.error("recipes are some of inverse-root, flat, flat-slow")
    found = compared(arguments, profile_named(arguments.profile), base, device)
    known = {"profile": arguments.profile, "steps": arguments.steps, "images": arguments.images}
    print(json.dumps(known | {"device": device_words(device), **found}))


if __name__ == "__main__":
    main()
