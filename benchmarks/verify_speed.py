"""How fast a researcher's side is: verifying against ``sha256sum``, fetching against ``curl``.

    python -m benchmarks.verify_speed [--images 1000] [--size 256] [--large 200] [--repeats 5] [--json]

Two releases are made: ``pictures``, of so many pictures of so many pixels a side, and ``large``, with one file of so
many MiB (a ballot). Each is verified whole, every rule of it, in this process; ``sha256sum --check`` reads the same
files. Each is fetched from the product's own catalogue in a process of its own over loopback: by ``fetch_release``,
which hashes what comes, without the rules; by the whole command, which verifies after that; and by ``curl``, with as
many connections, which checks nothing. Runs alternate; medians. Ratios are of speed, ours over theirs: above 1 ours is
faster. One JSON object is the last line:

- ``verify_over_sha256sum``: the smaller of both releases'; ``verify_seconds``, ``sha256sum_seconds`` by release;
- ``fetch_over_curl``: the smaller of both; ``fetch_seconds``, ``command_seconds``, ``curl_seconds`` by release;
- ``files``, ``mib`` by release.
"""

import argparse
import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from tests.conformance.make_kit import Calibrated
from tests.server.catalogue_fixture import ACCEPTANCE, Clock
from tests.shared import consortium as simulated
from tests.shared.consortium import NOW, RELEASE, Consortium, make_plan, make_samples

from sonoshare_server.catalogue.app import create_app, serving
from sonoshare_server.catalogue.public_log import OwnLog
from sonoshare_server.catalogue.publishing import publish
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.storage import open_storage
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.plan import CalibrationPlan
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.fetch import CONNECTIONS, fetch_release
from sonoshare_shared.protocol.release.remote import HttpSource, connected
from sonoshare_shared.protocol.release.verify import verify_release

MIB = 1 << 20


def pictures(folder: Path, images: int, size: int) -> Consortium:
    """A consortium with a release of many pictures."""

    class Many(Consortium):
        def candidate(self, release: str = RELEASE, samples: Any = None) -> Any:
            return super().candidate(release, samples or make_samples(images, size=size))

    made = Many(folder, plan=make_plan(images))
    made.release()
    return made


def large(folder: Path, mib: int) -> Consortium:
    """A consortium with a release that has one large file."""
    ballot = np.random.default_rng(0).bytes(mib * MIB)
    calibration = CalibrationPlan(epsilon=0.5, ballot=sha256_hex(ballot), sharpness=0.0)
    made = Calibrated(folder, plan=make_plan().model_copy(update={"calibration": calibration}))
    made.ballot = ballot
    made.release()
    return made


def serve(made: Consortium, folder: Path, ready: Connection) -> None:
    """Body of the catalogue's process."""
    settings = CatalogueSettings(
        database=folder / "catalogue.db",
        roster=made.signed_roster,
        clock=Clock(),
        log=OwnLog(made.folder / "log.jsonl", made.coordinator, Clock()),
        grants_per_minute=1000,
        requests_per_minute=1_000_000_000,  # what is measured is not the limit
    )
    storage = open_storage(settings)
    publish(storage.releases, storage.blobs, made.folder / RELEASE, settings.roster(), now=NOW)
    with serving(create_app(settings, storage)) as address:
        ready.send(address)
        ready.recv()


def timed(action: Callable[[], object]) -> float:
    """Seconds of wall clock."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def verifying(made: Consortium, repeats: int) -> tuple[float, float]:
    """Median seconds of verifying, and of ``sha256sum``."""
    folder, roster = made.folder / RELEASE, made.signed_roster()
    check = ["sha256sum", "--check", "--quiet", layout.SHA256SUMS]
    pairs = [
        (
            timed(lambda: verify_release(folder, roster, now=NOW)),
            timed(lambda: subprocess.run(check, cwd=folder, check=True)),
        )
        for _ in range(repeats)
    ]
    ours, theirs = zip(*pairs, strict=True)
    return statistics.median(ours), statistics.median(theirs)


def fetching(made: Consortium, folder: Path, address: str, token: str, repeats: int) -> tuple[float, float, float]:
    """Median seconds of fetching without the rules, of the whole command, and of ``curl``."""
    root = made.root.public.hex
    command = [sys.executable, "-m", "sonoshare_deploy.cli.main", "fetch", RELEASE, "--server", address, "--root", root]
    with connected(address, token) as client:
        files = HttpSource(client).listing(RELEASE).files
    lines = "".join(f'url = "{address}/api/v1/releases/{RELEASE}/files/{f.path}"\noutput = "{f.path}"\n' for f in files)
    (folder / "curl.txt").write_text(lines)
    curl = ["curl", "-sS", "--no-progress-meter", "--fail", "--create-dirs", "-Z", "--parallel-max", str(CONNECTIONS)]
    curl += ["-H", f"Authorization: Bearer {token}", "-K", str(folder / "curl.txt")]
    took: list[tuple[float, float, float]] = []
    for number in range(repeats):
        outs = [folder / f"{name}{number}" for name in ("fetch", "command", "curl")]
        outs[2].mkdir()
        with connected(address, token) as client:
            source = HttpSource(client)
            ours = timed(lambda: fetch_release(source, RELEASE, outs[0], lambda _: None))  # noqa: B023 - called at once
        whole = timed(
            lambda: subprocess.run(
                [*command, "--token", token, "--out", str(outs[1]), "--quiet"],  # noqa: B023
                check=True,
                capture_output=True,
            )
        )
        theirs = timed(lambda: subprocess.run(curl, cwd=outs[2], check=True))  # noqa: B023
        took.append((ours, whole, theirs))
        for out in outs:
            shutil.rmtree(out)
    ours_all, whole_all, theirs_all = zip(*took, strict=True)
    return statistics.median(ours_all), statistics.median(whole_all), statistics.median(theirs_all)


def measured(made: Consortium, folder: Path, repeats: int) -> dict[str, float]:
    """All figures of one release."""
    verify, check = verifying(made, repeats)
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(made, folder, there))
    server.start()
    try:
        address = here.recv()
        with connected(address) as client:
            token = client.post("/api/v1/agreements", json=ACCEPTANCE).json()["token"]
        fetch, command, curl = fetching(made, folder, address, token, repeats)
        here.send(None)
    finally:
        server.join(10)
        server.kill()
    sizes = [path.stat().st_size for path in (made.folder / RELEASE).rglob("*") if path.is_file()]
    return {
        "verify_seconds": verify,
        "sha256sum_seconds": check,
        "fetch_seconds": fetch,
        "command_seconds": command,
        "curl_seconds": curl,
        "files": len(sizes),
        "mib": sum(sizes) / MIB,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--large", type=int, default=200, help="MiB")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    simulated.SIZE = asked.size
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        makers: dict[str, Callable[[Path], Consortium]] = {
            "pictures": lambda folder: pictures(folder, asked.images, asked.size),
            "large": lambda folder: large(folder, asked.large),
        }
        for name, make in makers.items():
            folder = Path(place, name)
            folder.mkdir()
            figures[name] = measured(make(folder), folder, asked.repeats)
            print(name, figures[name], file=sys.stderr)
    result: dict[str, Any] = {
        "verify_over_sha256sum": min(f["sha256sum_seconds"] / f["verify_seconds"] for f in figures.values()),
        "fetch_over_curl": min(f["curl_seconds"] / f["fetch_seconds"] for f in figures.values()),
        **{field: {name: figures[name][field] for name in figures} for field in figures["large"]},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
