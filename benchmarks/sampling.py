"""What drawing a release costs over the network it must run, and how many steps are worth taking.

    python -m benchmarks.sampling [--images 400, 0: no distances] [--repeats 5] [--busbra DIR] [--json]
    python -m benchmarks.sampling --images 0 --profile medium --device cuda --precision bfloat16 --batch-size 64 --json

The shipped base at 64 px on the CPU, one thread; with ``--images 0`` any profile on any device, untrained where no base
ships (times do not depend on weights). Prints one JSON object as the last line of stdout:

- ``time_over_bare_unet``: time of `sample` over that of the same number of bare network evaluations in the same
  batches, alternating, median of the repeats, 10 steps (bar 1.05, on a GPU 1.1); ``noise`` and ``phantom`` apart in
  ``time_over_bare``; ``bare`` there is the bare evaluations over themselves: its distance from 1 is noise. Processor
  time; on a GPU wall time from and to the moments when it has nothing left to do;
- ``outside_over_network`` (CPU): processor time of `sample` outside of the network over that inside, within the same
  runs, so that a busy machine slows both alike: what the sampler itself adds;
- ``timed_images_per_second``: of `sample` in those runs, by start; ``device_memory_mib`` of tensors on a GPU;
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._parts import peak_device_mib, seconds_of, time_unit
from sonoshare_shared.protocol.documents.plan import Precision
from sonoshare_shared.science.device import CPU, chosen_device, device_words
from sonoshare_shared.science.evaluation import features
from sonoshare_shared.science.evaluation.distances import frechet
from sonoshare_shared.science.evaluation.labelled import load_labelled
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.model.base import base_path, load_base
from sonoshare_shared.science.model.conditions import Condition
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.profiles import profile_named
from sonoshare_shared.science.model.sampler import NOISE, PHANTOM, SamplerSettings, sample
from sonoshare_shared.science.phantom import PhantomBatch, simulate
from sonoshare_shared.science.precision import BFLOAT16, FLOAT32, TF32, computing_in, forward_in

SIZE, SEED, OTHER_SEED = 64, 30, 31  # SIZE: of small, where distances are measured
FROM_NOISE, FROM_PHANTOM, REPEATED_STEPS = (10, 20, 50), (2, 5, 8, 12, 20), 8
TIMED_STEPS, BATCH = 10, 16
MEMORY_BATCHES = (1, 16, 64)
START_TIME = 250
BUSBRA = Path(__file__).resolve().parents[2] / "shared" / "data" / "busbra"
Images = NDArray[np.float32]


@dataclass(frozen=True)
class Where:
    """What draws, where and in which arithmetic."""

    model: ConditionedUNet
    device: torch.device = CPU
    precision: Precision = FLOAT32
    batch: int = BATCH

    @property
    def timed(self) -> int:
        """Images of a timed run: two batches."""
        return 2 * self.batch


def draw(where: Where, phantoms: PhantomBatch, start: str, steps: int, seed: int = SEED) -> Images:
    """Images of a set, from noise or from its phantoms."""
    refining = start == PHANTOM
    settings = SamplerSettings(
        steps=steps, start=start, start_time=START_TIME, batch_size=where.batch, precision=where.precision
    )
    return sample(
        where.model,
        settings,
        Condition.of(phantoms.labels, None, phantoms.boxes),
        seed=seed,
        images=phantoms.images if refining else None,
        masks=phantoms.masks if refining else None,
    ).images


def overheads(where: Where, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Time of sampling over the bare evaluations it needs, by start; and images a second."""
    model, size = where.model, where.model.profile.size
    phantoms = simulate(where.timed, seed=SEED, size=size)
    condition = Condition.of(phantoms.labels, None, phantoms.boxes).to(where.device)
    noise = torch.randn(where.batch, 1, size, size, device=where.device)
    t = torch.full((where.batch,), 500, device=where.device)

    @torch.no_grad()
    def bare() -> None:
        with computing_in(where.precision), forward_in(where.precision, where.device):
            for first in range(0, where.timed, where.batch):
                rows = condition[slice(first, first + where.batch)]
                for _ in range(TIMED_STEPS):
                    model(noise, t, rows)

    runs: dict[str, Callable[[], object]] = {
        start: partial(draw, where, phantoms, start, TIMED_STEPS) for start in (NOISE, PHANTOM)
    }
    runs["bare"] = bare
    for run in runs.values():
        run()
    ratios: dict[str, list[float]] = {name: [] for name in runs}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            reference = seconds_of(bare, where.device)
            times[name].append(seconds_of(run, where.device))
            ratios[name].append(times[name][-1] / ((reference + seconds_of(bare, where.device)) / 2))
    speeds = {name: where.timed / median(found) for name, found in times.items()}
    return {name: median(found) for name, found in ratios.items()}, speeds


