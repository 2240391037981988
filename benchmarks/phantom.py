"""Speed of the phantom simulator, and what its pictures alone are worth on BUS-BRA: the floor of every claim.

    python -m benchmarks.phantom [--busbra DIR] [--images 2000] [--seeds 3] [--only PART] [--json]

Prints one JSON object as the last line of stdout: the parts ``speed``, ``agreement`` and, where the data are,
``busbra``. In the last no real picture is trained on: classifiers see phantoms only and are
tested on the official fold 5 and on all patients; intervals are over resampled patients.

``speed`` is in processor milliseconds a picture, one thread, by size: ``numpy`` as releases draw phantoms, of which
``numpy_drawing`` goes into random numbers; ``torch`` as base training does on a CPU, of which ``torch_drawing`` stays
on the host where a device paints. They simulate the same lesions by turns, and the least of the repeats counts: other
work on the machine can only add.

``agreement``: the CNN trained on phantoms of numpy or of the stream for base training, tested on either (AUC of the
class, other phantoms), and ``told_apart``, the AUC of one trained to tell them apart (0.5: it cannot).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.science.evaluation import features
from sonoshare_shared.science.evaluation.auc import auc, patient_bootstrap
from sonoshare_shared.science.evaluation.classifier import fit, fit_probe
from sonoshare_shared.science.evaluation.distances import compare
from sonoshare_shared.science.evaluation.labelled import LabelledImages, load_labelled
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.levels import eight_bits, fractions
from sonoshare_shared.science.model.phantom_cache import base_recipes
from sonoshare_shared.science.phantom import CLASSES, SCANNER_STYLES, PhantomBatch, Recipe, simulate, simulate_recipes
from sonoshare_shared.science.phantom.batch import draw_batch
from sonoshare_shared.science.phantom.on_device import in_chunks, simulate_on
from sonoshare_shared.science.phantom.simulator import draw_one, grid_side

SIZE = 64
SEED = 100
SPEED_SIZES = (64, 128, 256)
SPEED_IMAGES = 20
SPEED_REPEATS = 9
AGREEMENT_TRAINED_ON, AGREEMENT_TESTED_ON = 1200, 800
TEST_FOLD = 5
DISTANCE_IMAGES = 400
BUSBRA = Path(__file__).resolve().parents[2] / "shared" / "data" / "busbra"


def milliseconds(run: Callable[[], object]) -> float:
    """Processor time of one picture when ``run`` makes `SPEED_IMAGES`."""
    start = time.process_time()
    run()
    return (time.process_time() - start) / SPEED_IMAGES * 1e3


def measure_speed(size: int, repeats: int = SPEED_REPEATS) -> dict[str, float]:
    """Processor milliseconds a picture by the ways to make it; see the module."""
    recipes, labels = base_recipes(0, SPEED_IMAGES)
    side, cpu = grid_side(size), torch.device("cpu")

    def drawing() -> None:
        for recipe in recipes:
            draw_one(recipe, seed=SEED, side=side)

    ways: dict[str, Callable[[], object]] = {
        "numpy": lambda: simulate_recipes(recipes, labels, seed=SEED, size=size),
        "numpy_drawing": drawing,
        "torch": lambda: simulate_on(cpu, recipes, seed=SEED, size=size),
        "torch_drawing": lambda: [draw_batch(each, seed=SEED, side=side) for each in in_chunks(recipes, cpu, side)],
    }
    spent = [{name: milliseconds(run) for name, run in ways.items()} for _ in range(repeats + 1)][1:]
    return {name: round(min(each[name] for each in spent), 2) for name in ways}


def measure_agreement() -> dict[str, float]:
    """AUCs of classifiers across the two simulators; see the module."""
    count, cpu = AGREEMENT_TRAINED_ON + AGREEMENT_TESTED_ON, torch.device("cpu")
    labels = np.arange(count) % 2
    recipes = [Recipe(i, CLASSES[i % 2], i // 2 % len(SCANNER_STYLES)) for i in range(2 * count)]
    pictures = {
        "numpy": fractions(eight_bits(simulate_recipes(recipes[:count], labels, seed=SEED, size=SIZE).images)),
        "torch": fractions(simulate_on(cpu, recipes[count:], seed=SEED, size=SIZE).images.numpy()),
    }
    known, new = slice(0, AGREEMENT_TRAINED_ON), slice(AGREEMENT_TRAINED_ON, count)
    found: dict[str, float] = {}
    for trained, images in pictures.items():
        network = fit(images[known], labels[known], seed=0)
        for tested, others in pictures.items():
            found[f"{trained}_on_{tested}"] = round(auc(labels[new], network.predict(others[new])), 3)
    source = np.arange(2 * count) // count
    seen, kept = np.concatenate(list(pictures.values())), np.arange(2 * count) % count < AGREEMENT_TRAINED_ON
    judge = fit(seen[kept], source[kept], seed=0)
    return found | {"told_apart": round(auc(source[~kept], judge.predict(seen[~kept])), 3)}


def box_features(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logarithms of width and height, and the centre: what the lesion box alone tells."""
    box = np.asarray(boxes, dtype=np.float64)
    centre = box[:, :2] + box[:, 2:] / 2.0
    return np.column_stack([np.log(box[:, 2:]), centre])


