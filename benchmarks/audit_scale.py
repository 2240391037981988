"""What the audit costs, and how it grows: exact search over features, a whole audit, twins, a large release.

    python -m benchmarks.audit_scale [--json] [--busbra FOLDER] [--candidates 100000] [--patients 1000] [--part NAME]

One thread, processor seconds, medians of three runs taken in turns; about twelve minutes,
most of them the large release (``--candidates 20000`` takes two). Pictures are BUS-BRA's where it is found, else
phantoms. ``--part`` (several times) runs only that part: search, whole, twins, recall, large. One JSON object as the
last line:

- ``search``: nearest of 100,000 members for each of 10,000 queries of 256 numbers. ``search_over_faiss`` against
  IndexFlatIP, k = 1, index built anew (null where faiss is not installed; it is no dependency);
  ``search_over_product`` against the bare matrix product in the same blocks; ``extra_mib``, peak of resident memory
  over that with the vectors alone; ``planted_found``.
- ``whole``: 1000 synthetic images against 1000 patients of one image. ``audit_over_bare``: the whole ``audit_release``
  over features of all images and the matrix product of their windows; ``first_over_bare``: the same where the public
  reference set is read anew (a process reads it once).
- ``twins``: pairs of BUS-BRA's patients that intake would report, and its seconds.
- ``recall``: planted copies of real images found over all pairs and in two stages, by number of looks, among one full
  shard of unrelated candidates, at the threshold calibrated from phantoms; ``lost`` is the difference, of all copies.
- ``large``: an audit of ``--candidates`` synthetic images, 100 of them planted copies, against ``--patients`` patients
  with all their images: seconds, peak memory, planted patients found, others flagged, how they
  fall into the bins of the private histogram, declared recall.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks._parts import print_figures
from sonoshare_client.audit.auditor import Audited, audit_release
from sonoshare_client.audit.payment import NoLedger
from sonoshare_privacy.audits import copies, nearest
from sonoshare_privacy.audits.correlation import IMAGES_PER_BLOCK, candidate_windows, posed_windows
from sonoshare_privacy.audits.edits import EDITS
from sonoshare_privacy.audits.gate import Cohort
from sonoshare_privacy.audits.nearest import BytePictures
from sonoshare_privacy.audits.reference import reference_images
from sonoshare_privacy.audits.search import best_matches, products
from sonoshare_privacy.audits.twins import find_twins
from sonoshare_shared.protocol.documents import AuditPlan
from sonoshare_shared.science.imaging import to_grid
from sonoshare_shared.science.labels import read_labels
from sonoshare_shared.science.levels import eight_bits
from sonoshare_shared.science.phantom import simulate
from sonoshare_shared.science.pictures.reading import read_file

BUSBRA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "busbra"
MEMBERS, QUERIES, NUMBERS, REPEATS = 100_000, 10_000, 256, 3
SIZE, PLANTED, SOURCES = 64, 100, 64
PLAN = AuditPlan(
    held_out_fraction=0.3, epsilon_copies=0.5, epsilon_membership=0.5, tolerated_share=0.1, tolerated_auc=0.7
)
Images = NDArray[np.float32]


@dataclass(frozen=True)
class Person:
    """A patient as the auditor sees one."""

    images: Images


def load_patients(folder: Path) -> list[Images]:
    """Images of each patient at 64 px, in a fixed order drawn at random; phantoms where BUS-BRA is absent."""
    if not (folder / "bus_data.csv").is_file():
        images = simulate(400, seed=3, size=SIZE).images
        return [images[i : i + 2] for i in range(0, 400, 2)]
    groups: dict[str, list[Images]] = {}
    for row in read_labels(folder):
        groups.setdefault(row.patient, []).append(to_grid(read_file(row.image).pixels, SIZE))
    patients = [np.stack(images) for images in groups.values()]
    return [patients[i] for i in np.random.default_rng(0).permutation(len(patients))]


def in_turns(**parts: Callable[[], object]) -> dict[str, float]:
    """Median processor seconds of each part, run in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(REPEATS):
        for name, part in parts.items():
            start = time.process_time()
            part()
            seconds[name].append(time.process_time() - start)
    return {name: median(values) for name, values in seconds.items()}


