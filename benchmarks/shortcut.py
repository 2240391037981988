"""Can a small CNN tell phantoms, voted phantoms and refined ones from BUS-BRA? The shortcut test on public patients.

    python -m benchmarks.shortcut --work DIR [--busbra DIR] [--sets phantoms,refined,voted] [--images 600] [--folds 2]
        [--seeds 1] [--steps N] [--device auto]

The test of ``sonoshare evaluate shortcut`` (AUC .5: cannot tell, 1: always), against the patients of all folds:

- ``phantoms``: as simulated by the priors;
- ``refined``: the same, noised to time 120 and redrawn by the shipped base in 8 steps; no patient has had a part;
- ``voted``: of the kinds that patients of folds 2 to 5 vote for at epsilon 1 (``benchmarks.utility``: ``calibrated``);
- ``real``: half of BUS-BRA's patients against the other half, as a check: it must not be told apart.

Prints one JSON object as the last line of stdout: by set ``{auc, interval, images, patients, folds, seeds}``, and what
each classifier took in ``steps`` (null: by the rule). Every figure is kept in ``--work``.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from benchmarks._utility_work import PHANTOM_SEED, TASK, Bench, Settings
from benchmarks.scaling import labelled
from benchmarks.utility import BUSBRA, SIZE, WORK
from sonoshare_shared.science.calibration.ballot import shipped_ballot
from sonoshare_shared.science.device import chosen_device, device_words
from sonoshare_shared.science.evaluation.classifier import RECIPE
from sonoshare_shared.science.evaluation.labelled import LabelledImages, load_labelled
from sonoshare_shared.science.evaluation.shortcut import shortcut
from sonoshare_shared.science.evaluation.tstr import half_of_patients
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.sampler import refine

VOTING_FOLD = 1
SETS = ("phantoms", "refined", "voted", "real")


def refined(bench: Bench) -> LabelledImages:
    """Phantoms redrawn by the base as it ships."""
    phantoms, settings = bench.phantoms(VOTING_FOLD, "phantom_only", 0), bench.settings
    images = refine(
        load_base(settings.training.profile)[0],
        phantoms.images,
        phantoms.masks,
        Condition.of(phantoms.labels, None, phantoms.boxes),
        seed=PHANTOM_SEED,
        start_time=settings.start_time,
        steps=settings.sampler_steps,
    ).images
    made = bench.synthetic(VOTING_FOLD, "phantom_only", 0)
    return labelled(type(made)(images, made.labels, made.boxes), bench.real.classes)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--work", type=Path, default=WORK.with_name("shortcut"), help="folder of finished figures")
    parser.add_argument("--sets", default="phantoms,refined,voted", help=f"some of {', '.join(SETS)}")
    parser.add_argument("--images", type=int, default=600, help="of each synthetic set")
    parser.add_argument("--folds", type=int, default=2, help="parts of the patients")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of each classifier, instead of those of the rule")
    parser.add_argument("--device", default="auto", help="auto|cpu|cuda[:N]")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    asked = arguments.sets.split(",")
    if set(asked) - set(SETS):
        parser.error(f"sets are some of {', '.join(SETS)}")
    ballot = shipped_ballot(TASK, SIZE)
    if ballot is None or not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}: nothing measured", file=sys.stderr)
        print(json.dumps(dict.fromkeys(SETS)))
        return
    device, real = chosen_device(arguments.device), load_labelled(read_labels(arguments.busbra), SIZE)
    settings = Settings(images=arguments.images)
    bench = Bench(real, arguments.work / "sets", settings, ballot, compute=True, say=_say, device=device)
    about = {"images": arguments.images, "folds": arguments.folds, "seeds": arguments.seeds, "steps": arguments.steps}
    units = Units(arguments.work / "figures", about | {"classifier": asdict(RECIPE)}, say=_say)
    half = half_of_patients(real.patients)
    made: dict[str, Callable[[], tuple[LabelledImages, LabelledImages]]] = {
        "phantoms": lambda: (labelled(bench.synthetic(VOTING_FOLD, "phantom_only", 0), real.classes), real),
        "refined": lambda: (refined(bench), real),
        "voted": lambda: (labelled(bench.synthetic(VOTING_FOLD, "calibrated", 0), real.classes), real),
        "real": lambda: (real.take(half), real.take(~half)),
    }

    seeds = tuple(range(arguments.seeds))

    def figure(sets: Callable[[], tuple[LabelledImages, LabelledImages]]) -> dict[str, object]:
        return shortcut(*sets(), folds=arguments.folds, seeds=seeds, steps=arguments.steps, device=device).as_json()

    found = {name: units.get(name, partial(figure, made[name])) for name in asked}
    print(json.dumps(about | {"device": device_words(device)} | found))


def _say(unit: str) -> None:
    print(f"{time.process_time():8.0f} s  {unit}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
