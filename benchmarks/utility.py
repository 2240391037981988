"""What synthetic images are worth to a classifier: floor, without privacy, under DP, and beside real patients.

    python -m benchmarks.utility --work DIR [--busbra DIR] [--folds 1,2,3,4,5] [--seeds 3] [--arms ARM,...] [--json]
        [--start-time 120] [--sampler-steps 8] [--device auto] [--report]
        [--classifier-steps N] [--only-scores]

BUS-BRA, official patient-disjoint folds, 64 px. For each fold an adapter is trained on the patients of the others:
``nonprivate`` (same steps, no clipping, no noise), ``dp_eps8`` and ``dp_eps3`` (`PatientDP`, delta = 1 / (10 N), one
cohort of all patients; affine parameters, q .25, K 2, T 24), ``dp_eps8_four`` the same with a hospital, noise and
epsilon 8 for each of the four devices (3 rounds of 8 steps, averaged by cohort; a device with fewer than eleven
patients takes no part). Phantoms are refined by it (simulate, then refine), the small CNN is trained on the refined
phantoms and tested on the fold. ``phantom_only`` is the floor: the same phantoms as they are. ``calibrated`` are
phantoms, as they are, drawn by the votes of the other folds' patients (epsilon 1, one cohort, the sharpness that
commands propose), ``calibrated_as_voted`` the same at sharpness 0, ``calibrated_four`` with a hospital and noise for
each device, ``calibrated_dp_eps8`` refines them by a model whose training costs epsilon 8 *with* the votes.
``real_only`` trains on the other folds' patients, ``real50`` on 50 of them; ``..._plus_calibrated`` adds the
``calibrated`` set of the fold, ``..._plus_phantoms`` that of ``phantom_only``; ``calibrated_then_...`` and
``phantoms_then_...`` train on the synthetic set first, then with as many steps on the real patients alone;
``real_then_real`` and ``real50_then_real50`` take as many steps on real patients as these do in all.

There is one adapter for each fold and epsilon; seeds vary phantoms, sampling noise, the 50 patients and the classifier.
Scores are turned into ranks within their fold (classifiers of different folds have different scales) and pooled;
intervals are over resampled patients of all folds and do not contain the variance of retraining, which ``by_seed``
shows: two classifiers trained on sets of one kind differ by .01 to .03.

Prints one JSON object as the last line of stdout: by arm ``{auc, interval, seeds}`` and, on the same resamples,
``difference`` from the arm named ``against``; null while a fold is missing; ``real_plus_synthetic`` and
``real50_plus_synthetic`` are the arms with the ``calibrated`` set under the names of the contract. Beside them
``frechet`` (400 images on each side, equal parts of the folds), ``lesion_crop`` (logistic regression on frozen features
of the lesion box, and the difference from ``real_only``) and ``denoising_gain_share`` (of the non-private gain in
held-out denoising loss), all of seed 0, and ``peak_resident_mib``, the largest memory of the process that made the
units (null when it only read).
Every unit is kept in ``--work``; the same command goes on where it stopped, seed 0 of all arms first; ``--report`` only
reads.
Not run here: pooled noise (there is no masked sum), and external test sets.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._parts import peak_resident_mib
from benchmarks._utility_work import ADAPTED, ARMS, PHANTOM_ONLY, SYNTHETIC, TASK, VOTING, Array, Bench, Settings
from sonoshare_shared.science.calibration.ballot import shipped_ballot
from sonoshare_shared.science.device import chosen_device, device_words
from sonoshare_shared.science.evaluation import features
from sonoshare_shared.science.evaluation.auc import auc, paired_difference, patient_bootstrap
from sonoshare_shared.science.evaluation.distances import frechet
from sonoshare_shared.science.evaluation.folds import within_fold_ranks
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.labels import read_labels

SIZE = 64
FOLDS = (1, 2, 3, 4, 5)
DISTANCE_IMAGES = 400
AGAINST = {
    **dict.fromkeys((*VOTING, *ADAPTED), PHANTOM_ONLY),
    "calibrated_as_voted": "calibrated",
    "calibrated_dp_eps8": "calibrated",
    "real_plus_calibrated": "real_only",
    "calibrated_then_real": "real_then_real",
    "phantoms_then_real": "real_then_real",
    "real_then_real": "real_only",
    "real50": PHANTOM_ONLY,
    "real50_plus_phantoms": "real50",
    "real50_plus_calibrated": "real50",
    "calibrated_then_real50": "real50_then_real50",
    "phantoms_then_real50": "real50_then_real50",
    "real50_then_real50": "real50",
}
ORDER = (
    PHANTOM_ONLY,
    "calibrated",
    "calibrated_as_voted",
    "calibrated_four",
    "dp_eps8",
    "dp_eps8_four",
    "real50",
    "real50_plus_phantoms",
    "real50_plus_calibrated",
    "calibrated_then_real50",
    "phantoms_then_real50",
    "real50_then_real50",
    "real_only",
    "real_plus_calibrated",
    "calibrated_then_real",
    "phantoms_then_real",
    "real_then_real",
    "calibrated_dp_eps8",
    "nonprivate",
    "dp_eps3",
)
REAL_ONLY = "real_only"
CONTRACT = {"real_plus_synthetic": "real_plus_calibrated", "real50_plus_synthetic": "real50_plus_calibrated"}
"""Names of the command line's contract, by the arm that they are."""
CROP_ARMS = (*SYNTHETIC, REAL_ONLY)
BUSBRA = Path(__file__).resolve().parents[2] / "shared" / "data" / "busbra"
WORK = Path(__file__).resolve().parents[1] / "work" / "utility"


