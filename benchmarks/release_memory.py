"""How much memory and time a release of many pictures takes, from the candidate to a researcher's check of it.

    python -m benchmarks.release_memory [--images 1000 10000 100000] [--size 64] [--json]

For each number of pictures a fresh process writes a candidate from batches of made-up pictures (noise with a square
lesion), makes the release's draft, seals it, publishes it in a catalogue on disk, and verifies it, all by the product's
functions; drawing and audits have benchmarks of their own (``benchmarks.release``, ``benchmarks.audit_scale``). Prints
one JSON object; each of its lists has one entry for each number of pictures:

- ``images``; ``peak_mb``: by step, the most resident memory that the process had had by its end, 10^6 bytes;
  ``base_mb``: before the first step;
- ``cpu_seconds``: by step, processor time; ``bytes_an_image``: growth of the peak over all steps, by picture;
- ``growth_exponent``: of the last two numbers of pictures, log of the ratio of processor seconds over log of the ratio
  of pictures: 1 is linear.
"""

import argparse
import json
import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.server.catalogue_fixture import Clock
from tests.shared.consortium import MODEL, NOW, RELEASE, Consortium, make_plan, make_samples

from sonoshare_server.catalogue.publishing import publish
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import open_storage
from sonoshare_server.release.build import Samples, build_candidate, seal
from sonoshare_shared.protocol.release import evidence
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.statements import sign_manifest
from sonoshare_shared.protocol.release.verify import verify_release

BATCH: Final = 500
KIB: Final = 1024
T = TypeVar("T")


@dataclass
class Large(Consortium):
    """A consortium whose candidate comes in batches.

    Attributes:
        size: side of a picture in pixels.
    """

    size: int = 64

    def batches(self) -> Iterator[Samples]:
        """Every picture, one batch at a time."""
        count = self.plan.release.images
        for start in range(0, count, BATCH):
            yield make_samples(min(BATCH, count - start), start, self.size)

    def candidate(self, release: str = RELEASE, samples: Samples | None = None) -> Candidate:  # noqa: ARG002
        """Write the candidate."""
        return build_candidate(
            self.folder / f"{release}.candidate", self.batches(), release=release, plan=self.plan, model_digest=MODEL
        )


@dataclass
class Steps:
    """What each step took.

    Attributes:
        peak_mb: the most memory by its end.
        cpu_seconds: its processor time.
    """

    peak_mb: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    def take(self, name: str, step: Callable[[], T]) -> T:
        """Run a step."""
        before = time.process_time()
        done = step()
        self.cpu_seconds[name] = round(time.process_time() - before, 2)
        self.peak_mb[name] = peak_mb()
        return done


def peak_mb() -> float:
    """The most resident memory that this process ever had, 10^6 bytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB / 1e6, 1)


def steps(images: int, size: int, folder: Path) -> dict[str, Any]:
    """Make, publish and verify one release in this process."""
    base, took = peak_mb(), Steps()
    made = Large(folder, plan=make_plan(images), size=size)
    manifest = took.take("candidate and draft", lambda: made.draft(vetoed=()))
    made.log_steps(manifest)
    proof = evidence.append_release(made.log(), RELEASE, manifest.digest())
    signatures = {hospital: sign_manifest(manifest, key) for hospital, key in made.keys.items()}
    draft, bundle = folder / f"{RELEASE}.draft", folder / RELEASE
    took.take("seal", lambda: seal(draft, bundle, signatures=signatures, log_proof=proof, roster=made.roster()))
    settings = CatalogueSettings(database=folder / "catalogue.db", roster=made.signed_roster, clock=Clock())
    storage = open_storage(settings)
    took.take("publish", lambda: publish(storage.releases, storage.blobs, bundle, made.signed_roster(), now=NOW))
    storage.close()
    took.take("verify", lambda: verify_release(bundle, made.signed_roster(), now=NOW))
    return {"images": images, "base_mb": base, "peak_mb": took.peak_mb, "cpu_seconds": took.cpu_seconds}


def child(images: int, size: int, said: Connection) -> None:
    """Body of a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        said.send(steps(images, size, Path(folder)))


def measure(images: list[int], size: int) -> dict[str, Any]:
    """Each number of pictures in a process of its own."""
    context = multiprocessing.get_context("spawn")
    rows = []
    for count in images:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(count, size, there))
        begun = time.monotonic()
        process.start()
        there.close()
        rows.append({**here.recv(), "seconds": round(time.monotonic() - begun, 1)})
        process.join()
        rows[-1]["bytes_an_image"] = round((max(rows[-1]["peak_mb"].values()) - rows[-1]["base_mb"]) * 1e6 / count)
    whole = [sum(row["cpu_seconds"].values()) for row in rows]
    exponent = None
    if len(rows) > 1:
        exponent = round(math.log(whole[-1] / whole[-2]) / math.log(images[-1] / images[-2]), 2)
    return {**{name: [row[name] for row in rows] for name in rows[0]}, "growth_exponent": exponent, "size": size}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    asked = parser.parse_args()
    print(json.dumps(measure(asked.images, asked.size)))


if __name__ == "__main__":
    main()