def scores_on(real: LabelledImages, phantoms: PhantomBatch, seeds: int) -> dict[str, NDArray[np.float64]]:
    """Scores of real pictures by classifiers trained on phantoms, [k, n] by kind of classifier."""
    known = features.pooled(phantoms.images)
    probe = fit_probe(known, phantoms.labels)
    boxes = fit_probe(box_features(phantoms.boxes), phantoms.labels, penalty=1.0)
    networks = [fit(phantoms.images, phantoms.labels, seed=seed) for seed in range(seeds)]
    return {
        "linear_probe": probe.predict(features.pooled(real.images))[None],
        "cnn": np.stack([network.predict(real.images) for network in networks]),
        "box_only": boxes.predict(box_features(real.boxes))[None],
    }


def measure(busbra: Path, images: int, seeds: int) -> dict[str, object]:
    """What phantoms are worth on BUS-BRA."""
    result: dict[str, object] = {"phantoms": images, "seeds": seeds}
    real = load_labelled(read_labels(busbra), SIZE)
    phantoms = simulate(images, seed=SEED, size=SIZE)
    scores = scores_on(real, phantoms, seeds)
    for where, rows in (("fold5", real.folds == TEST_FOLD), ("all", np.ones(len(real), dtype=np.bool_))):
        for kind, table in scores.items():
            figure = patient_bootstrap(real.labels[rows], table[:, rows], real.patients[rows])
            result[f"{kind}_{where}"] = figure.as_json()
    some = np.flatnonzero(real.folds == TEST_FOLD)[:DISTANCE_IMAGES]
    both = features.pooled(real.images[some]), features.pooled(phantoms.images[: len(some)])
    result["distances_fold5"] = {**compare(*both).as_json(), "images": len(some)}
    return result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Phantom simulator: speed and floor")
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--images", type=int, default=2000, help="phantoms to train on")
    parser.add_argument("--seeds", type=int, default=3, help="networks trained")
    parser.add_argument("--only", choices=("speed", "agreement", "busbra"), help="one part")
    parser.add_argument("--json", action="store_true", help="print the JSON object only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], object]] = {
        "speed": lambda: {str(size): measure_speed(size) for size in SPEED_SIZES},
        "agreement": measure_agreement,
        "busbra": lambda: measure(arguments.busbra, arguments.images, arguments.seeds),
    }
    if not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}: left out", file=sys.stderr)
        del parts["busbra"]
    result = {name: part() for name, part in parts.items() if arguments.only in (None, name)}
    if not arguments.json:
        for name, value in result.items():
            print(f"{name}: {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
