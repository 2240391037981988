"""Which generator lies nearest to patients: by priors or by votes, and from which start: noise, or phantoms of a time.

    python -m benchmarks.generators --work DIR [--busbra DIR] [--folds 1,2] [--images 375] [--json]

Phantoms by the simulator's priors and by the votes of the other folds' patients (epsilon 1): as they are; refined in
8 steps by the base and by the adapter of ``dp_eps8`` that never saw the fold, from several times; and pictures drawn
from noise in 20 steps by the same two, under the class and box of the same phantoms. Votes and adapters are units of
``benchmarks.utility`` in the same ``--work`` and are made where they are missing.

Prints one JSON object as the last line of stdout: by fold ``real`` (the fold against as many pictures of the other
folds: what no generator can be expected to beat) and, under ``priors`` and ``votes``, Fréchet distances in
EfficientNet-Lite0 features between the fold and the generator's pictures (8 bits, equal numbers on both sides);
``nearest`` names the start with the least mean distance over the folds, for the base and for the adapter. That is what
a default start is chosen by; folds of BUS-BRA decide it, so it is no figure to be reported on the same folds.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from sonoshare_shared.science.model.sampler import SamplerSettings, refine, sample
from sonoshare_shared.science.phantom import PhantomBatch

TIMES = (50, 120, 250)
NOISE, NOISE_STEPS = "noise", 20
ADAPTED_BY = "dp_eps8"
SOURCES = {"priors": PHANTOM_ONLY, "votes": "calibrated"}
SEED = 0
Features = NDArray[np.float64]


def described(images: NDArray[np.float32]) -> Features:
    """Features of pictures as a release would store them."""
    return np.asarray(features.pooled(fractions(eight_bits(images))), dtype=np.float64)


def drawn(model: ConditionedUNet, phantoms: PhantomBatch, time: int | None) -> NDArray[np.float32]:
    """Phantoms refined from a time, or (None) pictures from noise under their class and box."""
    condition = Condition.of(phantoms.labels, None, phantoms.boxes)
    if time is None:
        return sample(model, SamplerSettings(steps=NOISE_STEPS), condition, seed=SEED).images
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
            for time in (*TIMES, None):
                start = NOISE if time is None else time
                entry[f"{name}@{start}"] = frechet(held_out, described(drawn(model, phantoms, time)))
        result[source] = entry
        print(fold, source, entry, file=sys.stderr, flush=True)
    return result


def nearest_starts(folds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """By source and model, the start whose mean distance over the folds is least; ``raw`` is no start of a model."""
    found: dict[str, dict[str, str]] = {}
    for source in SOURCES:
        names = [name for name in folds[0][source] if "@" in name]
        mean = {name: float(np.mean([fold[source][name] for fold in folds])) for name in names}
        models = dict.fromkeys(name.partition("@")[0] for name in names)
        found[source] = {
            model: min((n for n in names if n.startswith(f"{model}@")), key=mean.__getitem__).partition("@")[2]
            for model in models
        }
    return found


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
    print(json.dumps({"images": arguments.images, "folds": found, "nearest": nearest_starts(list(found.values()))}))


if __name__ == "__main__":
    main()
