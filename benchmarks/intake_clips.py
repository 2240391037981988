"""What taking in clips costs, and whether memory grows with their size.

    python -m benchmarks.intake_clips [--gigabytes 10] [--clip-gigabytes 2] [--compressed 40] [--json]

Clips are made of phantom pictures whose rows move, and written in full: uncompressed ones until they have the size
asked for, and JPEG ones of 200 frames. All are taken in by one child, four frames each; then everything is deleted.
Prints one JSON object as the last line of stdout:

- ``gigabytes``: size of the folder;
- ``peak_rss_mb``: resident memory of parent and child at its highest until the last clip is taken in (the comparison
  for twins that follows is another thing), looked at every 20 ms;
- ``rss_growth_mb``: that peak minus the peak after the first fifth of the clips;
- ``read_mb``: what the child was given by the file system's read calls, all clips together;
- ``frames_per_second``: pictures that came into the vault, over the wall time of the intake;
- ``seconds_per_large_clip``, ``seconds_per_compressed_clip``: wall time of each.
"""

import argparse
import io
import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, UltrasoundMultiFrameImageStorage, generate_uid

from sonoshare_client.intake.ingest import ingest_table
from sonoshare_client.node.home import NodeHome
from sonoshare_shared.science.label_table import LabelRow, LabelTable
from sonoshare_shared.science.phantom.dicom_study import write_studies

MIB: Final = 1 << 20
GIB: Final = 1 << 30
SEED: Final = 1
COMPRESSED_FRAMES: Final = 200
DISTINCT_FRAMES: Final = 64
PERIOD_SECONDS: Final = 0.02
SPARE: Final = 2 * GIB


class Watch:
    """Resident memory and bytes read, of this process and its children, looked at again and again."""

    def __init__(self) -> None:
        self.peak = self.read = 0
        self._own = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(PERIOD_SECONDS):
            resident, read = self._own.memory_info().rss, 0
            for child in self._own.children(recursive=True):
                try:
                    resident += child.memory_info().rss
                    read += child.io_counters().read_chars
                except psutil.NoSuchProcess:
                    continue
            self.peak, self.read = max(self.peak, resident), max(self.read, read)


def as_clip(still: FileDataset, frames: int) -> FileDataset:
    """The header of a clip, from that of a still."""
    still.SOPClassUID = still.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    still.SOPInstanceUID = still.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    still.NumberOfFrames = frames
    return still


def moved(dataset: FileDataset, step: int) -> NDArray[Any]:
    """The still with the rows of its ultrasound region moved, and the screen around it as it was."""
    region = dataset.SequenceOfUltrasoundRegions[0]
    window = np.s_[
        region.RegionLocationMinY0 : region.RegionLocationMaxY1 + 1,
        region.RegionLocationMinX0 : region.RegionLocationMaxX1 + 1,
    ]
    picture = dataset.pixel_array.copy()
    picture[window] = np.roll(picture[window], step, axis=0)
    return picture


def write_large(still: Path, path: Path, size: int) -> int:
    """An uncompressed clip of about this size; returns its frames."""
    dataset = dcmread(still)
    picture = dataset.pixel_array
    block = b"".join(moved(dataset, step).tobytes() for step in range(DISTINCT_FRAMES))
    frames = max(1, size // len(block)) * DISTINCT_FRAMES
    as_clip(dataset, frames).PixelData = picture.tobytes()
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
    length = frames * picture.nbytes
    with path.open("r+b") as file:
        file.seek(-picture.nbytes - 4, 2)
        file.write(length.to_bytes(4, "little"))
        for _ in range(frames // DISTINCT_FRAMES):
            file.write(block)
    return frames


def write_compressed(still: Path, path: Path) -> None:
    """A JPEG clip."""
    dataset = dcmread(still)
    dataset.PixelData = encapsulate([_jpeg(moved(dataset, step)) for step in range(COMPRESSED_FRAMES)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    as_clip(dataset, COMPRESSED_FRAMES).save_as(path, enforce_file_format=True)


def _jpeg(picture: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_clips(folder: Path, size: int, clip_size: int, compressed: int) -> LabelTable:
    """All clips, the large ones first; every one of a patient of its own."""
    studies = folder / "studies"
    large = max(1, size // clip_size)
    write_studies(studies, patients=max(8, min(large + compressed, 64)), seed=SEED)
    stills = sorted(studies.rglob("*.dcm"))
    clips = folder / "clips"
    clips.mkdir()
    rows = []
    for number in range(large + compressed):
        path = clips / f"{number:04}.dcm"
        still = stills[number % len(stills)]
        if number < large:
            write_large(still, path, clip_size)
        else:
            write_compressed(still, path)
        rows.append(LabelRow(path, f"patient-{number}", "benign"))
    return LabelTable(clips, tuple(rows))


def measure(folder: Path, size: int, clip_size: int, compressed: int) -> dict[str, object]:
    """Write, take in, and look at it meanwhile."""
    if shutil.disk_usage(folder).free < size + SPARE:
        raise SystemExit("not enough room on the disk: give fewer --gigabytes")
    table = write_clips(folder, size, clip_size, compressed)
    total = sum(row.image.stat().st_size for row in table)
    print(f"{len(table)} clips of {total / GIB:.1f} GiB are written", file=sys.stderr)
    moments, peaks = [time.perf_counter()], [0]
    with Watch() as watch:

        def progress(_done: int, _total: int) -> None:
            moments.append(time.perf_counter())
            peaks.append(watch.peak)

        report = ingest_table(NodeHome.create(folder / "node", "bench"), table, progress=progress)
    spans = np.diff(moments)
    large = len(table) - compressed
    return {
        "gigabytes": round(total / GIB, 2),
        "clips": len(table),
        "pictures": report.accepted,
        "set_aside": len(report.quarantined),
        "peak_rss_mb": round(peaks[-1] / MIB),
        "rss_growth_mb": round((peaks[-1] - peaks[len(table) // 5]) / MIB, 1),
        "read_mb": round(watch.read / MIB),
        "frames_per_second": round(report.accepted / (moments[-1] - moments[0]), 1),
        "seconds_per_large_clip": round(float(median(spans[1:large])), 2) if large > 1 else None,
        "seconds_per_compressed_clip": round(float(median(spans[large:])), 2) if compressed else None,
        "ran": "phantom clips, native 8 bit and JPEG, one child, ingest_table",
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--clip-gigabytes", type=float, default=2)
    parser.add_argument("--compressed", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="for uniformity: the last line is always JSON")
    options = parser.parse_args()
    sizes = int(options.gigabytes * GIB), int(options.clip_gigabytes * GIB)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), *sizes, options.compressed)))


if __name__ == "__main__":
    main()
