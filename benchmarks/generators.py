"""Which generator lies nearest to patients: by priors or by votes, as simulated or refined, and from which time.

    python -m benchmarks.generators --work DIR [--busbra DIR] [--folds 1,2] [--images 375] [--json]

Phantoms by the simulator's priors and by the votes of the other folds' patients (epsilon 1), as they are and refined in
8 steps by the base and by the adapter of ``dp_eps8`` that never saw the fold, from several times. Votes and adapters
are units of ``benchmarks.utility`` in the same ``--work`` and are made where they are missing.

Prints one JSON object as the last line of stdout: by fold ``real`` (the fold against as many pictures of the other
folds: what no generator can be expected to beat) and, under ``priors`` and ``votes``, Fréchet distances in
EfficientNet-Lite0 features between the fold and the generator's pictures (8 bits, equal numbers on both sides).
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._utility_work import PHANTOM_ONLY, TASK, Bench, Settings
from benchmarks.utility import BUSBRA, SIZE, WORK
from sonoshare_shared.science.calibration.ballot import shipped_ballot
from sonoshare_shared.science.evaluation import features
from sonoshare_shared.science.evaluation.distances import frechet
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.levels import eight_bits, fractions
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.sampler import refine
from sonoshare_shared.science.phantom import PhantomBatch

TIMES = (50, 120, 250)
ADAPTED_BY = "dp_eps8"
SOURCES = {"priors": PHANTOM_ONLY, "votes": "calibrated"}
SEED = 0
Features = NDArray[np.float64]


def described(images: NDArray[np.float32]) -> Features:
    """Features of pictures as a release would store them."""
    return np.asarray(features.pooled(fractions(eight_bits(images))), dtype=np.float64)


def refined(model: ConditionedUNet, phantoms: PhantomBatch, time: int) -> NDArray[np.float32]:
    """Phantoms refined from a time."""
    condition = Condition.of(phantoms.labels, None, phantoms.boxes)
    return refine(model, phantoms.images, phantoms.masks, condition, seed=SEED, start_time=time).images


def measure(bench: Bench, fold: int, count: int) -> dict[str, object]:
    """All distances of one fold."""
    rows = bench.test_rows(fold)[:count]
    others = np.flatnonzero(bench.real.folds != fold)
    some = np.random.default_rng(SEED).choice(others, len(rows), replace=False)
    held_out = described(bench.real.images[rows])
    result: dict[str, object] = {"real": frechet(held_out, described(bench.real.images[some]))}
    models = {"base": load_base(bench.settings.training.profile)[0], ADAPTED_BY: bench.model(fold, ADAPTED_BY)}
    for source, arm in SOURCES.items():
        phantoms = first(bench.phantoms(fold, arm, SEED), len(rows))
        entry = {"raw": frechet(held_out, described(phantoms.images))}
        for name, model in models.items():
            for time in TIMES:
                entry[f"{name}@{time}"] = frechet(held_out, described(refined(model, phantoms, time)))
        result[source] = entry
        print(fold, source, entry, file=sys.stderr, flush=True)
    return result


def first(phantoms: PhantomBatch, count: int) -> PhantomBatch:
    """The first phantoms of a batch."""
    return PhantomBatch(**{name: part[:count] for name, part in vars(phantoms).items()})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of finished units of benchmarks.utility")
    parser.add_argument("--folds", default="1,2", help="official folds to measure on")
    parser.add_argument("--images", type=int, default=375, help="most pictures on each side")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folds = [int(text) for text in arguments.folds.split(",")]
    ballot = shipped_ballot(TASK, SIZE)
    if ballot is None or not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}: nothing measured", file=sys.stderr)
        print(json.dumps({"folds": dict.fromkeys(map(str, folds))}))
        return
    real = load_labelled(read_labels(arguments.busbra), SIZE)
    bench = Bench(real, arguments.work, Settings(), ballot, compute=True, say=lambda _: None)
    found = {str(fold): measure(bench, fold, arguments.images) for fold in folds}
    print(json.dumps({"images": arguments.images, "folds": found}))


if __name__ == "__main__":
    main()
