"""What intake costs over a bare decode of the same files, and whether it grows.

    python -m benchmarks.intake [--patients 120] [--repeats 3] [--jobs 1] [--json]

Phantom DICOM studies are written once. Each repeat decodes every file and mask in this process (pydicom and Pillow,
nothing kept), then takes the same files into a fresh vault: child process, limits, crop, checks, sealing, fsync.
Prints one JSON object as the last line of stdout:

- ``time_over_bare_decode``: wall time of intake over that of the bare decode, median of the repeats;
- ``cpu_over_bare_decode``: the same in processor time of parent and children, start of the children included;
- ``rss_growth_mb``: resident memory of parent and children at its highest after the first fifth of an intake, minus
  what it was then, largest of the repeats;
- ``suspected``: share of the pictures in which the quick look suspects text, so that they are read as well; the figures
  above hold the cost (``benchmarks.text`` has it apart).
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from PIL import Image
from pydicom import dcmread

from sonoshare_client.intake.ingest import ingest_table
from sonoshare_client.node.home import NodeHome
from sonoshare_shared.science.label_table import LabelTable
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.phantom.dicom_study import write_studies
from sonoshare_shared.science.pictures.reading import read_file
from sonoshare_shared.science.pictures.text.likely import text_is_likely

MIB = 1 << 20
SEED = 1


@dataclass
class Memory:
    """Resident memory of this process and its children while an intake runs."""

    settled: int = 0
    highest: int = 0
    process: psutil.Process = field(default_factory=psutil.Process)

    def watch(self, done: int, total: int) -> None:
        """Progress of the intake."""
        if done % 10 and done != total:
            return
        children = self.process.children(recursive=True)
        resident = self.process.memory_info().rss + sum(child.memory_info().rss for child in children)
        if done <= total // 5:
            self.settled = self.highest = resident
        self.highest = max(self.highest, resident)


def bare_decode(table: LabelTable) -> None:
    """Decode every picture and mask, and keep nothing."""
    for row in table:
        _ = dcmread(row.image).pixel_array
        for path in row.masks:
            with Image.open(path) as mask:
                _ = np.asarray(mask)


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def measure(folder: Path, table: LabelTable, repeats: int, jobs: int) -> dict[str, object]:
    """Run bare decode and intake in turn."""
    wall, cpu, growth, rates = [], [], [], []
    for repeat in range(repeats):
        moments = [(time.perf_counter(), processor_seconds())]
        bare_decode(table)
        moments.append((time.perf_counter(), processor_seconds()))
        memory = Memory()
        report = ingest_table(
            NodeHome.create(folder / f"node-{repeat}", "bench"), table, jobs=jobs, progress=memory.watch
        )
        moments.append((time.perf_counter(), processor_seconds()))
        if report.accepted != len(table):
            raise SystemExit(f"intake took {report.accepted} of {len(table)} pictures")
        (bare_wall, bare_cpu), (wall_spent, cpu_spent) = (
            (after[0] - before[0], after[1] - before[1]) for before, after in pairwise(moments)
        )
        wall.append(wall_spent / bare_wall)
        cpu.append(cpu_spent / bare_cpu)
        growth.append((memory.highest - memory.settled) / MIB)
        rates.append(len(table) / wall_spent)
        print(f"repeat {repeat + 1}: {wall_spent:.1f} s intake, {bare_wall:.1f} s bare decode", file=sys.stderr)
    return {
        "time_over_bare_decode": round(median(wall), 2),
        "cpu_over_bare_decode": round(median(cpu), 2),
        "rss_growth_mb": round(max(growth), 1),
        "suspected": round(sum(text_is_likely(read_file(row.image).pixels) for row in table) / len(table), 2),
        "images_per_second": round(median(rates), 1),
        "images": len(table),
        "repeats": repeats,
        "jobs": jobs,
        "ran": "phantom DICOM, native 8 bit, one PNG mask each; pydicom pixel_array and Pillow against ingest_table",
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="for uniformity: the last line is always JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        studies = Path(folder) / "studies"
        write_studies(studies, patients=options.patients, seed=SEED)
        print(json.dumps(measure(Path(folder), read_labels(studies), options.repeats, options.jobs)))


if __name__ == "__main__":
    main()
