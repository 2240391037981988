"""How long should the report's small CNN train, and how should its pictures vary? Decided without any test picture.

    python -m benchmarks.classifier_rule --work DIR [--busbra DIR] [--size 32] [--images 1000] [--seeds 1]
        [--sets phantoms,scanners,many,real] [--steps 400,1200,3600] [--variations usual,varied] [--device auto]

Each set of pictures is trained on with every number of steps and every variation, and tested on others of its kind:

- ``phantoms``: ``--images`` phantoms of one seed, tested on 600 of another. No patient.
- ``scanners``: phantoms of two fictional scanners, tested on phantoms of the two others: pictures that come from
  elsewhere, as real ones do for a classifier of synthetic ones. No patient.
- ``many``: four times as many phantoms.
- ``real``: BUS-BRA folds 3, 4 and 5, tested on fold 2. Fold 1 is touched by nothing here, so its figures elsewhere owe
  nothing to this choice; those of fold 2 do.

*Usual* is mirror, shift, contrast and brightness; *varied* adds a random window of 80 % or more of each side, and a
gamma (``VARIATIONS``).

Prints one JSON object as the last line of stdout: by set and variation the AUC by number of steps, mean over seeds.
Every figure is kept in ``--work``; the same command goes on where it stopped.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.utility import BUSBRA
from sonoshare_shared.science.device import chosen_device
from sonoshare_shared.science.evaluation.auc import auc
from sonoshare_shared.science.evaluation.augmentation import Variation
from sonoshare_shared.science.evaluation.classifier import Recipe, fit
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.phantom import SCANNER_STYLES, simulate

Pictures = tuple[NDArray[np.float32], NDArray[np.int64]]
VARIATIONS: Final = {"usual": Variation(), "varied": Variation(crop=0.2, gamma=0.2)}
TRAIN_SEED, TEST_SEED, TESTED = 810, 811, 600
TRAIN_FOLDS, TEST_FOLD = (3, 4, 5), 2
MANY = 4
WORK = Path(__file__).resolve().parents[1] / "work" / "classifier-rule"


def phantoms(images: int, size: int) -> tuple[Pictures, Pictures]:
    """Phantoms of two seeds."""
    one, two = simulate(images, seed=TRAIN_SEED, size=size), simulate(TESTED, seed=TEST_SEED, size=size)
    return (one.images, one.labels), (two.images, two.labels)


def scanners(images: int, size: int) -> tuple[Pictures, Pictures]:
    """Phantoms of two scanners, and of the two others."""
    half = len(SCANNER_STYLES) // 2
    machines = [np.arange(count) // 2 % half for count in (images, TESTED)]
    one = simulate(images, seed=TRAIN_SEED, size=size, scanners=machines[0])
    two = simulate(TESTED, seed=TEST_SEED, size=size, scanners=machines[1] + half)
    return (one.images, one.labels), (two.images, two.labels)


def real(busbra: Path, size: int) -> tuple[Pictures, Pictures]:
    """Folds of BUS-BRA that a test on fold 1 trains on."""
    known = load_labelled(read_labels(busbra), size)
    one, two = known.take(np.isin(known.folds, TRAIN_FOLDS)), known.take(known.folds == TEST_FOLD)
    return (one.images, one.labels), (two.images, two.labels)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of finished figures")
    parser.add_argument("--size", type=int, default=32, help="side, pixels")
    parser.add_argument("--images", type=int, default=1000, help="phantoms to train on")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", default="phantoms,scanners,many,real")
    parser.add_argument("--steps", default="400,1200,3600")
    parser.add_argument("--variations", default=",".join(VARIATIONS))
    parser.add_argument("--device", default="auto", help="auto|cpu|cuda[:N]")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images, size, device = arguments.images, arguments.size, chosen_device(arguments.device)
    made: dict[str, Callable[[], tuple[Pictures, Pictures]]] = {
        "phantoms": lambda: phantoms(images, size),
        "scanners": lambda: scanners(images, size),
        "many": lambda: phantoms(MANY * images, size),
        "real": lambda: real(arguments.busbra, size),
    }
    if not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}: phantoms only", file=sys.stderr)
        made.pop("real")
    units = Units(arguments.work, {"size": size, "images": images}, say=_say)
    result: dict[str, object] = {"size": size, "images": images, "seeds": arguments.seeds}
    ways, lengths = arguments.variations.split(","), [int(text) for text in arguments.steps.split(",")]
    for name in [name for name in arguments.sets.split(",") if name in made]:
        sets = made[name]()
        result[name] = {
            way: {
                str(steps): float(
                    np.mean([_area(units, name, sets, (way, steps, seed), device) for seed in range(arguments.seeds)])
                )
                for steps in lengths
            }
            for way in ways
        }
    print(json.dumps(result))


def _area(
    units: Units, name: str, sets: tuple[Pictures, Pictures], how: tuple[str, int, int], device: torch.device
) -> float:
    """AUC on the second set of a classifier of the first, trained in a variation for some steps from a seed."""
    (way, steps, seed), (tested, labels) = how, sets[1]

    def make() -> dict[str, float]:
        network = fit(*sets[0], steps=steps, seed=seed, recipe=Recipe(variation=VARIATIONS[way]), device=device)
        return {"auc": auc(labels, network.predict(tested))}

    return float((units.get(f"{name}-{way}-{steps}-seed{seed}", make) or {})["auc"])


def _say(unit: str) -> None:
    print(f"{time.process_time():8.0f} s  {unit}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
