"""How much memory a hospital's opened patients take, and how long the vault takes to open.

    python -m benchmarks.vault_memory [--images 10000] [--sizes 64 128] [--json]

A vault is filled with made-up pictures (two of each patient, a mask each; pixels are random bytes, of the larger of the
sizes). Then it is opened on the grid of each size in a fresh process, in two ways: ``block``, as the agent does it
(one byte a pixel for all patients together), after which every patient is looked at once as an audit does; and
``arrays``, float32 and a byte a mask pixel for every patient, kept in a list, as the agent did before. Prints one JSON
object as the last line, with a key for each size:

- ``block_mb``, ``arrays_mb``: growth of the process's resident memory, 10^6 bytes; ``block_peak_mb``: at most, while
  patients are looked at;
- ``block_bytes_an_image``, ``arrays_bytes_an_image``: the same for one image;
- ``open_seconds``: processor time to open the block; ``fill_seconds``: to fill the vault.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.dataset import _opened, grid
from sonoshare_client.vault.store import Vault
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_shared.protocol.documents import Task

TASK = Task(name="diagnosis", question="benign or malignant?", classes=("benign", "malignant"), scanners=())
IMAGES_OF_A_PATIENT = 2
MEGABYTE = 1e6


def fill(folder: Path, images: int, side: int) -> NodeHome:
    """A node whose vault holds made-up pictures."""
    home = NodeHome.create(folder / "node", "north")
    rng = np.random.default_rng(0)
    with Vault(home) as vault, vault.writing() as writer:
        for number in range(images):
            pixels = rng.integers(0, 256, (side, side), np.uint8)
            mask = (pixels > rng.integers(64, 192)).astype(np.uint8)
            label = TASK.classes[number // IMAGES_OF_A_PATIENT % 2]
            writer.add(str(number // IMAGES_OF_A_PATIENT), StoredImage(pixels, mask, None, label, ""))
    return home


def resident() -> float:
    """Resident memory of this process, MB."""
    return float(psutil.Process().memory_info().rss) / MEGABYTE


def opened(home: NodeHome, size: int, way: str) -> dict[str, float]:
    """Open all patients in one of the two ways; what that took."""
    peak = 0.0
    with Vault(home) as vault:
        patients = vault.patients()
        grid(vault, patients[:1], TASK, size)  # code and buffers that are loaded once
        before, start = resident(), time.process_time()
        if way == "arrays":
            kept = [_opened(vault, record, TASK, size) for record in patients]
            images = sum(map(len, kept))
            return {"mb": resident() - before, "images": images}
        found = grid(vault, patients, TASK, size)
        seconds = time.process_time() - start
    for cohort in (found.trained, found.held_out):
        for _ in cohort:
            peak = max(peak, resident() - before)
    images = len(found.trained.images) + len(found.held_out.images)
    return {"mb": resident() - before, "images": images, "peak_mb": peak, "seconds": seconds}


def in_a_process(home: NodeHome, size: int, way: str) -> dict[str, float]:
    """The same, in a process that has opened nothing before."""
    command = [sys.executable, "-m", "benchmarks.vault_memory", "--opened", str(home.path), str(size), way]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def measured(home: NodeHome, size: int) -> dict[str, float]:
    """Figures of one size."""
    block, arrays = (in_a_process(home, size, way) for way in ("block", "arrays"))
    return {
        "block_mb": round(block["mb"], 1),
        "block_peak_mb": round(block["peak_mb"], 1),
        "arrays_mb": round(arrays["mb"], 1),
        "block_bytes_an_image": round(block["mb"] * MEGABYTE / block["images"]),
        "arrays_bytes_an_image": round(arrays["mb"] * MEGABYTE / arrays["images"]),
        "open_seconds": round(block["seconds"], 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--json", action="store_true", help="figures only")
    parser.add_argument("--opened", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.opened:
        home, size, way = options.opened
        print(json.dumps(opened(NodeHome.open(Path(home)), int(size), way)))
        return
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        home = fill(Path(folder), options.images, max(options.sizes))
        result: dict[str, object] = {"images": options.images, "fill_seconds": round(time.process_time() - start, 1)}
        for size in options.sizes:
            result[str(size)] = measured(home, size)
            if not options.json:
                print(f"{size} px: {result[str(size)]}", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