def outside(where: Where, repeats: int) -> dict[str, float]:
    """Time of sampling that is not spent in the network, over the time that is, by start."""
    model = where.model
    phantoms = simulate(where.timed, seed=SEED, size=model.profile.size)
    clock: list[float] = []
    hooks = (
        model.register_forward_pre_hook(lambda *_: clock.append(-time.process_time())),
        model.register_forward_hook(lambda *_: clock.append(time.process_time())),
    )
    found: dict[str, list[float]] = {NOISE: [], PHANTOM: []}
    for _ in range(repeats):
        for start, ratios in found.items():
            clock.clear()
            whole = seconds_of(partial(draw, where, phantoms, start, TIMED_STEPS), where.device)
            ratios.append(whole / sum(clock) - 1)
    for hook in hooks:
        hook.remove()
    return {start: median(ratios) for start, ratios in found.items()}


def network(profile: str) -> ConditionedUNet:
    """The shipped base of a profile, or an untrained network where none ships."""
    return load_base(profile)[0] if base_path(profile).is_file() else ConditionedUNet(profile_named(profile)).eval()


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


def timings(where: Where, repeats: int) -> dict[str, object]:
    """What drawing costs over the network."""
    ratios, speeds = overheads(where, repeats)
    return {
        "time_over_bare_unet": max(ratios[NOISE], ratios[PHANTOM]),
        "time_over_bare": ratios,
        "outside_over_network": outside(where, repeats) if where.device == CPU else None,
        "timed_images_per_second": speeds,
        "device_memory_mib": peak_device_mib(where.device),
        "profile": where.model.profile.name,
        "batch": where.batch,
        "device": device_words(where.device),
        "precision": where.precision,
        "time_unit": time_unit(where.device),
    }


def qualities(where: Where, busbra: Path, images: int) -> dict[str, object]:
    """Memory, speed and distances by steps."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {batch: pool.apply(peak_memory, (batch,)) for batch in MEMORY_BATCHES}
    kind, real = reference_images(busbra, images)
    known = features.pooled(real)
    phantoms = simulate(len(real), seed=SEED, size=SIZE)
    speed, distance, refined = {}, {}, {}
    for steps in FROM_NOISE:
        start = time.process_time()
        drawn = draw(where, phantoms, NOISE, steps)
        speed[steps] = len(drawn) / (time.process_time() - start)
        distance[steps] = frechet(known, features.pooled(drawn))
        print(f"noise {steps}: {speed[steps]:.2f} images/s, {distance[steps]:.1f}", file=sys.stderr, flush=True)
    for steps in FROM_PHANTOM:
        refined[steps] = frechet(known, features.pooled(draw(where, phantoms, PHANTOM, steps)))
        print(f"phantom {steps}: {refined[steps]:.1f}", file=sys.stderr, flush=True)
    again = frechet(known, features.pooled(draw(where, phantoms, PHANTOM, REPEATED_STEPS, OTHER_SEED)))
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
    parser.add_argument("--profile", default="small", help="another than small with --images 0 only")
    parser.add_argument("--device", default="cpu", help="another than cpu with --images 0 only")
    parser.add_argument("--precision", default=FLOAT32, choices=(FLOAT32, TF32, BFLOAT16))
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    if arguments.images and (arguments.profile != "small" or arguments.device != "cpu"):
        parser.error("distances and memory are of small on the CPU: give --images 0")
    torch.set_num_threads(1)
    device = chosen_device(arguments.device)
    where = Where(network(arguments.profile).to(device), device, arguments.precision, arguments.batch_size)
    found = timings(where, arguments.repeats)
    print(json.dumps(found | (qualities(where, arguments.busbra, arguments.images) if arguments.images else {})))


if __name__ == "__main__":
    main()
