"""How a study should spend its draws: ways to adapt the base side by side, on patients that none of them saw.

    python -m benchmarks.adaptation --work DIR --variant NAME[,key=value...] [--variant ...] [--starts raw,120,noise]
        [--busbra DIR] [--folds 1] [--profile small] [--base FILE] [--device auto] [--images 600] [--seeds 2]
        [--classifier-steps N] [--json]
    python -m benchmarks.adaptation --gradients LATEST_TIME [--busbra DIR] [--folds 1] [--profile small] [--base FILE]

BUS-BRA, official patient-disjoint folds, each held out in turn (``--folds 1,2,3,4,5``). Every variant adapts the same
base to the patients of the other folds. Keys and their defaults: ``method=dp`` (the real engine, ``epsilon=8``, delta
1 / (10 N), one cohort), ``plain`` (the same steps without clipping and noise), ``minibatch`` (ordinary fine-tuning,
rows of a step ``batch=16``) or ``public`` (the warm start alone, no patient); ``warm_steps=0`` on phantoms before
anything else; ``trained=affine``, ``latest_time=999``, ``rate=0.25``, ``draws=2``, ``steps=24``,
``learning_rate=0.02`` (of each tensor's size; of ``minibatch`` Adam's own), ``average=0.9``.

Prints one JSON object as the last line of stdout: ``base`` and by variant the mean held-out denoising loss at all times
and at times up to 150 (``all``, ``refined``: one time and noise for each picture, the same for everybody), with
``gain`` over the base and its 95 % interval over resampled patients, ``cpu_seconds`` of the training and, for each
start, ``auc`` of the small CNN trained on the variant's pictures and ``difference`` from the base's at the same start.
Scores are ranks within their fold, pooled. Units are kept in ``--work``; the same command goes on where it stopped.

``--gradients`` trains nothing: by set of trained parameters, how many numbers it has and which share of the energy of
the patients' mean gradient at the base it catches, with times up to the given one.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._adaptation_gradients import gradient_shares
from benchmarks._adaptation_work import BASE, TIMES_TOLD, Adaptation, Variant, variant_of
from benchmarks._utility_adapters import Training, patients_of
from benchmarks._utility_work import Array
from benchmarks.utility import BUSBRA
from sonoshare_shared.science.device import chosen_device
from sonoshare_shared.science.evaluation.auc import paired_difference, patient_bootstrap
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.profiles import profile_named

WORK = Path(__file__).resolve().parents[1] / "work" / "adaptation"
RESAMPLES = 1000


def gain(bench: Adaptation, before: Array, after: Array) -> dict[str, object]:
    """Mean fall of the loss with its interval over resampled patients."""
    _, which = np.unique(bench.tested.patients, return_inverse=True)
    fall, sizes = np.bincount(which, before - after), np.bincount(which)
    rows = np.random.default_rng(0).integers(len(sizes), size=(RESAMPLES, len(sizes)))
    low, high = np.percentile(fall[rows].sum(1) / sizes[rows].sum(1), [2.5, 97.5])
    return {"gain": float(fall.sum() / sizes.sum()), "interval": [float(low), float(high)]}


def told(bench: Adaptation, variant: Variant | None, starts: list[str], seeds: int) -> dict[str, Any]:
    """All figures of one variant, or of the base."""
    entry: dict[str, Any] = {}
    for name, latest in TIMES_TOLD.items():
        losses, before = bench.losses(variant, latest), bench.losses(None, latest)
        entry[name] = {"loss": float(losses.mean())} | ({} if variant is None else gain(bench, before, losses))
    if variant is not None:
        entry["cpu_seconds"] = bench.cpu_seconds(variant)
    labels, patients = bench.tested.labels, bench.tested.patients
    for start in starts:
        if start == "raw" and variant is not None:
            continue  # phantoms as simulated are nobody's
        scores = np.stack([bench.scores(variant, start, seed) for seed in range(seeds)])
        entry[start] = patient_bootstrap(labels, scores, patients).as_json()
        if variant is not None:
            others = np.stack([bench.scores(None, start, seed) for seed in range(seeds)])
            entry[start] |= {"difference": paired_difference(labels, scores, others, patients).as_json("auc")}
    return entry


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of finished units")
    parser.add_argument("--folds", default="1", help="official folds, each held out in turn")
    parser.add_argument("--profile", default="small", help="of the model")
    parser.add_argument("--base", help="a base file of one's own")
    parser.add_argument("--device", default="auto", help="auto|cpu|cuda[:N]: what computes")
    parser.add_argument("--variant", action="append", default=[], help="NAME[,key=value...]; repeatable")
    parser.add_argument("--starts", default="", help="of raw, noise and times: what classifiers are trained on")
    parser.add_argument("--gradients", type=int, metavar="LATEST_TIME", help="tell where the gradient is, and end")
    parser.add_argument("--images", type=int, default=600, help="pictures of a synthetic set")
    parser.add_argument("--seeds", type=int, default=2, help="classifiers")
    parser.add_argument("--classifier-steps", type=int, help="of the small CNN, instead of those of the rule")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    arguments = _arguments()
    torch.set_num_threads(1)
    device = str(chosen_device(arguments.device))
    training = Training(profile=arguments.profile, base=arguments.base, device=device)
    variants = dict(variant_of(text, training) for text in arguments.variant)
    if not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}: nothing measured", file=sys.stderr)
        print(json.dumps({BASE: None} | dict.fromkeys(variants)))
        return
    _, digest = load_base(arguments.profile, None if arguments.base is None else Path(arguments.base))
    folds = [int(text) for text in arguments.folds.split(",")]
    real = load_labelled(read_labels(arguments.busbra), profile_named(arguments.profile).size)
    if arguments.gradients is not None:
        known = patients_of(real.take(real.folds != folds[0]))
        print(json.dumps(gradient_shares(known, replace(training, latest_time=arguments.gradients))))
        return
    units = Units(
        arguments.work,
        {"base": digest, "profile": arguments.profile},
        say=lambda name: print(name, file=sys.stderr, flush=True),
    )
    bench = Adaptation(
        real, folds, units, training, images=arguments.images, classifier_steps=arguments.classifier_steps
    )
    starts = [start for start in arguments.starts.split(",") if start]
    result: dict[str, Any] = {name: vars(arguments)[name] for name in ("folds", "images", "seeds")} | {"device": device}
    for name, variant in ((BASE, None), *variants.items()):
        result[name] = told(bench, variant, starts, arguments.seeds)
        print(name, json.dumps(result[name]), file=sys.stderr, flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
