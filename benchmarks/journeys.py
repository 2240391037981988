"""What people do with a consortium, played from empty folders with real processes and the command line as typed.

    python -m benchmarks.journeys [--only NAME ...] [--work DIR] [--json]

SuperLink, ServerApps, SuperNodes, couriers, agents, and every command that a coordinator or a hospital would type, on
the smallest profile. A journey that is not as it must be ends the command with what was seen, and status 1; so does a
process that is left. Prints one JSON object: for each journey its ``seconds``, how many ``commands`` were typed, and
what was seen. ``docs/measurements/federation.md`` has the table.

| journey | is |
|---|---|
| ``air-gap`` | a study with votes, and a masked one, one hospital by files, rounds to release |
| ``approval`` | a person approves and refuses; the reason arrives; a changed plan waits again |
| ``stops`` | a stop, a pause and four signals, in rounds and in audits; then retire and cancel |
| ``members`` | a hospital is admitted while a study runs, one that took part is expelled, and comes back |
| ``withdrawal`` | a hospital takes its approval back in a round; a release is revoked while another study trains |
| ``hung`` | an agent hangs for longer than the deadline, and goes on |
| ``restarts`` | agent and courier are stopped, killed and started again alone |
| ``late-agent`` | a courier without its agent at first; ``peers = 0`` by files without any agent |
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks._live_files import air_gap, late_agent
from benchmarks._live_people import approval, members, withdrawal
from benchmarks._live_stops import HOSPITALS, hung, restarts, stops
from benchmarks._live_world import JourneyError, Live

JOURNEYS: Final[dict[str, Callable[[Live], dict[str, Any]]]] = {
    "air-gap": air_gap,
    "approval": approval,
    "stops": stops,
    "members": members,
    "withdrawal": withdrawal,
    "hung": hung,
    "restarts": restarts,
    "late-agent": late_agent,
}


def played(name: str, untouched: Path, folder: Path) -> dict[str, Any]:
    """Play one journey in a copy of the enrolled consortium; whatever it leaves is ended.

    Raises:
        JourneyError: it is not as it must be, or a process was left.
    """
    shutil.copytree(untouched, folder)
    world, begun = Live(folder, HOSPITALS), time.monotonic()
    try:
        seen = JOURNEYS[name](world)
        world.require_nothing_left()
    finally:
        for process in world.processes():
            with suppress(psutil.Error):
                print(f"left: {process.pid} {' '.join(process.cmdline())[:160]}", file=sys.stderr)
                process.kill()
    return {"seconds": round(time.monotonic() - begun, 1), "commands": world.typed, **seen}


def journeys(folder: Path, names: list[str]) -> dict[str, Any]:
    """Make the consortium once, and play journeys in copies of it."""
    untouched = folder / "untouched"
    if not untouched.exists():
        Live.built(untouched, HOSPITALS)
    result = dict[str, Any]()
    for name in names:
        result[name] = played(name, untouched, folder / name)
        print(f"{name}: {json.dumps(result[name])}", file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=sorted(JOURNEYS), nargs="+", help="these journeys; all if absent")
    parser.add_argument("--work", type=Path, help="folder to keep; a temporary one if absent")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            result = journeys(asked.work or Path(temporary), asked.only or list(JOURNEYS))
        except JourneyError as error:
            sys.exit(f"not as it must be: {error}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