def peak_mib(part: Callable[[], object]) -> float:
    """Peak of resident memory while a part runs, over what was resident before (Linux; elsewhere NaN)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        part()
        return float("nan")
    before = psutil.Process().memory_info().rss
    part()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return float(round((1024 * peak - before) / 2**20, 1))


def measure_search() -> dict[str, Any]:
    """Exact search over plain features, against faiss and against the bare product."""
    rng = np.random.default_rng(0)
    members = rng.standard_normal((MEMBERS, NUMBERS), dtype=np.float32)
    members /= np.linalg.norm(members, axis=1, keepdims=True)
    owners = rng.choice(MEMBERS, QUERIES, replace=False)
    queries = members[owners] + 0.05 * rng.standard_normal((QUERIES, NUMBERS), dtype=np.float32)
    left, right = torch.from_numpy(members), torch.from_numpy(queries)[:, None]
    extra = peak_mib(lambda: best_matches(left, right))
    found = best_matches(left, right).places[:, 0].numpy()
    parts: dict[str, Callable[[], object]] = {
        "search": lambda: best_matches(left, right),
        "product": lambda: _bare_product(queries, members),
    }
    flat = _faiss_search(queries, members)
    if flat is not None:
        parts["faiss"] = flat
    seconds = in_turns(**parts)
    faiss_seconds = seconds.get("faiss")
    return {
        "search": {
            "cpu_seconds": {name: round(value, 2) for name, value in seconds.items()},
            "search_over_faiss": None if faiss_seconds is None else round(seconds["search"] / faiss_seconds, 3),
            "search_over_product": round(seconds["search"] / seconds["product"], 3),
            "extra_mib": extra,
            "planted_found": float((found == owners).mean()),
        }
    }


def _bare_product(queries: Images, members: Images) -> None:
    buffer = np.empty((2048, 1024), np.float32)
    for start in range(0, len(queries), 2048):
        rows = queries[start : start + 2048]
        for first in range(0, len(members), 1024):
            part = members[first : first + 1024]
            np.matmul(rows, part.T, out=buffer.ravel()[: len(rows) * len(part)].reshape(len(rows), len(part)))


def _faiss_search(queries: Images, members: Images) -> Callable[[], object] | None:
    try:
        import faiss  # type: ignore[import-not-found]  # noqa: PLC0415 - no dependency; measured where it is installed
    except ImportError:
        print("faiss is not installed: search_over_faiss is null (pip install faiss-cpu)", file=sys.stderr)
        return None
    faiss.omp_set_num_threads(1)

    def search() -> object:
        index = faiss.IndexFlatIP(NUMBERS)
        index.add(members)
        return index.search(queries, 1)

    return search


def measure_whole(patients: Sequence[Images]) -> dict[str, Any]:
    """A whole audit, 1000 against 1000, over features and the bare product."""
    images = np.concatenate(patients)
    own, synthetic = np.resize(images, (1000, SIZE, SIZE)), np.resize(images[::-1], (1000, SIZE, SIZE))
    people = [Person(image[None]) for image in own]

    def audit() -> object:
        return audit_release(
            synthetic,
            lambda: Audited(people[:700], people[700:]),
            size=SIZE,
            plan=PLAN,
            cohort=Cohort(700, 300),
            payment=NoLedger(),
        )

    def first() -> object:
        reference_images.cache_clear()
        return audit()

    def bare() -> None:
        windows = candidate_windows(synthetic)
        for start in range(0, len(own), IMAGES_PER_BLOCK):
            for posed in posed_windows(own[start : start + IMAGES_PER_BLOCK]):
                products(posed, windows)

    seconds = in_turns(first=first, audit=audit, bare=bare)
    return {
        "whole": {
            "cpu_seconds": {name: round(value, 2) for name, value in seconds.items()},
            "audit_over_bare": round(seconds["audit"] / seconds["bare"], 3),
            "first_over_bare": round(seconds["first"] / seconds["bare"], 3),
        }
    }


def measure_twins(folder: Path) -> dict[str, Any]:
    """Pairs of patients of BUS-BRA that intake reports, and what finding them costs."""
    if not (folder / "bus_data.csv").is_file():
        return {"twins": None}
    rows = list(read_labels(folder))
    images = np.stack([to_grid(read_file(row.image).pixels, SIZE) for row in rows])
    _, owners = np.unique([row.patient for row in rows], return_inverse=True)
    start = time.process_time()
    found = find_twins(images, owners, np.ones(len(images), np.bool_)).twins
    seconds = time.process_time() - start
    pairs = [{"images": [rows[i].image.name for i in (p.first, p.second)], "score": round(p.score, 3)} for p in found]
    return {"twins": {"images": len(images), "cpu_seconds": round(seconds, 2), "pairs": pairs}}


def unrelated(images: Images, count: int, seed: int) -> BytePictures:
    """Many pictures from few: blends of two, mirrored, cropped and re-toned at random; no copy of anybody else."""
    rng = np.random.default_rng(seed)
    pixels = np.empty((count, SIZE, SIZE), np.uint8)
    for place in range(count):
        one, other = images[rng.integers(len(images), size=2)]
        weight, crop = rng.uniform(0.35, 0.65), int(rng.integers(0, 9))
        mixed = weight * one[:, :: rng.choice([1, -1])] + (1 - weight) * np.roll(other, rng.integers(SIZE), axis=1)
        top, left = rng.integers(0, crop + 1, size=2)
        part = mixed[top : top + SIZE - crop, left : left + SIZE - crop] ** rng.uniform(0.6, 1.6)
        pixels[place] = eight_bits(to_grid(eight_bits(part), SIZE))
    return BytePictures(pixels)


def measure_recall(patients: Sequence[Images]) -> dict[str, Any]:
    """Copies of real images found over all pairs and in two stages, in a full shard of unrelated candidates."""
    half = len(patients) // 2
    mine, others = np.concatenate(patients[:half]), np.concatenate(patients[half:])
    candidates = unrelated(others, nearest.SHARD, seed=5)
    rng = np.random.default_rng(6)
    sources = mine[rng.choice(len(mine), SOURCES, replace=False)]
    blended = others[rng.integers(len(others), size=SOURCES)]
    reference = reference_images(SIZE)
    threshold = copies.calibrate(candidates, reference).threshold
    fine, coarse = copies.planted_scores(sources, blended, rng)
    found = fine >= threshold
    every = found.mean(axis=1)
    by_looks = {}
    for looks in (16, 32, 64, nearest.LOOKS, 256):
        limits = nearest.first_pass_limits(candidates, sources, looks)
        two = (found & (coarse > limits)).mean(axis=1)
        by_looks[looks] = {
            "recall": round(float(two.mean()), 4),
            "lost": round(float((every - two).mean()), 4),
            "most_lost": max(zip((every - two).round(3).tolist(), (edit.name for edit in EDITS), strict=True)),
        }
    declared = copies.calibrate(candidates, reference, looks=nearest.LOOKS)
    return {
        "recall": {
            "candidates": len(candidates),
            "copies": found.size,
            "threshold": round(threshold, 3),
            "every_pair": round(float(every.mean()), 4),
            "by_looks": by_looks,
            "from_phantoms": round(float(np.mean(list(declared.recall.values()))), 4),
        }
    }


def measure_large(patients: Sequence[Images], candidates: int, most: int) -> dict[str, Any]:
    """The audit of a large release, as a hospital runs it."""
    count = min(most, len(patients) - 60)
    ours, others = patients[:count], np.concatenate(patients[count:])
    pictures = unrelated(others, candidates, seed=7)
    rng, kinds = np.random.default_rng(8), [edit for edit in EDITS if not edit.blind_spot]
    copied = rng.choice(count, min(PLANTED, count // 2), replace=False)
    for at, place in enumerate(rng.choice(candidates, len(copied), replace=False)):
        copy = kinds[at % len(kinds)].apply(ours[copied[at]][0], others[at % len(others)], rng)
        pictures.pixels[place] = eight_bits(copy)
    looks = nearest.looks_for(candidates, count)
    reference, result = reference_images(SIZE), list[tuple[copies.CopyDetector, NDArray[np.float64]]]()

    def audit() -> None:
        detector = copies.calibrate(pictures, reference, looks=looks)
        result.append((detector, copies.patient_nearest(pictures, ours, looks=looks).scores))

    start = time.process_time()
    extra = peak_mib(audit)
    seconds = time.process_time() - start
    ((detector, scores),) = result
    flagged = scores >= detector.threshold
    return {
        "large": {
            "candidates": candidates,
            "patients": count,
            "images": sum(len(one) for one in ours),
            "looks": looks,
            "cpu_seconds": round(seconds, 1),
            "extra_mib": extra,
            "planted": len(copied),
            "planted_found": float(flagged[copied].mean()),
            "others_flagged": int(np.delete(flagged, copied).sum()),
            "others_by_bin": detector.bins.counts(np.delete(scores, copied)),
            "threshold": round(detector.threshold, 3),
            "declared_recall": round(detector.rates.recall, 4),
        }
    }


def main() -> None:
    """Run the parts and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="only the JSON line")
    parser.add_argument("--busbra", type=Path, default=BUSBRA)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--part", action="append", help="run only this part")
    options = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's own
    patients = load_patients(options.busbra)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "search": measure_search,
        "whole": lambda: measure_whole(patients),
        "twins": lambda: measure_twins(options.busbra),
        "recall": lambda: measure_recall(patients),
        "large": lambda: measure_large(patients, options.candidates, options.patients),
    }
    wanted = {name: part for name, part in parts.items() if not options.part or name in options.part}
    print_figures(wanted, {"patients": "BUS-BRA" if len(patients) > 200 else "phantoms"}, quiet=options.json)


if __name__ == "__main__":
    main()
