"""How fast the catalogue is: its list against a constant, its files against nginx, ``fetch`` against ``curl``.

    python -m benchmarks.catalogue [--releases 10000] [--mib 256] [--entries 100000] [--hostile 100000]
                                   [--repeats 5] [--only PART] [--json]

All over loopback, side by side in one run, medians of rounds that alternate; ratios are of speed, ours over theirs. The
catalogue and nginx have one worker each (``benchmarks._catalogue_world`` says how they are set up). One JSON object is
the last line:

- ``list_p50_ms``, ``list_p99_ms``: of the API's first page with 100 of so many releases, one request at a time;
  ``list_deep_p50_ms``: of pages further on, each asked for once, so that none is in memory; ``page_p50_ms``,
  ``page_p99_ms``: of the web page ``/``;
- ``list_over_constant``: requests a second of the list, over those of the same application that answers the same bytes
  from memory, four connections; ``list_per_second``, ``constant_per_second``;
- ``throughput_over_nginx``: the smaller of ``one_client_over_nginx`` (a file of so many MiB, four times, over one
  connection of ``curl``) and ``clients_over_nginx`` (32 transfers at once of an eighth of it each): with 256 MiB both
  get 1 GiB; ``mb_per_second``; null, and a line that says so, where there is no nginx;
- ``memory_growth_mb``: of the server's memory while it gives these files out;
- ``proof_p50_ms``, ``proof_p99_ms``: of an inclusion proof over HTTP from a log of ``log_entries`` entries;
  ``proof_first_ms``: of the first one, which reads the log; ``proof_anew_ms``: of opening the log, signing
  its head and hashing every leaf for each proof, without HTTP;
- ``fetch_over_curl``, ``verify_over_sha256sum``: as ``benchmarks.verify_speed`` measures them;
- ``hostile``: so many requests of an enemy, of a seed; ``hostile_statuses``, ``server_errors`` (500 and above),
  ``hostile_growth_mb`` and ``hostile_files_growth``: of memory and open files, from the first fifth to the end;
- ``releases``, ``mib``, ``seconds``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from tests.shared.consortium import RELEASE, Consortium

from benchmarks import verify_speed
from benchmarks._catalogue_hostile import hostile
from benchmarks._catalogue_world import LIST, LOOPBACK, NGINX, Client, Running, catalogue, fill, nginx
from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.release import evidence, layout

CONNECTIONS: Final = 4
CLIENTS: Final = 32
ROUND: Final = 200
"""Requests of one round of one kind."""


def timed(client: Client, path: str, count: int) -> list[float]:
    """Milliseconds of each of so many requests, one after another."""
    took = []
    for _ in range(count):
        start = time.perf_counter()
        client.get(path)
        took.append((time.perf_counter() - start) * 1e3)
    return took


def deep(client: Client) -> list[float]:
    """Milliseconds of the pages of the whole list, each once."""
    took, path = [], LIST
    while True:
        start = time.perf_counter()
        said = json.loads(client.get(path))
        took.append((time.perf_counter() - start) * 1e3)
        if said["next"] is None:
            return took
        path = f"{LIST}?cursor={said['next']}"


def per_second(port: int, path: str, count: int) -> float:
    """Requests a second over some connections."""
    clients = [Client(port) for _ in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        start = time.perf_counter()
        list(pool.map(lambda client: timed(client, path, count // CONNECTIONS), clients))
        took = time.perf_counter() - start
    for client in clients:
        client.close()
    return count / took


def lists(made: Consortium, folder: Path, repeats: int, attacks: int) -> dict[str, Any]:
    """Figures of lists, and of an enemy's requests to the same server."""
    with catalogue(made, folder) as ours:
        client = Client(ours.port)
        pages = deep(client)
        rounds = [(timed(client, LIST, ROUND), timed(client, "/", ROUND // 4)) for _ in range(2 * repeats)]
        api, page = (sorted(ms for one in rounds for ms in one[kind]) for kind in (0, 1))
        rates = [[per_second(ours.port, path, ROUND) for path in (LIST, "/constant")] for _ in range(repeats)]
        client.close()
        attacked = hostile(ours, attacks)
    return {
        "list_p50_ms": median(api),
        "list_p99_ms": quantiles(api, n=100)[98],
        "list_deep_p50_ms": median(pages[1:] or pages),
        "page_p50_ms": median(page),
        "page_p99_ms": quantiles(page, n=100)[98],
        "list_over_constant": median(ours / theirs for ours, theirs in rates),
        "list_per_second": median(rate for rate, _ in rates),
        "constant_per_second": median(rate for _, rate in rates),
        **attacked,
    }


def curl(urls: Iterator[tuple[str, str]], at_once: int) -> float:
    """Seconds in which one ``curl`` gets all of them, so many at once: addresses, each with a range or without."""
    lines = [f'url = "{url}"\noutput = "/dev/null"\n' + (f'range = "{part}"\n' if part else "") for url, part in urls]
    start = time.perf_counter()
    command = ["curl", "-sS", "--fail", "-Z", "--parallel-immediate", "--parallel-max", str(at_once), "-K", "-"]
    subprocess.run(command, input="next\n".join(lines).encode(), check=True)
    return time.perf_counter() - start


def downloads(made: Consortium, folder: Path, repeats: int) -> dict[str, Any]:
    """Figures of one large file, ours against nginx."""
    if NGINX is None:
        print("SKIPPED: no nginx here, so throughput was not compared (apt install nginx)", file=sys.stderr)
        return {"throughput_over_nginx": None}
    size = (made.folder / RELEASE / layout.BALLOT).stat().st_size
    share = size // 8

    def whole(url: str) -> Iterator[tuple[str, str]]:
        for _ in range(4):
            yield url, ""

    def parts(url: str) -> Iterator[tuple[str, str]]:
        for number in range(CLIENTS):
            start = number % 8 * share
            yield url, f"{start}-{start + share - 1}"

    kinds: dict[str, tuple[Callable[[str], Iterator[tuple[str, str]]], int, int]] = {
        "one_client": (whole, 4 * size, 1),
        "clients": (parts, CLIENTS * share, CLIENTS),
    }
    result: dict[str, Any] = {}
    with catalogue(made, folder) as ours, nginx(made.folder / RELEASE, folder) as theirs:
        addresses = (
            f"http://{LOOPBACK}:{ours.port}/api/v1/releases/{RELEASE}/files/{layout.BALLOT}",
            f"http://{LOOPBACK}:{theirs.port}/{layout.BALLOT}",
        )
        for address in addresses:
            curl(whole(address), 1)  # the file is in the page cache from now on
        before, rates = _memory(ours), {}
        for kind, (asked, count, at_once) in kinds.items():
            took = [[count / 1e6 / curl(asked(address), at_once) for address in addresses] for _ in range(repeats)]
            result[f"{kind}_over_nginx"] = median(mine / other for mine, other in took)
            rates[kind] = {"ours": median(mine for mine, _ in took), "nginx": median(other for _, other in took)}
        result["memory_growth_mb"] = _memory(ours) - before
    result["mb_per_second"] = rates
    result["throughput_over_nginx"] = min(result["one_client_over_nginx"], result["clients_over_nginx"])
    return result


def proofs(made: Consortium, folder: Path, entries: int) -> dict[str, Any]:
    """Figures of proofs from a long log, and of the same proof without a tree that is kept."""
    lines = [canonical_bytes({"kind": "note", "number": number, "digest": "0" * 64}) for number in range(entries)]
    with (made.folder / "log.jsonl").open("ab") as file:
        file.writelines(line + b"\n" for line in lines)
    with catalogue(made, folder) as ours:
        client = Client(ours.port)
        took = [timed(client, f"/api/v1/log/proofs/{number * 7919 % entries}", 1)[0] for number in range(ROUND + 1)]
        client.close()
    anew = []
    for number in range(3):
        start = time.perf_counter()
        view = evidence.view(made.log())
        merkle.inclusion_proof([entry.encode() for entry in view.entries], number * 7919 % entries)
        anew.append((time.perf_counter() - start) * 1e3)
    return {
        "log_entries": entries,
        "proof_first_ms": took[0],
        "proof_p50_ms": median(took[1:]),
        "proof_p99_ms": quantiles(took[1:], n=100)[98],
        "proof_anew_ms": median(anew),
    }


def _memory(server: Running) -> float:
    time.sleep(1)
    return server.memory_mb


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=int, default=10_000)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--hostile", type=int, default=100_000)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("lists", "downloads", "proofs", "fetch"), help="one part")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    start = time.monotonic()
    result: dict[str, Any] = {"releases": asked.releases, "mib": asked.mib}
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place, name) for name in ("lists", "downloads", "proofs", "pictures", "large")}
        for folder in folders.values():
            folder.mkdir()
        if asked.only in {None, "lists"}:
            made = Consortium(folders["lists"])
            made.release()
            fill(made, folders["lists"], asked.releases)
            result |= lists(made, folders["lists"], asked.repeats, asked.hostile)
            print(result, file=sys.stderr)
        if asked.only in {None, "downloads"}:
            made = verify_speed.large(folders["downloads"], asked.mib)
            fill(made, folders["downloads"], 1)
            result |= downloads(made, folders["downloads"], asked.repeats)
            print(result, file=sys.stderr)
        if asked.only in {None, "proofs"}:
            made = Consortium(folders["proofs"])
            made.release()
            fill(made, folders["proofs"], 1)
            result |= proofs(made, folders["proofs"], asked.entries)
            print(result, file=sys.stderr)
        if asked.only in {None, "fetch"}:
            figures = [
                verify_speed.measured(verify_speed.pictures(folders["pictures"], 500, 256), folders["pictures"], 3),
                verify_speed.measured(verify_speed.large(folders["large"], 200), folders["large"], 3),
            ]
            result["fetch_over_curl"] = min(f["curl_seconds"] / f["fetch_seconds"] for f in figures)
            result["verify_over_sha256sum"] = min(f["sha256sum_seconds"] / f["verify_seconds"] for f in figures)
    result["seconds"] = time.monotonic() - start
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}))


if __name__ == "__main__":
    main()
