"""What `sonoshare base train` costs over a bare loop of the same network, batch and optimiser, on one device.

    python -m benchmarks.base_train [--profile small] [--device auto] [--precision float32] [--batch-size N]
        [--blocks 5] [--steps 8] [--json]

Blocks of steps of the command's own loop (`BaseTraining.advance`: batch drawn, augmented, noised; clipping; weight
averaging) alternate with blocks of a bare loop that has its batch ready and does nothing but forward, backward and
optimiser step, in the same precision and memory layout. On the CPU one thread and processor time; on a GPU wall time
from and to the moments when it has nothing left to do. Prints one JSON object as the last line of stdout:

- ``steps_over_bare``: median over blocks of bare time over ours (bar 0.9; 1 would be free);
- ``with_checkpoints``: the same when the checkpoint of every minute (held-out loss, parts, base file) is counted in;
- ``bare_over_bare``: the same figure of the bare loop over itself, whose distance from 1 is the machine's noise;
- ``images_per_second``: ours, and ``checkpoint_seconds``; ``device_memory_mib`` of tensors on a GPU.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from benchmarks._parts import peak_device_mib, seconds_of, time_unit
from sonoshare_shared.protocol.documents.plan import Precision
from sonoshare_shared.science.device import CPU, chosen_device, device_words
from sonoshare_shared.science.model.base_batches import TrainingSet, training_batch
from sonoshare_shared.science.model.base_checkpoint import save_checkpoint
from sonoshare_shared.science.model.base_run import BaseTraining, Progress, adamw
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.phantom_cache import simulate_set
from sonoshare_shared.science.model.pretrain import CHECKPOINT_SECONDS
from sonoshare_shared.science.model.profiles import Profile, profile_named
from sonoshare_shared.science.model.recipe import recipe
from sonoshare_shared.science.precision import computing_in, forward_in

PHANTOMS = 64


def bare_loop(profile: Profile, run: BaseTraining) -> Callable[[], None]:
    """One step of forward, backward and optimiser on a batch that is ready."""
    model = ConditionedUNet(profile).to(run.device)
    if run.device != CPU:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = adamw(model.parameters(), run.settings.learning_rate)
    batch = training_batch(run.data, run.settings, 0)

    def step() -> None:
        with forward_in(run.precision, run.device):
            loss = denoising_loss(model, batch.images, batch.masks, batch.condition, batch.t, batch.noise).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def checkpoint_seconds(run: BaseTraining) -> float:
    """Time of one checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def checkpoint() -> None:
            progress = Progress(run.step, 0.0, 0.0, run.validate(), 0.0)
            run.step += 1  # a set of its own
            save_checkpoint(folder / "sets", run.step, run.checkpoint())
            run.write_base(folder / "base.safetensors", progress)

        checkpoint()  # simulates the held-out phantoms, once in a run
        return seconds_of(checkpoint, run.device)


def measure(run: BaseTraining, blocks: int, steps: int) -> dict[str, object]:
    """All figures of the benchmark."""
    bare = bare_loop(run.profile, run)

    def block(step: Callable[[], object]) -> float:
        return seconds_of(lambda: [step() for _ in range(steps)], run.device) / steps

    block(bare)
    block(run.advance)
    before, ours, after = [], [], []
    for _ in range(blocks):
        before.append(block(bare))
        ours.append(block(run.advance))
        after.append(block(bare))
    bares = [(a + b) / 2 for a, b in zip(before, after, strict=True)]
    step, once = median(ours), checkpoint_seconds(run)
    ratio = median(b / o for b, o in zip(bares, ours, strict=True))
    return {
        "steps_over_bare": ratio,
        "with_checkpoints": ratio * (CHECKPOINT_SECONDS - once) / CHECKPOINT_SECONDS,
        "bare_over_bare": median(a / b for a, b in zip(before, after, strict=True)),
        "images_per_second": run.settings.batch_size / step,
        "checkpoint_seconds": once,
        "device_memory_mib": peak_device_mib(run.device),
        "profile": run.profile.name,
        "batch": run.settings.batch_size,
        "device": device_words(run.device),
        "precision": run.precision,
        "time_unit": time_unit(run.device),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="small")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32", choices=("float32", "tf32", "bfloat16"))
    parser.add_argument("--batch-size", type=int, help="default: that of the profile's recipe")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="of a block")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    profile, device = profile_named(arguments.profile), chosen_device(arguments.device)
    precision: Precision = arguments.precision
    settings = recipe(profile.name)
    if arguments.batch_size is not None:
        settings = replace(settings, batch_size=arguments.batch_size)
    with computing_in(precision):
        phantoms = TrainingSet(simulate_set(PHANTOMS, seed=0, size=profile.size))
        run = BaseTraining(profile, settings, phantoms, device=device, precision=precision)
        print(json.dumps(measure(run, arguments.blocks, arguments.steps)))


if __name__ == "__main__":
    main()
