"""What more synthetic images, and synthetic positives where positives are rare, are worth: both curves on BUS-BRA.

    python -m benchmarks.scaling --work DIR [--busbra DIR] [--fold 1] [--images 10000] [--seeds 3]
        [--shares 1,2,5,10,20] [--plot FILE] [--json]

The curves of ``sonoshare evaluate scaling`` for phantoms as they are, of the kinds that the patients of the other folds
vote for (``calibrated`` of ``benchmarks.utility``, epsilon 1, one cohort). Tested on the fold. *Amount*: the small CNN
on the first 100 to 10,000 of them. *Rarity*: the other folds' real images with malignant patients thinned out to a
share of all images, alone and filled up with malignant phantoms until the classes are level.

Prints one JSON object as the last line of stdout: ``n_synthetic`` and ``imbalance``, AUC with an interval over
resampled test patients at each point, the difference that filling up makes on the same resamples, and
``peak_resident_mib``, the largest memory of this process.
Every classifier is kept in ``--work``; the same command goes on where it stopped. The picture is drawn to ``--plot``.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks._parts import peak_resident_mib
from benchmarks._utility_work import TASK, Bench, Made, Settings
from benchmarks.utility import BUSBRA, SIZE, WORK
from sonoshare_shared.calibration.ballot import shipped_ballot
from sonoshare_shared.evaluation.labelled import LabelledImages, load_labelled
from sonoshare_shared.evaluation.scaling import SHARES, draw_scaling, measure_scaling, pinned
from sonoshare_shared.evaluation.units import Units
from sonoshare_shared.labels import read_labels

ARM = "calibrated"


def labelled(made: Made, classes: tuple[str, ...]) -> LabelledImages:
    """A synthetic set in the form that evaluations take."""
    count = len(made.labels)
    return LabelledImages(
        images=made.images,
        masks=np.zeros(made.images.shape, dtype=np.bool_),
        labels=made.labels,
        boxes=made.boxes,
        patients=np.array([f"synthetic-{i}" for i in range(count)]),
        devices=np.full(count, ""),
        folds=np.full(count, -1),
        classes=classes,
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--work", type=Path, default=WORK.with_name("scaling"), help="folder of finished units")
    parser.add_argument("--fold", type=int, default=1, choices=range(1, 6), help="official fold to test on")
    parser.add_argument("--images", type=int, default=10_000, help="synthetic images")
    parser.add_argument("--seeds", type=int, default=3, help="classifiers of each point")
    parser.add_argument("--shares", default=",".join(f"{100 * s:g}" for s in SHARES), help="of positives, per cent")
    parser.add_argument("--plot", type=Path, help="PNG of both curves")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ballot = shipped_ballot(TASK, SIZE)
    if ballot is None or not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}: nothing measured", file=sys.stderr)
        print(json.dumps({"n_synthetic": None, "imbalance": None}))
        return

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    real = load_labelled(read_labels(arguments.busbra), SIZE)
    bench = Bench(real, arguments.work / "sets", Settings(images=arguments.images), ballot, compute=True, say=say)
    test, train = real.take(bench.test_rows(arguments.fold)), real.take(real.folds != arguments.fold)
    synthetic = labelled(bench.synthetic(arguments.fold, ARM, 0), real.classes)
    units = Units(arguments.work / f"fold{arguments.fold}", pinned(synthetic, test, train), say=say)
    shares = [float(text) / 100 for text in arguments.shares.split(",")]
    curves = measure_scaling(synthetic, test, train, units, shares=shares, seeds=arguments.seeds)
    if arguments.plot:
        draw_scaling(curves, arguments.plot)
    print(json.dumps({"fold": arguments.fold, **curves.as_json(), "peak_resident_mib": peak_resident_mib()}))


if __name__ == "__main__":
    main()
