"""Speed of the phantom simulator, and what its pictures alone are worth on BUS-BRA: the floor of every claim.

    python -m benchmarks.phantom [--busbra DIR] [--images 2000] [--seeds 3] [--json]

Prints one JSON object as the last line of stdout. No real picture is trained on: classifiers see phantoms only and are
tested on the official fold 5 and on all patients; intervals are over resampled patients.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.science.evaluation import features
from sonoshare_shared.science.evaluation.auc import patient_bootstrap
from sonoshare_shared.science.evaluation.classifier import STEPS, fit, fit_probe
from sonoshare_shared.science.evaluation.distances import compare
from sonoshare_shared.science.evaluation.labelled import LabelledImages, load_labelled
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.phantom import PhantomBatch, simulate

SIZE = 64
SEED = 100
TEST_FOLD = 5
DISTANCE_IMAGES = 400
BUSBRA = Path(__file__).resolve().parents[2] / "shared" / "data" / "busbra"


def measure_speed(repeats: int = 3, n: int = 60) -> float:
    """Median CPU milliseconds an image at 64 px, after a warm-up."""
    simulate(4, seed=0, size=SIZE)
    spent: list[float] = []
    for repeat in range(repeats):
        start = time.process_time()
        simulate(n, seed=repeat, size=SIZE)
        spent.append((time.process_time() - start) / n * 1e3)
    return float(np.median(spent))


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
    networks = [fit(phantoms.images, phantoms.labels, steps=STEPS, seed=seed) for seed in range(seeds)]
    return {
        "linear_probe": probe.predict(features.pooled(real.images))[None],
        "cnn": np.stack([network.predict(real.images) for network in networks]),
        "box_only": boxes.predict(box_features(real.boxes))[None],
    }


def measure(busbra: Path, images: int, seeds: int) -> dict[str, object]:
    """All figures of the benchmark."""
    result: dict[str, object] = {"ms_per_image": measure_speed(), "phantoms": images, "seeds": seeds}
    if not (busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {busbra}: speed only", file=sys.stderr)
        return result
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
    parser.add_argument("--json", action="store_true", help="print the JSON object only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(arguments.busbra, arguments.images, arguments.seeds)
    if not arguments.json:
        for name, value in result.items():
            print(f"{name}: {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
