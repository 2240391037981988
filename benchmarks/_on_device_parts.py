"""The small sections of `benchmarks.on_device`: facts of the machine, speed of simulation, a sheet from noise.

    python -m benchmarks._on_device_parts facts|phantoms|sheet --profile P --device D --precision X --base F --sheet F

Each prints one JSON object as the last line of stdout.
"""

import argparse
import json
import os
import platform
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._parts import seconds_of
from sonoshare_shared.science.device import CPU, chosen_device, device_words
from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.phantom_stream import PhantomStream
from sonoshare_shared.science.model.profiles import profile_named
from sonoshare_shared.science.model.sampler import SamplerSettings, sample
from sonoshare_shared.science.phantom import simulate

SIMULATED = {True: 1024, False: 16}  # on a GPU, on a CPU
BATCHES = 4
COLUMNS, ROWS, STEPS, SEED = 8, 4, 24, 20


def facts(device: torch.device) -> dict[str, Any]:
    """What computes here."""
    memory = None if device == CPU else round(torch.cuda.get_device_properties(device).total_memory / 2**20)
    return {
        "device": device_words(device),
        "device_word": str(device),
        "device_memory_mib": memory,
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def phantoms(size: int, device: torch.device) -> dict[str, Any]:
    """How fast phantoms come."""
    stream, count = PhantomStream(0, size, device), SIMULATED[device != CPU]
    stream.batch(count, 2)  # what is made once
    alone = seconds_of(lambda: stream.batch(0, count), device)
    workers = os.cpu_count() or 1
    with closing(stream.batches(0, count, workers=workers)) as batches:
        next(batches)  # processes begin
        ahead = seconds_of(lambda: [next(batches) for _ in range(BATCHES)], device)
    return {
        "size": size,
        "count": count,
        "per_second": count / alone,
        "per_second_drawn_ahead": BATCHES * count / ahead,
        "workers": workers,
    }


def drawn(base: Path, profile: str, device: torch.device, precision: Any, path: Path) -> dict[str, Any]:
    """Pictures from noise, benign and malignant by turns, under boxes of phantoms."""
    model, digest = load_base(profile, base)
    boxes = simulate(COLUMNS * ROWS, seed=SEED, size=model.profile.size)
    settings = SamplerSettings(steps=STEPS, precision=precision)
    images = sample(model.to(device), settings, Condition.of(boxes.labels, None, boxes.boxes), seed=SEED).images
    rows = [np.hstack(list(images[row * COLUMNS :][:COLUMNS])) for row in range(ROWS)]
    save_png(path, np.vstack(rows))
    return {"base": digest, "sheet": str(path), "mean": float(images.mean()), "deviation": float(images.std())}


def main() -> None:
    """Run one section."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("section", choices=("facts", "phantoms", "sheet"))
    parser.add_argument("--profile", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, required=True)
    asked = parser.parse_args()
    device, size = chosen_device(asked.device), profile_named(asked.profile).size
    if asked.section == "facts":
        found = facts(device)
    elif asked.section == "phantoms":
        found = phantoms(size, device)
    else:
        found = drawn(asked.base, asked.profile, device, asked.precision, asked.sheet)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
