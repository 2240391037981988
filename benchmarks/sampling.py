"""What drawing a release costs over the network it must run, and how many steps are worth taking.

    python -m benchmarks.sampling [--images 400, 0: no distances] [--repeats 5] [--busbra DIR] [--json]

The shipped base at 64 px, one thread. Prints one JSON object as the last line of stdout:

- ``time_over_bare_unet``: processor time of `sample` over that of the same number of bare network evaluations in the
  same batches, alternating, median of the repeats, 10 steps (bar 1.05); ``noise`` and ``phantom`` apart in
  ``time_over_bare``; ``bare`` there is the bare evaluations over themselves: its distance from 1 is noise;
- ``outside_over_network``: processor time of `sample` outside of the network over that inside, within the same runs, so
  that a busy machine slows both alike: what the sampler itself adds;
- ``images_per_second`` by steps, from noise: images over processor seconds;
- ``frechet`` by steps, from noise, and ``frechet_phantom`` by steps for refined phantoms (from time 250, where steps
  matter more than from the 120 that commands propose): distance in
  EfficientNet-Lite0 features from as many BUS-BRA pictures where there are any, else from phantoms of another seed
  (``reference`` says which); ``frechet_rerun`` is how far another sampling seed moves the figure at 8 steps;
- ``peak_memory_mb``: resident peak of drawing above what was resident before, by batch size, in a process of its own.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from sonoshare_shared.science.evaluation import features
from sonoshare_shared.science.evaluation.distances import frechet
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.model.base import load_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.sampler import NOISE, PHANTOM, SamplerSettings, sample
from sonoshare_shared.science.phantom import PhantomBatch, simulate

SIZE, SEED, OTHER_SEED = 64, 30, 31
FROM_NOISE, FROM_PHANTOM, REPEATED_STEPS = (10, 20, 50), (2, 5, 8, 12, 20), 8
TIMED_IMAGES, TIMED_STEPS, BATCH = 32, 10, 16
MEMORY_BATCHES = (1, 16, 64)
START_TIME = 250
BUSBRA = Path(__file__).resolve().parents[2] / "shared" / "data" / "busbra"
Images = NDArray[np.float32]


def cpu_seconds(run: Callable[[], object]) -> float:
    """Processor time of one run."""
    start = time.process_time()
    run()
    return time.process_time() - start


def draw(model: ConditionedUNet, phantoms: PhantomBatch, start: str, steps: int, seed: int = SEED) -> Images:
    """Images of a set, from noise or from its phantoms."""
    refining = start == PHANTOM
    return sample(
        model,
        SamplerSettings(steps=steps, start=start, start_time=START_TIME, batch_size=BATCH),
        Condition.of(phantoms.labels, None, phantoms.boxes),
        seed=seed,
        images=phantoms.images if refining else None,
        masks=phantoms.masks if refining else None,
    ).images


def overheads(model: ConditionedUNet, repeats: int) -> dict[str, float]:
    """Time of sampling over the bare evaluations it needs, by start."""
    phantoms = simulate(TIMED_IMAGES, seed=SEED, size=SIZE)
    condition = Condition.of(phantoms.labels, None, phantoms.boxes)
    noise = torch.randn(BATCH, 1, SIZE, SIZE)
    t = torch.full((BATCH,), 500)

    @torch.no_grad()
    def bare() -> None:
        for first in range(0, TIMED_IMAGES, BATCH):
            rows = condition[slice(first, first + BATCH)]
            for _ in range(TIMED_STEPS):
                model(noise, t, rows)

    runs: dict[str, Callable[[], object]] = {
        start: partial(draw, model, phantoms, start, TIMED_STEPS) for start in (NOISE, PHANTOM)
    }
    runs["bare"] = bare
    bare()
    ratios: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            reference = cpu_seconds(bare)
            ours = cpu_seconds(run)
            ratios[name].append(ours / ((reference + cpu_seconds(bare)) / 2))
    return {name: median(found) for name, found in ratios.items()}


def outside(model: ConditionedUNet, repeats: int) -> dict[str, float]:
    """Time of sampling that is not spent in the network, over the time that is, by start."""
    phantoms = simulate(TIMED_IMAGES, seed=SEED, size=SIZE)
    clock: list[float] = []
    hooks = (
        model.register_forward_pre_hook(lambda *_: clock.append(-time.process_time())),
        model.register_forward_hook(lambda *_: clock.append(time.process_time())),
    )
    found: dict[str, list[float]] = {NOISE: [], PHANTOM: []}
    for _ in range(repeats):
        for start, ratios in found.items():
            clock.clear()
            whole = cpu_seconds(partial(draw, model, phantoms, start, TIMED_STEPS))
            ratios.append(whole / sum(clock) - 1)
    for hook in hooks:
        hook.remove()
    return {start: median(ratios) for start, ratios in found.items()}


def peak_memory(batch: int) -> float:
    """Resident peak of drawing a batch above what was resident before, MB; runs in a process of its own."""
    torch.set_num_threads(1)
    model, _ = load_base("small")
    condition = Condition.of(np.zeros(batch, np.int64))
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = resident("VmRSS")
    sample(model, SamplerSettings(steps=2, batch_size=batch), condition, seed=SEED)
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """A field of this process's memory, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def reference_images(busbra: Path, count: int) -> tuple[str, Images]:
    """Pictures to measure distances from, and what they are."""
    if not (busbra / "bus_data.csv").is_file():
        print(f"BUS-BRA is not at {busbra}: distances are from phantoms", file=sys.stderr)
        return "phantoms", simulate(count, seed=OTHER_SEED, size=SIZE).images
    rows = read_labels(busbra)
    chosen = {row.image for row in rows.rows[:: max(1, len(rows) // count)][:count]}
    return "BUS-BRA", load_labelled(rows.where(lambda row: row.image in chosen), SIZE).images


def measure(busbra: Path, images: int, repeats: int) -> dict[str, object]:
    """All figures of the benchmark."""
    model, _ = load_base("small")
    ratios = overheads(model, repeats)
    timings: dict[str, object] = {
        "time_over_bare_unet": max(ratios[NOISE], ratios[PHANTOM]),
        "time_over_bare": ratios,
        "outside_over_network": outside(model, repeats),
        "time_unit": "processor seconds, one thread",
    }
    return timings if images == 0 else timings | qualities(model, busbra, images)


def qualities(model: ConditionedUNet, busbra: Path, images: int) -> dict[str, object]:
    """Memory, speed and distances by steps."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {batch: pool.apply(peak_memory, (batch,)) for batch in MEMORY_BATCHES}
    kind, real = reference_images(busbra, images)
    known = features.pooled(real)
    phantoms = simulate(len(real), seed=SEED, size=SIZE)
    speed, distance, refined = {}, {}, {}
    for steps in FROM_NOISE:
        start = time.process_time()
        drawn = draw(model, phantoms, NOISE, steps)
        speed[steps] = len(drawn) / (time.process_time() - start)
        distance[steps] = frechet(known, features.pooled(drawn))
        print(f"noise {steps}: {speed[steps]:.2f} images/s, {distance[steps]:.1f}", file=sys.stderr, flush=True)
    for steps in FROM_PHANTOM:
        refined[steps] = frechet(known, features.pooled(draw(model, phantoms, PHANTOM, steps)))
        print(f"phantom {steps}: {refined[steps]:.1f}", file=sys.stderr, flush=True)
    again = frechet(known, features.pooled(draw(model, phantoms, PHANTOM, REPEATED_STEPS, OTHER_SEED)))
    return {
        "images_per_second": speed,
        "frechet": distance,
        "frechet_phantom": refined,
        "frechet_raw_phantoms": frechet(known, features.pooled(phantoms.images)),
        "frechet_rerun": abs(again - refined[REPEATED_STEPS]),
        "reference": kind,
        "images": len(real),
        "peak_memory_mb": memory,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busbra", type=Path, default=BUSBRA, help="folder of BUS-BRA")
    parser.add_argument("--images", type=int, default=400, help="on each side of a distance; 0: timings only")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measure(arguments.busbra, arguments.images, arguments.repeats)))


if __name__ == "__main__":
    main()
