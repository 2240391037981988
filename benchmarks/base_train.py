"""What `sonoshare base train` costs over a bare loop of the same network, batch and optimiser.

    python -m benchmarks.base_train [--profile small] [--blocks 5] [--steps 8] [--json]

One thread, processor time. Blocks of steps of the command's own loop (`BaseTraining.advance`: batch drawn, augmented,
noised; clipping; weight averaging) alternate with blocks of a bare loop that has its batch ready and does nothing but
forward, backward and optimiser step. Prints one JSON object as the last line of stdout:

- ``steps_over_bare``: median over blocks of bare time over ours (bar 0.9; 1 would be free);
- ``with_checkpoints``: the same when the checkpoint of every minute (held-out loss, two files) is counted in;
- ``bare_over_bare``: the same figure of the bare loop over itself, whose distance from 1 is the machine's noise;
- ``steps_per_second``: ours, and ``checkpoint_seconds``.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from sonoshare_shared.science.model.base_pictures import TrainSettings, training_batch
from sonoshare_shared.science.model.loss import denoising_loss
from sonoshare_shared.science.model.network import ConditionedUNet
from sonoshare_shared.science.model.phantom_cache import simulate_set
from sonoshare_shared.science.model.pretrain import BaseTraining, Progress, adamw
from sonoshare_shared.science.model.profiles import Profile, profile_named

PHANTOMS = 64
CHECKPOINT_EVERY = 60.0  # seconds, as the command does


def cpu_seconds(run: Callable[[], object]) -> float:
    """Processor time of one run."""
    start = time.process_time()
    run()
    return time.process_time() - start


def bare_loop(profile: Profile, run: BaseTraining) -> Callable[[], None]:
    """One step of forward, backward and optimiser on a batch that is ready."""
    model = ConditionedUNet(profile)
    optimiser = adamw(model.parameters(), run.settings.learning_rate)
    batch = training_batch(run.pictures, run.settings, 0)

    def step() -> None:
        loss = denoising_loss(model, batch.images, batch.masks, batch.condition, batch.t, batch.noise).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def checkpoint_seconds(run: BaseTraining) -> float:
    """Processor time of one checkpoint."""
    with tempfile.TemporaryDirectory() as folder:

        def checkpoint() -> None:
            progress = Progress(run.step, 0.0, 0.0, run.validate(), 0.0)
            run.save(Path(folder) / "checkpoint.safetensors")
            run.write_base(Path(folder) / "base.safetensors", progress)

        checkpoint()  # simulates the held-out phantoms, once in a run
        return cpu_seconds(checkpoint)


def measure(profile: Profile, blocks: int, steps: int) -> dict[str, object]:
    """All figures of the benchmark."""
    run = BaseTraining(profile, TrainSettings(), simulate_set(PHANTOMS, seed=0, size=profile.size))
    bare = bare_loop(profile, run)

    def block(step: Callable[[], object]) -> float:
        return cpu_seconds(lambda: [step() for _ in range(steps)]) / steps

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
        "with_checkpoints": ratio * (CHECKPOINT_EVERY - once) / CHECKPOINT_EVERY,
        "bare_over_bare": median(a / b for a, b in zip(before, after, strict=True)),
        "steps_per_second": 1 / step,
        "checkpoint_seconds": once,
        "profile": profile.name,
        "batch": run.settings.batch_size,
        "time_unit": "processor seconds, one thread",
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="small")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="of a block")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measure(profile_named(arguments.profile), arguments.blocks, arguments.steps)))


if __name__ == "__main__":
    main()
