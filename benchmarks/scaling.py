"""What more synthetic images, and synthetic positives where positives are rare, are worth: both curves on BUS-BRA.

    python -m benchmarks.scaling --work DIR [--busbra DIR] [--folds 1,2,3,4,5] [--images 10000] [--seeds 3]
        [--sizes 100,300,1000,3000,10000] [--shares 1,2,5,10,20] [--classifier-steps N]
        [--device auto] [--plot FILE]

The curves of ``sonoshare evaluate scaling`` for phantoms as they are, of the kinds that the patients of the other folds
vote for (``calibrated`` of ``benchmarks.utility``, epsilon 1, one cohort). Tested on the fold. *Amount*: the small CNN
on the first 100 to 10,000 of them. *Rarity*: the other folds' real images with malignant patients thinned out to a
share of all images, alone and filled up with malignant phantoms until the classes are level. Either list may be empty.
Scores become ranks within their fold and are pooled over the folds.

Prints one JSON object as the last line of stdout: ``n_synthetic`` and ``imbalance``, AUC with an interval over
resampled test patients at each point, ``slope`` (AUC won by ten times as many images, on the same resamples), the
difference that filling up makes on the same resamples, and ``peak_resident_mib``, the largest memory of this process.
Every classifier is kept in ``--work``; the same command goes on where it stopped. The picture is drawn to ``--plot``.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks._parts import peak_resident_mib
from benchmarks._utility_work import TASK, Array, Bench, Made, Settings
from benchmarks.utility import BUSBRA, FOLDS, SIZE, WORK
from sonoshare_shared.science.calibration.ballot import shipped_ballot
from sonoshare_shared.science.device import chosen_device, device_words
from sonoshare_shared.science.evaluation.folds import within_fold_ranks
from sonoshare_shared.science.evaluation.labelled import LabelledImages, load_labelled
from sonoshare_shared.science.evaluation.scaling import (
    SHARES,
    SIZES,
    Scores,
    curves,
    draw_scaling,
    pinned,
    score_scaling,
)
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.labels import read_labels

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


def pooled(folds: list[Scores]) -> Scores:
    """Scores of several folds as ranks within their fold, one fold's images after the other's.

    Points that a fold lacks are left out.
    """

    def ranks(tables: list[Array]) -> Array:
        return np.concatenate([np.stack([within_fold_ranks(row) for row in table]) for table in tables], axis=1)

    sizes = [n for n in folds[0].amount if all(n in each.amount for each in folds)]
    shares = [share for share in folds[0].rarity if all(share in each.rarity for each in folds)]
    return Scores(
        {n: ranks([each.amount[n] for each in folds]) for n in sizes},
        {
            share: (ranks([each.rarity[share][0] for each in folds]), ranks([each.rarity[share][1] for each in folds]))
            for share in shares
        },
    )


@dataclass(frozen=True)
class Points:
    """What is trained on a fold: sizes of synthetic sets, shares of positives, seeds, steps (None: the rule), where."""

    sizes: list[int]
    shares: list[float]
    seeds: int
    steps: int | None
    device: torch.device


def scored(bench: Bench, fold: int, work: Path, points: Points) -> Scores:
    """Scores of one fold's pictures by every classifier of both curves."""
    real = bench.real
    test, train = real.take(bench.test_rows(fold)), real.take(real.folds != fold)
    synthetic = labelled(bench.synthetic(fold, ARM, 0), real.classes)

    def say(name: str) -> None:
        print(f"fold {fold} {name}", file=sys.stderr, flush=True)

    units = Units(work / f"fold{fold}", pinned(synthetic, test, train, steps=points.steps), say=say)
    return score_scaling(
        synthetic,
        test,
        train,
        units,
        sizes=points.sizes,
        shares=points.shares,
        seeds=points.seeds,
        steps=points.steps,
        device=points.device,
    )


def numbers(text: str) -> list[float]:
    """Numbers between commas; none in an empty text."""
    return [float(part) for part in text.split(",") if part]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--work", type=Path, default=WORK.with_name("scaling"), help="folder of finished units")
    parser.add_argument("--folds", default="1,2,3,4,5", help="official folds to test on")
    parser.add_argument("--images", type=int, default=10_000, help="synthetic images")
    parser.add_argument("--seeds", type=int, default=3, help="classifiers of each point and fold")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of synthetic images")
    parser.add_argument("--shares", default=",".join(f"{100 * s:g}" for s in SHARES), help="of positives, per cent")
    parser.add_argument("--classifier-steps", type=int, help="of the small CNN, instead of those of the rule")
    parser.add_argument("--device", default="auto", help="auto|cpu|cuda[:N], of classifiers")
    parser.add_argument("--plot", type=Path, help="PNG of both curves")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ballot = shipped_ballot(TASK, SIZE)
    if ballot is None or not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}: nothing measured", file=sys.stderr)
        print(json.dumps({"n_synthetic": None, "imbalance": None}))
        return
    folds = [int(number) for number in numbers(arguments.folds)]
    if not folds or set(folds) - set(FOLDS):
        parser.error("folds are numbers from 1 to 5")
    sizes = [int(number) for number in numbers(arguments.sizes)]
    shares = [number / 100 for number in numbers(arguments.shares)]
    real = load_labelled(read_labels(arguments.busbra), SIZE)
    settings, device = Settings(images=arguments.images), chosen_device(arguments.device)
    bench = Bench(real, arguments.work / "sets", settings, ballot, compute=True, say=_say)
    points = Points(sizes, shares, arguments.seeds, arguments.classifier_steps, device)
    scores = pooled([scored(bench, fold, arguments.work, points) for fold in folds])
    rows = np.concatenate([bench.test_rows(fold) for fold in folds])
    found = curves(scores, real.labels[rows], real.patients[rows])
    if arguments.plot:
        draw_scaling(found, arguments.plot)
    print(
        json.dumps(
            {
                "folds": folds,
                "device": device_words(device),
                **found.as_json(),
                "peak_resident_mib": peak_resident_mib(),
            }
        )
    )


def _say(unit: str) -> None:
    print(unit, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
