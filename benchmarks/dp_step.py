"""What a private training step costs: against the same step without privacy, and against Opacus' hooks.

    python -m benchmarks.dp_step [--patients 16] [--repeats 3] [--json]
    python -m benchmarks.dp_step --profile medium --device cuda --precision bfloat16 --patients 256 --draws 4

Without ``--profile``: the model is a class-conditioned UNet2DModel of 4.6 million numbers on 32 x 32 images, trained in
full or by a low-rank adapter of 0.31 million on attention and convolutions, with K draws per patient. Four settings
(full or adapter, K = 1 or 4); in each, three steps alternate in this process on the same batch, one thread, processor
time, median of the repeats:

- reference: forward, backward, Adam;
- ours: chunks of one fixed size (that of an expected sample of as many patients), clip, exact integer sum,
  cryptographic noise, Adam;
- Opacus' hooks, repaired (``unfold2d`` gets a contiguous input, or gradients of attention blocks are wrong), per-draw
  gradients averaged by patient, clip, weighted sum, torch.randn, Adam.

Memory is the peak of resident memory above what it was before the step, each step in a process of its own. Prints one
JSON object as the last line of stdout:

- ``<setting>_time``, ours over reference; bars 1.08 (lora_k4), 1.12 (lora_k1), 1.12 (full_k4), 1.25 (full_k1);
- ``<setting>_padding``, rows computed over rows needed when the sample's size is Poisson with this mean;
- ``<setting>_memory``, ours over reference; bars 1.0 (lora_k4), 1.2 (full_k4), 0.7 (full_k1);
- ``opacus_speedup``, Opacus over ours, the worst of the settings (bar 1.35), and ``opacus_memory``, ours over Opacus,
  the worst (bar 0.8);
- ``float64_error``, ``float32_error``: clipped sum against a float64 loop; bars 1e-10 and 1e-5;
- ``worst_contribution_over_clip``, bar 1 + 1e-6; ``noise_per_cpu_second``, bar 20 million.

With ``--profile``: the product's own network and the agent's own step, data loading included on both sides, beside a
plain step on as many rows at once (`benchmarks._step_profiles`). By set of trained parameters: ``plain`` and ``ours``
(seconds, processor time on a CPU, time on the wall on a GPU, median), ``ratio``, ``median_of_ratios``, ``places``,
``padding``, and ``memory`` (MiB: on a GPU the peak of its tensors, each side alone; on a CPU as above) with its ratio.
Bars on a GPU, 256 patients, K = 4: affine 1.15, lora 1.3, full 1.5, memory 1.2.
"""

import argparse
import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import get_args

import numpy as np
import torch
from scipy.stats import poisson
from torch.nn import Parameter

from benchmarks._step_profiles import Step, Work, compare, gpu_memory
from benchmarks._step_profiles import our_step as profile_step
from benchmarks._step_profiles import plain_step as profile_plain_step
from benchmarks._step_unet import build, loss_of, make_batch
from sonoshare_privacy.mechanisms.gaussian import Grid, add_gaussian_integers, gaussian_integers
from sonoshare_privacy.noisy_adam import NoisyAdam
from sonoshare_privacy.optimiser import Optimiser
from sonoshare_privacy.patient_gradients import PatientGradients
from sonoshare_privacy.patient_gradients.buffer import NORM_SLACK, clip_factors, row_norms
from sonoshare_privacy.patient_gradients.per_patient import LOSS_SHARE
from sonoshare_privacy.patient_gradients.places import places_of_chunk
from sonoshare_privacy.patient_gradients.room import CPU_ROOM
from sonoshare_privacy.step_release import NoisedSum
from sonoshare_shared.protocol.documents.plan import Precision
from sonoshare_shared.science.device import device_words
from sonoshare_shared.science.model.adapter import TRAINED
from sonoshare_shared.science.model.profiles import PROFILES, profile_named

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import opacus.grad_sample.conv
    from opacus.grad_sample import GradSampleModule

CLIP, SIGMA = 1.0, 2.0
MIB = 1 << 20
SETTINGS = {"lora_k4": (True, 4), "lora_k1": (True, 1), "full_k4": (False, 4), "full_k1": (False, 1)}


def reference_step(adapter: bool, patients: int, draws: int) -> Step:  # noqa: FBT001
    """Forward, backward, Adam."""
    model, parameters = build(adapter=adapter)
    batch, loss = make_batch(patients, draws), loss_of(model)
    adam = torch.optim.Adam(parameters.values(), lr=1e-6)
    adam.zero_grad()
    for parameter in parameters.values():  # Adam's moments exist before the step, as ours do
        adam.state[parameter] = {
            "step": torch.tensor(0.0),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }

    def step() -> None:
        adam.zero_grad()
        torch.autograd.backward(loss(batch).mean())
        adam.step()

    return step