def pooled_scores(bench: Bench, arm: str, folds: tuple[int, ...], seeds: int) -> Array | None:
    """Ranks [k, n] over the pooled rows of the folds, of the seeds that have all of them."""
    table = []
    for seed in range(seeds):
        parts = [bench.scores(fold, arm, seed) for fold in folds]
        if all(part is not None for part in parts):
            table.append(np.concatenate([within_fold_ranks(part) for part in parts if part is not None]))
    return np.stack(table) if table else None


def compute(
    bench: Bench, folds: tuple[int, ...], seeds: int, arms: tuple[str, ...] = ORDER, *, only_scores: bool = False
) -> None:
    """Make every unit, seed by seed and arm by arm, so that an arm has all of its folds early."""
    for seed in range(seeds):
        for arm in arms:
            for fold in folds:
                bench.scores(fold, arm, seed)
        if seed == 0 and not only_scores:
            extras(bench, folds, arms)


def extras(bench: Bench, folds: tuple[int, ...], arms: tuple[str, ...] = ARMS) -> dict[str, object]:
    """Distances, lesion crops and denoising gain of some arms, all of seed 0; null where a fold is missing."""
    rows = np.concatenate([bench.test_rows(fold) for fold in folds])
    labels, patients = bench.real.labels[rows], bench.real.patients[rows]
    tables = {arm: _crop_ranks(bench, arm, folds) for arm in CROP_ARMS if arm in arms}
    crop: dict[str, object] = {arm: _crop_entry(tables, arm, labels, patients) for arm in tables}
    losses = {arm: [bench.denoising(fold, arm) for fold in folds] for arm in (PHANTOM_ONLY, *ADAPTED) if arm in arms}
    means = {arm: float(np.mean([x or 0 for x in each])) for arm, each in losses.items() if None not in each}
    return {
        "lesion_crop": crop,
        "denoising_loss": means,
        "denoising_gain_share": {
            arm: (means[PHANTOM_ONLY] - means[arm]) / (means[PHANTOM_ONLY] - means["nonprivate"])
            for arm in ADAPTED
            if {arm, PHANTOM_ONLY, "nonprivate"} <= set(means)
        },
        "frechet": distances(bench, folds),
    }


