"""What intake costs over a bare decode of the same files, what reading text adds, and whether memory grows.

    python -m benchmarks.intake [--patients 120] [--repeats 3] [--jobs 1] [--json]

Phantom DICOM studies are written once, and told apart by the quick look: those in which no text is suspected, which
intake does not read, and the others. Each repeat decodes every unsuspected file and its mask in this process (pydicom
and Pillow) and resizes both to 256 pixels, nothing kept; then takes the same files into a fresh vault: child process,
limits, crop, checks, sealing, fsync, comparison of patients. At last the suspected files are taken into a vault of
their own. Prints one JSON object as the last line of stdout:

- ``time_over_bare_decode``: wall time of intake over that of the bare decode and resize, median of the repeats, no
  picture read for text; ``cpu_over_bare_decode``: the same in processor time of parent and children, start included;
- ``start_seconds``: wall time of an intake of one picture, most of which is the start of the child;
- ``time_over_bare_decode_after_start``: as the first, less ``start_seconds``: what many pictures come to;
- ``ocr_seconds_per_image``: processor time of a suspected picture, less that of an unsuspected one, both of parent and
  children and less the start of the child, that of the networks not; null where none is suspected;
- ``suspected``: share of the pictures in which the quick look suspects text;
- ``rss_growth_mb``: resident memory of parent and children at its highest after the first fifth of an intake, minus
  what it was then, largest of the repeats.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from numpy.typing import NDArray
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
SIDE_PX = 256


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
    """Decode and resize every picture and mask, and keep nothing."""
    for row in table:
        _resized(dcmread(row.image).pixel_array)
        for path in row.masks:
            with Image.open(path) as mask:
                _resized(np.asarray(mask))


def _resized(pixels: NDArray[np.uint8]) -> None:
    Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class Spent:
    """Seconds on the wall and of processors, of this process and of its children that have ended."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Spent":
        """Until now."""
        times = os.times()
        return cls(time.perf_counter(), times.user + times.system + times.children_user + times.children_system)

    def since(self, before: "Spent") -> "Spent":
        """What came after another moment."""
        return Spent(self.wall - before.wall, self.cpu - before.cpu)


def taken(folder: Path, table: LabelTable, jobs: int, memory: Memory) -> Spent:
    """Take a table into a vault of its own."""
    before = Spent.now()
    report = ingest_table(NodeHome.create(folder, "bench"), table, jobs=jobs, progress=memory.watch)
    if report.accepted + len(report.quarantined) != len(table):  # of those read for text one may be set aside
        raise SystemExit(f"intake told of {report.accepted} of {len(table)} pictures")
    return Spent.now().since(before)


def measure(folder: Path, table: LabelTable, repeats: int, jobs: int) -> dict[str, object]:
    """Run bare decode and intake in turn."""
    likely = [text_is_likely(read_file(row.image).pixels) for row in table]
    plain, suspected = (
        replace(table, rows=tuple(row for row, text in zip(table, likely, strict=True) if text is wanted))
        for wanted in (False, True)
    )
    start = taken(folder / "start", replace(plain, rows=plain.rows[:1]), jobs, Memory())
    bare, spent, growth = [], [], []
    for repeat in range(repeats):
        before = Spent.now()
        bare_decode(plain)
        bare.append(Spent.now().since(before))
        memory = Memory()
        spent.append(taken(folder / f"node-{repeat}", plain, jobs, memory))
        growth.append((memory.highest - memory.settled) / MIB)
        print(f"repeat {repeat + 1}: {spent[-1].wall:.1f} s intake, {bare[-1].wall:.1f} s bare", file=sys.stderr)
    each = (median(one.cpu for one in spent) - start.cpu) / len(plain)
    ocr = None
    if len(suspected):
        ocr = (taken(folder / "suspected", suspected, jobs, Memory()).cpu - start.cpu) / len(suspected) - each
    pairs = list(zip(spent, bare, strict=True))
    return {
        "time_over_bare_decode": round(median(one.wall / less.wall for one, less in pairs), 2),
        "cpu_over_bare_decode": round(median(one.cpu / less.cpu for one, less in pairs), 2),
        "start_seconds": round(start.wall, 2),
        "time_over_bare_decode_after_start": round(
            median((one.wall - start.wall) / less.wall for one, less in pairs), 2
        ),
        "ocr_seconds_per_image": None if ocr is None else round(ocr, 3),
        "suspected": round(len(suspected) / len(table), 2),
        "rss_growth_mb": round(max(growth), 1),
        "images_per_second": round(median(len(plain) / one.wall for one in spent), 1),
        "images": len(plain),
        "repeats": repeats,
        "jobs": jobs,
        "ran": "phantom DICOM, native 8 bit, one PNG mask each; pydicom, Pillow and a resize against ingest_table",
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
