"""Draws the pictures of docs/model.md: phantoms, what the base makes of them, and what it draws from noise.

    python -m benchmarks.model_sheet [--out docs/images] [--adapter FILE ...] [--votes FILE]

Writes ``model-classes.png`` (by scanner style and class) and ``model-steps.png`` (one phantom by start time), and with
adapters ``model-adapters.png`` (one row each). With noisy votes (``{"votes": [...]}``, a unit of benchmarks.utility)
``phantom-votes.png``: phantoms by the priors, by the votes, and the latter refined by the base. Every picture is a
function of the shipped base, the seeds below, the adapters and the votes; no picture of a patient is read.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoshare_server.consortium.terms import SHARPNESS, START_TIME
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.calibration.ballot import shipped_ballot
from sonoshare_shared.science.calibration.choice import calibrated_phantoms, chances_of, shares_of
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.model.adapter import load_adapter, read_adapter
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.base_pictures import SIMULATED_SCANNER_SLOT
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.sampler import NOISE, PHANTOM, SamplerSettings, sample
from sonoshare_shared.science.phantom import SCANNER_STYLES, PhantomBatch, simulate
from sonoshare_shared.science.tasks.files import read_task

SIZE, SEED, ENLARGED, GAP = 64, 41, 2, 2
CLASSES = ("benign", "malignant", "normal")
REFINING_STEPS, NOISE_STEPS = 8, 20
START_TIMES = (150, 250, 350, 500, 700)
SHOWN = 8  # pictures of an adapter's row
Images = NDArray[np.float32]


def sheet(rows: list[list[Images]]) -> Images:
    """Tile pictures with white gaps, enlarged without smoothing."""

    def tile(picture: Images) -> Images:
        large = picture.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
        return np.pad(large, GAP // 2, constant_values=1.0)

    return np.vstack([np.hstack([tile(picture) for picture in row]) for row in rows])


def drawn(
    model: ConditionedUNet,
    phantoms: PhantomBatch,
    start: str,
    *,
    styles: bool = True,
    start_time: int = 250,
    first: int = 0,
) -> Images:
    """The phantoms refined, or pictures from noise under their class, box and (with ``styles``) scanner."""
    refining = start == PHANTOM
    steps = REFINING_STEPS if refining else NOISE_STEPS
    scanners = phantoms.scanners + SIMULATED_SCANNER_SLOT if styles else None
    return sample(
        model,
        SamplerSettings(steps=steps, start=start, start_time=start_time),
        Condition.of(phantoms.labels, scanners, phantoms.boxes),
        seed=SEED,
        start_index=first,
        images=phantoms.images if refining else None,
        masks=phantoms.masks if refining else None,
    ).images


def classes_sheet(model: ConditionedUNet) -> Images:
    """A scanner style a row; for each class a phantom, the phantom refined, and a picture from noise."""
    rows = []
    for style in range(len(SCANNER_STYLES)):
        count, first = len(CLASSES), style * len(CLASSES)
        phantoms = simulate(count, seed=SEED, size=SIZE, classes=CLASSES, scanners=[style] * count, start_index=first)
        made = [drawn(model, phantoms, start, first=first) for start in (PHANTOM, NOISE)]
        sets = (phantoms.images, *made)
        rows.append([images[i] for i in range(count) for images in sets])
    return sheet(rows)


def steps_sheet(model: ConditionedUNet) -> Images:
    """One benign and one malignant phantom, then refined from later and later start times."""
    phantoms = simulate(2, seed=SEED, size=SIZE, scanners=[2, 2], start_index=1)
    sets = [phantoms.images, *(drawn(model, phantoms, PHANTOM, start_time=time) for time in START_TIMES)]
    return sheet([[images[i] for images in sets] for i in range(2)])


def adapters_sheet(adapters: list[Path]) -> Images:
    """Phantoms (benign and malignant by turns), refined by the base, then by the base with each adapter."""
    phantoms = simulate(SHOWN, seed=SEED, size=SIZE, start_index=40)
    model, _ = load_base("small")
    rows = [list(phantoms.images), list(drawn(model, phantoms, PHANTOM, styles=False))]
    for path in adapters:
        model, _ = load_base("small")
        load_adapter(model, read_adapter(path))
        rows.append(list(drawn(model, phantoms, PHANTOM, styles=False)))
    return sheet(rows)


def votes_sheet(model: ConditionedUNet, votes: Path) -> Images:
    """Phantoms (benign and malignant by turns) by the priors, by votes, and the latter refined as releases are."""
    task = read_task("diagnosis")
    ballot = shipped_ballot(task, SIZE)
    if ballot is None:
        raise InputError("no ballot ships for the task")
    shares = shares_of(ballot, np.asarray(json.loads(votes.read_text())["votes"], dtype=np.int64))
    voted = calibrated_phantoms(ballot, chances_of(ballot, shares, SHARPNESS), task, SHOWN, seed=SEED)
    refined = drawn(model, voted, PHANTOM, styles=False, start_time=START_TIME)
    rows = (simulate(SHOWN, seed=SEED, size=SIZE).images, voted.images, refined)
    return sheet([list(row) for row in rows])


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description="Pictures of docs/model.md")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--adapter", type=Path, action="append", default=[], help="a trained adapter; repeatable")
    parser.add_argument("--votes", type=Path, help="noisy votes on the shipped ballot (JSON)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    model, _ = load_base("small")
    pictures = {"classes": classes_sheet(model), "steps": steps_sheet(model)}
    if arguments.adapter:
        pictures["adapters"] = adapters_sheet(arguments.adapter)
    named = {f"model-{name}.png": picture for name, picture in pictures.items()}
    if arguments.votes:
        named["phantom-votes.png"] = votes_sheet(model, arguments.votes)
    for name, picture in named.items():
        save_png(arguments.out / name, picture.astype(np.float64))


if __name__ == "__main__":
    main()