def places(parameters: dict[str, Parameter], expected: float, draws: int) -> int:
    """Patients of a chunk, as `PatientDP` chooses them on a CPU."""
    row_bytes = sum(parameter.numel() * parameter.itemsize for parameter in parameters.values())
    return places_of_chunk(draws=draws, expected=expected, most=CPU_ROOM.most_places(draws, row_bytes))


def padding(size: int, expected: float) -> float:
    """Rows computed per row needed when sample sizes are Poisson, on average; 1 would be no padding.

    Args:
        size: places of a chunk.
        expected: patients in a sample on average.
    """
    counts = np.arange(int(expected + 20 * expected**0.5 + 20))
    return float((poisson.pmf(counts, expected) * np.ceil(counts / size)).sum() * size / expected)


def our_step(adapter: bool, patients: int, draws: int) -> Step:  # noqa: FBT001
    """What `PatientDP.train` does in a step, on a given batch."""
    model, parameters = build(adapter=adapter)
    batch, loss = make_batch(patients, draws), loss_of(model)
    padding = {name: rows[:draws] for name, rows in batch.items()}
    engine = PatientGradients(
        model, parameters, draws=draws, clip_norm=CLIP, clip_mode="clip", places=places(parameters, patients, draws)
    )
    grid = Grid(CLIP, SIGMA, engine.dimension + 1)
    adam = NoisyAdam(parameters, Optimiser(learning_rate=1e-6), total_steps=100)

    engine.__enter__()  # as a training does, once for all steps

    def step() -> None:
        total = torch.zeros(engine.dimension + 1, dtype=torch.int64)
        for part in engine.chunks(patients):
            rows = slice(part.start * draws, part.stop * draws)
            engine.add_clipped({name: all_[rows] for name, all_ in batch.items()}, padding, loss, grid, total)
        add_gaussian_integers(total, grid.deviation)
        adam.step(NoisedSum(total, grid).mean_gradient(patients))

    return step


def opacus_step(adapter: bool, patients: int, draws: int) -> Step:  # noqa: FBT001
    """Opacus' per-draw gradients by hooks, repaired, averaged by patient."""
    model, parameters = build(adapter=adapter)
    batch = make_batch(patients, draws)
    wrapped = GradSampleModule(model, batch_first=True, loss_reduction="sum")
    loss = loss_of(wrapped)
    adam = torch.optim.Adam(parameters.values(), lr=1e-6)

    def step() -> None:
        adam.zero_grad()
        torch.autograd.backward(loss(batch).sum())
        grouped = []
        for parameter in parameters.values():
            samples = vars(parameter).pop("grad_sample")
            grouped.append(samples.view(patients, draws, *parameter.shape).mean(1) if draws > 1 else samples)
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in grouped], 1).norm(dim=1)
        factors = (CLIP / (norms + 1e-12)).clamp(max=1.0)
        for parameter, g in zip(parameters.values(), grouped, strict=True):
            summed = torch.einsum("p,p...->...", factors, g)
            parameter.grad = (summed + SIGMA * CLIP * torch.randn_like(summed)) / patients
        adam.step()

    return step


@contextlib.contextmanager
def repaired_opacus() -> Iterator[None]:
    """Opacus 1.6 unfolds by strides as if every activation were contiguous NCHW."""
    original = opacus.grad_sample.conv.unfold2d

    def contiguous(x: torch.Tensor, **keywords: object) -> torch.Tensor:
        result: torch.Tensor = original(x.contiguous(), **keywords)
        return result

    opacus.grad_sample.conv.unfold2d = contiguous
    try:
        yield
    finally:
        opacus.grad_sample.conv.unfold2d = original


STEPS: dict[str, Callable[[bool, int, int], Step]] = {
    "reference": reference_step,
    "ours": our_step,
    "opacus": opacus_step,
}


