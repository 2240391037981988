"""What votes on phantoms are worth by epsilon, rounds and contrast, and which noise rounds should have.

    python -m benchmarks.votes --work DIR [--busbra DIR] [--folds 1] [--seeds 3] [--images 2000] [--steps 400]
        [--side 64] [--arm rounds=3,epsilon=7 --arm ...] [--json]
    python -m benchmarks.votes --noise [--json]

BUS-BRA, official patient-disjoint folds, 64 px; each patient of the other folds votes once a round. The small CNN is
trained on the set for the same number of steps whatever the arm, and tested on the fold. An arm names rounds, epsilon
(of all of them together; 0 without noise), sharpness, contrast and the pool of a later round; see `Arm`. ``rounds=0``
are phantoms by the priors. ``--noise`` compares, for an epsilon and a number of rounds, the standard deviation of one
count under geometric noise (pure, epsilons add up) and under Gaussian noise (composed exactly, delta 1e-4).

Prints one JSON object as the last line of stdout: by arm AUC by seed and fold, their mean, and of how many pictures and
lesions a class of the set is drawn (``effective_...``: one over the chance that two draws are the same). A fold has one
draw of votes and one set an arm, seeds are of the classifier. ``--side 32`` averages pictures down before the CNN sees
them: a quarter of the time, and classifiers of one set differ less.
Every unit is kept in ``--work``; the same command goes on where it stopped.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks._parts import peak_resident_mib
from benchmarks._votes_work import TASK, Arm, VotesBench
from benchmarks.utility import BUSBRA, SIZE, WORK
from sonoshare_privacy.accounting import SampledGaussian, epsilon
from sonoshare_privacy.mechanisms import geometric
from sonoshare_shared.science.calibration.ballot import shipped_ballot
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.evaluation.units import Units
from sonoshare_shared.science.labels import read_labels

DELTA = 1e-4
NOISE_EPSILONS = (1.0, 2.0, 4.0, 7.0)
NOISE_ROUNDS = (1, 2, 3, 5, 10, 20)
_TOLERANCE = 1e-4


def gaussian_deviation(target: float, rounds: int, delta: float) -> float:
    """Smallest noise of one count whose rounds together cost at most epsilon, to 4 digits."""
    low, high = 1e-2, 1e4
    while high / low > 1 + _TOLERANCE:
        middle = math.sqrt(low * high)
        fits = epsilon([SampledGaussian(1.0, middle, rounds)], delta) <= target
        low, high = (low, middle) if fits else (middle, high)
    return high


def noise_table() -> list[dict[str, float]]:
    """Standard deviation of one count of one round, under both kinds of noise."""
    return [
        {
            "epsilon": target,
            "rounds": rounds,
            "geometric": math.sqrt(geometric.variance(target / rounds)),
            "gaussian": gaussian_deviation(target, rounds, DELTA),
        }
        for target in NOISE_EPSILONS
        for rounds in NOISE_ROUNDS
    ]


def measured(bench: VotesBench, arms: list[Arm], folds: list[int], seeds: int) -> dict[str, object]:
    """AUC of every arm, seed by seed, all arms of a seed before the next."""
    table: dict[str, list[list[float]]] = {arm.key: [] for arm in arms}
    for seed in range(seeds):
        for arm in arms:
            table[arm.key].append([bench.auc(fold, arm, seed) for fold in folds])
            _say(f"{arm.key} seed {seed}: {table[arm.key][-1]}")
    return {
        arm.key: {
            "mean": float(np.mean(table[arm.key])),
            "by_seed_and_fold": table[arm.key],
            **diversities(bench, arm, folds),
        }
        for arm in arms
    }


def diversities(bench: VotesBench, arm: Arm, folds: list[int]) -> dict[str, float]:
    """Effective numbers of pictures and of lesions of one class, mean of the folds; nothing where nobody votes."""
    if not arm.rounds:
        return {}
    pictures, lesions = np.mean([bench.diversity(fold, arm) for fold in folds], axis=0)
    return {"effective_pictures": float(pictures), "effective_lesions": float(lesions)}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--work", type=Path, default=WORK.with_name("votes"), help="folder of finished units")
    parser.add_argument("--folds", default="1", help="official folds to test on")
    parser.add_argument("--seeds", type=int, default=3, help="classifiers of each arm and fold")
    parser.add_argument("--images", type=int, default=2000, help="of each synthetic set")
    parser.add_argument("--steps", type=int, default=400, help="of the small CNN")
    parser.add_argument("--side", type=int, default=SIZE, choices=(16, 32, 64), help="of what the CNN sees, pixels")
    parser.add_argument("--arm", action="append", default=[], help="like rounds=3,epsilon=7; repeatable")
    parser.add_argument("--noise", action="store_true", help="only compare kinds of noise; no picture is read")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.noise:
        print(json.dumps({"delta": DELTA, "deviations": noise_table()}))
        return
    arms = [Arm.of(text) for text in arguments.arm or ("rounds=0", "rounds=1,epsilon=1", "rounds=1,epsilon=7")]
    ballot = shipped_ballot(TASK, SIZE)
    if ballot is None or not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}: nothing measured", file=sys.stderr)
        print(json.dumps({"arms": None}))
        return
    folds = [int(number) for number in arguments.folds.split(",")]
    real = load_labelled(read_labels(arguments.busbra), SIZE)
    units = Units(arguments.work, {"ballot": ballot.digest(), "pictures": len(real)}, say=_say)
    bench = VotesBench(real, ballot, units, images=arguments.images, steps=arguments.steps, side=arguments.side)
    found = measured(bench, arms, folds, arguments.seeds)
    about = {"folds": folds, "images": arguments.images, "steps": arguments.steps, "side": arguments.side}
    print(json.dumps({**about, "arms": found, "peak_resident_mib": peak_resident_mib()}))


def _say(unit: str) -> None:
    print(f"{time.process_time():8.0f} s  {unit}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