def _crop_ranks(bench: Bench, arm: str, folds: tuple[int, ...]) -> Array | None:
    """Ranks [n] of the folds' lesion crops by an arm; None while a fold is missing."""
    parts = [bench.crop_scores(fold, arm) for fold in folds]
    known = [within_fold_ranks(part) for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(folds) else None


def _crop_entry(
    tables: dict[str, Array | None], arm: str, labels: NDArray[np.int64], patients: NDArray[np.str_]
) -> dict[str, object] | None:
    """AUC of an arm's lesion crops and, on the same resamples, its difference from real ones."""
    table, real = tables[arm], tables.get(REAL_ONLY)
    if table is None:
        return None
    entry: dict[str, object] = {**patient_bootstrap(labels, table, patients).as_json()}
    if real is not None and arm != REAL_ONLY:
        difference = paired_difference(labels, table, real, patients)
        entry |= {"difference": difference.value, "difference_interval": list(difference.interval)}
    return entry


def distances(bench: Bench, folds: tuple[int, ...]) -> dict[str, float]:
    """Fréchet distance in EfficientNet-Lite0 features between held-out and synthetic pictures, equal parts of folds."""
    each = DISTANCE_IMAGES // len(folds)

    def gathered(of: dict[int, NDArray[np.float32]]) -> Array:
        return np.asarray(features.pooled(np.concatenate([of[fold] for fold in folds]), bench.device), dtype=np.float64)

    path = bench.work / f"frechet-{'-'.join(map(str, folds))}.json"
    found: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    for arm in SYNTHETIC:
        sets = [bench.work / f"set-{arm}-fold{fold}-seed0.safetensors" for fold in folds]
        if arm in found or not bench.computes or (arm != PHANTOM_ONLY and not all(file.exists() for file in sets)):
            continue
        # Each fold gives other phantoms, so that no picture stands twice in the set.
        made = {fold: bench.synthetic(fold, arm, 0).images[i * each : (i + 1) * each] for i, fold in enumerate(folds)}
        held_out = {fold: bench.real.images[bench.test_rows(fold)[:each]] for fold in folds}
        found[arm] = frechet(gathered(held_out), gathered(made))
        path.write_text(json.dumps(found))
    return found


def figures(bench: Bench, folds: tuple[int, ...], seeds: int) -> dict[str, object]:
    """All that can be said from the units that are there."""
    rows = np.concatenate([bench.test_rows(fold) for fold in folds])
    labels, patients = bench.real.labels[rows], bench.real.patients[rows]
    result: dict[str, object] = {"folds": list(folds), "seeds": seeds, "images": bench.settings.images}
    tables = {arm: pooled_scores(bench, arm, folds, seeds) for arm in ARMS}
    for arm, table in tables.items():
        if table is None:
            result[arm] = None
            continue
        each = [auc(labels, row) for row in table]
        entry = {**patient_bootstrap(labels, table, patients).as_json(), "seeds": len(table), "by_seed": each}
        against = AGAINST.get(arm)
        other = tables[against] if against else None
        if other is not None:
            both = min(len(table), len(other))  # the same seeds on both sides
            difference = paired_difference(labels, table[:both], other[:both], patients)
            entry |= {"against": against, "difference": difference.value}
            entry["difference_interval"] = list(difference.interval)
        result[arm] = entry
    named = {name: result[arm] for name, arm in CONTRACT.items()}
    return result | named | extras(bench, folds)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of finished units")
    parser.add_argument("--folds", default="1,2,3,4,5", help="official folds to test on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=Settings.images, help="of each synthetic set")
    parser.add_argument("--start-time", type=int, default=Settings.start_time, help="how far phantoms are noised")
    parser.add_argument("--sampler-steps", type=int, default=Settings.sampler_steps, help="of refining")
    parser.add_argument("--arms", default=",".join(ORDER), help="arms to make, in this order")
    parser.add_argument("--classifier-steps", type=int, help="of the small CNN, instead of those of the rule")
    parser.add_argument("--only-scores", action="store_true", help="no distances, lesion crops and denoising")
    parser.add_argument("--device", default="auto", help="auto|cpu|cuda[:N], of classifiers and features")
    parser.add_argument("--report", action="store_true", help="only read what is there")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}: nothing measured", file=sys.stderr)
        print(json.dumps(dict.fromkeys(("folds", "seeds", *ARMS, *CONTRACT))))
        return
    folds = tuple(int(text) for text in arguments.folds.split(","))
    if not folds or set(folds) - set(FOLDS):
        parser.error("folds are numbers from 1 to 5")
    arms = tuple(arguments.arms.split(","))
    if set(arms) - set(ARMS):
        parser.error(f"arms are some of {', '.join(ARMS)}")
    real = load_labelled(read_labels(arguments.busbra), SIZE)
    ballot = shipped_ballot(TASK, SIZE)
    if ballot is None:
        parser.error("no ballot ships for the task")
    settings = Settings(
        images=arguments.images,
        start_time=arguments.start_time,
        sampler_steps=arguments.sampler_steps,
        classifier_steps=arguments.classifier_steps,
    )

    device = chosen_device(arguments.device)

    def bench(*, computing: bool) -> Bench:
        return Bench(real, arguments.work, settings, ballot, compute=computing, say=_say, device=device)

    if not arguments.report:
        compute(bench(computing=True), folds, arguments.seeds, arms, only_scores=arguments.only_scores)
    memory = {"device": device_words(device), "peak_resident_mib": None if arguments.report else peak_resident_mib()}
    print(json.dumps(figures(bench(computing=False), folds, arguments.seeds) | memory))


def _say(unit: str) -> None:
    print(f"{time.process_time():8.0f} s {peak_resident_mib():6d} MiB  {unit}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