def timed(patients: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median processor seconds by setting and kind; the kinds alternate."""
    found = {}
    for setting, (adapter, draws) in SETTINGS.items():
        steps = {kind: make(adapter, patients, draws) for kind, make in STEPS.items()}
        seconds: dict[str, list[float]] = {kind: [] for kind in steps}
        for repeat in range(repeats + 1):
            for kind, step in steps.items():
                start = time.process_time()
                step()
                if repeat:  # the first warms up
                    seconds[kind].append(time.process_time() - start)
        found[setting] = {kind: median(values) for kind, values in seconds.items()}
        print(setting, {kind: round(value, 3) for kind, value in found[setting].items()}, file=sys.stderr)
    return found


def _status(field: str) -> float:
    """A field of /proc/self/status in MiB."""
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def peak_memory(make: Callable[[], Step]) -> float:
    """MiB that a step needs above what was there before, in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        step = make()
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("5")  # resets the high-water mark
        before = _status("VmRSS")
        step()
        os.write(writing, f"{_status('VmHWM') - before}".encode())
        os._exit(0)
    os.close(writing)
    text = os.read(reading, 100).decode()
    os.close(reading)
    os.waitpid(child, 0)
    return float(text)


def correctness() -> dict[str, float]:
    """Errors of the clipped sum against a float64 loop, and the largest contribution, on 16 x 16 images."""
    patients, draws = 6, 2
    found = {}
    exact = _loop(patients, draws)
    norms = exact.norm(dim=1)
    bound = CLIP * (1 - LOSS_SHARE**2) ** 0.5
    worst = 0.0
    for dtype, name in ((torch.float64, "float64_error"), (torch.float32, "float32_error")):
        model, parameters = build(adapter=False, size=16, dtype=dtype)
        engine = PatientGradients(model, parameters, draws=draws, clip_norm=CLIP, clip_mode="clip", places=patients)
        with engine:
            rows, _ = engine.rows_of(make_batch(patients, draws, 16, dtype), loss_of(model))
            factors = clip_factors(row_norms(rows), bound, "clip", NORM_SLACK[dtype])
            contributions = rows.double() * factors.unsqueeze(1)
        worst = max(worst, float(contributions.norm(dim=1).max()) / bound)
        clipped = ((bound / norms).clamp(max=1).unsqueeze(1) * exact).sum(0)
        found[name] = float((contributions.sum(0) - clipped).norm() / clipped.norm())
    return {**found, "worst_contribution_over_clip": worst}


def _loop(patients: int, draws: int) -> torch.Tensor:
    """Per-patient gradients, float64 [P, D], one autograd pass each."""
    model, parameters = build(adapter=False, size=16, dtype=torch.float64)
    batch, loss = make_batch(patients, draws, 16, torch.float64), loss_of(model)
    rows = []
    for start in range(0, patients * draws, draws):
        value = loss({name: tensor[start : start + draws] for name, tensor in batch.items()}).mean()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(parameters.values()))]))
    return torch.stack(rows)


def noise_speed(count: int = 10_000_000) -> float:
    """Numbers per processor second."""
    start = time.process_time()
    gaussian_integers(count, 2.0**45)
    return count / (time.process_time() - start)


def against_opacus(patients: int, repeats: int) -> dict[str, object]:
    """The four settings; see the module's contract."""
    result: dict[str, object] = {}
    with repaired_opacus():
        memory = {
            setting: {kind: peak_memory(partial(make, adapter, patients, draws)) for kind, make in STEPS.items()}
            for setting, (adapter, draws) in SETTINGS.items()
        }
        seconds = timed(patients, repeats)
    for setting, (adapter, draws) in SETTINGS.items():
        result[f"{setting}_time"] = seconds[setting]["ours"] / seconds[setting]["reference"]
        result[f"{setting}_padding"] = padding(places(build(adapter=adapter)[1], patients, draws), patients)
        result[f"{setting}_memory"] = memory[setting]["ours"] / memory[setting]["reference"]
    result["opacus_speedup"] = min(values["opacus"] / values["ours"] for values in seconds.values())
    result["opacus_memory"] = max(values["ours"] / values["opacus"] for values in memory.values())
    return {
        **result,
        **correctness(),
        "noise_per_cpu_second": noise_speed(),
        "cpu_seconds": seconds,
        "peak_mib": memory,
    }


def of_profile(options: argparse.Namespace) -> dict[str, object]:
    """The product's step; see the module's contract."""
    device = torch.device(options.device)
    on_cpu = device.type == "cpu"
    result: dict[str, object] = {
        "device": device_words(device),
        **{name: getattr(options, name) for name in ("profile", "precision", "draws")},
    }
    works = {
        trained: Work(
            profile_named(options.profile), trained, options.patients, options.draws, device, options.precision
        )
        for trained in options.trained
    }
    # Before anything is computed here: a forked process inherits what this one has freed and not given back.
    memory = {trained: profile_memory(work) for trained, work in works.items()} if on_cpu else {}
    for trained, work in works.items():
        times = compare(work, options.repeats)
        found: dict[str, object] = {**times, "padding": padding(int(times["places"]), options.patients)}
        found["memory"] = memory[trained] if on_cpu else gpu_memory(work)
        result[trained] = found
        print(trained, found, file=sys.stderr, flush=True)
    return result


def profile_memory(work: Work) -> dict[str, float]:
    """MiB of a step of each side on a CPU, and their ratio."""
    plain = peak_memory(lambda: profile_plain_step(work))
    ours = peak_memory(lambda: profile_step(work).__enter__()[0])
    return {"plain": plain, "ours": ours, "ratio": ours / plain}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", choices=tuple(PROFILES), help="the product's step instead")
    parser.add_argument("--device", default="cpu", help="cpu or cuda[:n]; with --profile")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32", help="with --profile")
    parser.add_argument("--draws", type=int, default=4, help="K; with --profile")
    parser.add_argument("--trained", nargs="+", choices=TRAINED, default=TRAINED, help="with --profile")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    result: dict[str, object] = {"patients": options.patients, "repeats": options.repeats}
    result |= of_profile(options) if options.profile else against_opacus(options.patients, options.repeats)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
