"""Draws real pictures beside phantoms, refined and sampled ones, by class and device: to look at, not to keep.

    python -m benchmarks.real_sheet --work DIR [--busbra DIR] [--fold 1] [--pictures 2]

Writes ``real-beside-foldF.png`` into ``--work``, a folder of ``benchmarks.utility`` (units that are missing are made).
A row is a device of BUS-BRA and one of ``--pictures`` pictures of each kind. For benign, then malignant: a real picture
of the fold, a phantom by the priors, one by the votes of the other folds' patients, one of those refined by
``calibrated_dp_eps8``, and one drawn from noise by the same model under the phantom's class and box. The synthetic
columns have no device: the benchmark's hospitals are one cohort, whose scanner is absent.

The file shows patients' pictures of a public set. It belongs on the screen of who has that set, and into no repository.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._utility_work import PHANTOM_ONLY, TASK, Bench, Settings
from benchmarks.model_sheet import NOISE_STEPS, Images, sheet
from benchmarks.utility import BUSBRA, SIZE, WORK
from sonoshare_shared.science.calibration.ballot import shipped_ballot
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.sampler import SamplerSettings, sample

SEED = 0
REFINED = "calibrated_dp_eps8"
SYNTHETIC = (PHANTOM_ONLY, "calibrated", REFINED)


def rows(bench: Bench, fold: int, pictures: int) -> list[list[Images]]:
    """Pictures of the sheet; devices with fewer pictures of a class than asked for give fewer rows."""
    held_out = bench.real.take(bench.test_rows(fold))
    made = {arm: bench.synthetic(fold, arm, SEED) for arm in SYNTHETIC}
    devices = np.unique(held_out.devices)
    count = pictures * len(devices)
    columns: dict[int, list[Images]] = {}
    for label in range(len(held_out.classes)):
        some = {arm: np.flatnonzero(each.labels == label)[:count] for arm, each in made.items()}
        boxes = made[REFINED].boxes[some[REFINED]]
        noise = sample(
            bench.model(fold, REFINED),
            SamplerSettings(steps=NOISE_STEPS),
            Condition.of(np.full(count, label), None, boxes),
            seed=SEED,
        ).images
        columns[label] = [*(made[arm].images[some[arm]] for arm in SYNTHETIC), noise]
    table, place = [], 0
    for device in devices:
        of_class = {label: _of(held_out.labels, held_out.devices, label, device) for label in columns}
        for i in range(min(pictures, *(len(found) for found in of_class.values()))):
            table.append(
                [
                    picture
                    for label, kinds in columns.items()
                    for picture in (held_out.images[of_class[label][i]], *(kind[place] for kind in kinds))
                ]
            )
            place += 1
    return table


def _of(labels: NDArray[np.int64], devices: NDArray[np.str_], label: int, device: str) -> NDArray[np.intp]:
    return np.flatnonzero((labels == label) & (devices == device))


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of finished units of benchmarks.utility")
    parser.add_argument("--fold", type=int, default=1, choices=range(1, 6))
    parser.add_argument("--pictures", type=int, default=2, help="rows of a device")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ballot = shipped_ballot(TASK, SIZE)
    if ballot is None or not (arguments.busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {arguments.busbra}: nothing drawn", file=sys.stderr)
        return
    real = load_labelled(read_labels(arguments.busbra), SIZE)
    bench = Bench(real, arguments.work, Settings(), ballot, compute=True, say=lambda _: None)
    path = arguments.work / f"real-beside-fold{arguments.fold}.png"
    save_png(path, sheet(rows(bench, arguments.fold, arguments.pictures)))
    print(path)


if __name__ == "__main__":
    main()
