"""Everything that a machine with a GPU is wanted for, in one command: each part in a process and a time of its own.

    python3 -m benchmarks.on_device --out DIR [--work DIR] [--profile medium] [--device auto] [--precision bfloat16]
        [--sections facts,phantoms,train,throughput,sampling,dp_step,sheet] [--limit 300] [--train-seconds 240]
        [--batch-size N] [--phantoms N] [--length N] [--threads N] [--patients N] [--start PARTS]
        [--data DIR[:WEIGHT] ...] [--json]

Needs no installation of this project: run it from the root of a checkout whose other requirements are there. This
module imports the standard library alone, and gives its children the path to the project's rooms.

| section | does |
|---|---|
| ``facts`` | card, memory, versions |
| ``phantoms`` | phantoms a second, where they are simulated |
| ``train`` | `base train` for ``--train-seconds``, going on in ``--work``; then `base export` into ``--out`` |
| ``throughput`` | `benchmarks.base_train`: the loop over a bare one (bar 0.9 on a GPU) |
| ``sampling`` | `benchmarks.sampling`: drawing over the bare network (bar 1.1 from phantoms on a GPU) |
| ``dp_step`` | `benchmarks.dp_step`: private over plain steps |
| ``sheet`` | ``from-noise.png``: pictures that the trained base draws from noise |

``--out`` gets small files only: ``figures.json`` (rewritten after every section), the base as parts of at most 16 MiB
with index and card in ``base-PROFILE/``, and the sheet. ``--work`` gets what is large: phantoms and checkpoints of the
exact state. Prints one JSON object as the last line of stdout, by section: its figures, or ``failed`` and the end of
what it said; exit 1 where a section failed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("shared", "privacy", "client", "server", "deploy")
WHERE = ("profile", "device", "precision")
SAID = 1500  # characters of a failed section's last words
Figures = dict[str, Any]
Options = argparse.Namespace


def ran(command: Sequence[str], limit: float) -> Figures:
    """The JSON object that a Python command prints last; ``failed`` and its last words where it printed none."""
    path = os.pathsep.join([str(ROOT), *(str(ROOT / room) for room in ROOMS), os.environ.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as stopped:
        said = stopped.stderr or b""
        words = said.decode(errors="replace") if isinstance(said, bytes) else said
        return {"failed": f"stopped after {limit:.0f} s", "said": words[-SAID:]}
    if done.returncode == 0 and done.stdout.strip():
        figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
        return figures
    return {"failed": f"exit {done.returncode}", "said": done.stderr[-SAID:]}


def given(options: Options, *names: str) -> list[str]:
    """Options that were given, as words of another command."""
    chosen = [(name, getattr(options, name.replace("-", "_"))) for name in names]
    return [word for name, value in chosen if value is not None for word in (f"--{name}", str(value))]


def base_file(options: Options) -> Path:
    """The base file that is trained."""
    return Path(options.work) / f"base-{options.profile}.safetensors"


def train(options: Options) -> Figures:
    """Train for a while, going on where the work folder stands, and export what there is."""
    base = "-m", "sonoshare_deploy.cli.main", "base"
    data = [word for source in options.data for word in ("--data", source)]
    words = [*given(options, *WHERE, "batch-size", "phantoms", "length", "threads", "start", "work"), *data]
    words += ["--this-time", str(options.train_seconds), "--out", str(base_file(options)), "--json"]
    found = ran([*base, "train", *words], options.limit + options.train_seconds)
    if "failed" in found:
        return found
    parts = Path(options.out) / base_file(options).stem
    shutil.rmtree(parts, ignore_errors=True)
    words = [str(base_file(options)), *given(options, "profile"), "--out", str(parts), "--json"]
    return found | {"exported": ran([*base, "export", *words], options.limit)}


def benchmark(name: str, *words: str, options_of_it: Sequence[str]) -> Callable[[Options], Figures]:
    """A section that is a benchmark of its own."""

    def section(options: Options) -> Figures:
        chosen = given(options, *WHERE, *options_of_it)
        return ran(["-m", f"benchmarks.{name}", *words, *chosen, "--json"], options.limit)

    return section


def part(name: str) -> Callable[[Options], Figures]:
    """A section of `benchmarks._on_device_parts`."""

    def section(options: Options) -> Figures:
        files = ["--base", str(base_file(options)), "--sheet", str(Path(options.out) / "from-noise.png")]
        return ran(["-m", "benchmarks._on_device_parts", name, *given(options, *WHERE), *files], options.limit)

    return section


SECTIONS: dict[str, Callable[[Options], Figures]] = {
    "facts": part("facts"),
    "phantoms": part("phantoms"),
    "train": train,
    "throughput": benchmark("base_train", options_of_it=("batch-size", "blocks")),
    "sampling": benchmark("sampling", "--images", "0", options_of_it=("batch-size", "repeats")),
    "dp_step": benchmark("dp_step", options_of_it=("patients", "repeats")),
    "sheet": part("sheet"),
}


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of small results")
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "on-device", help="folder of large ones")
    parser.add_argument("--profile", default="medium")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "tf32", "bfloat16"))
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--limit", type=float, default=300, help="seconds of a section; training adds its own")
    parser.add_argument("--train-seconds", type=float, default=240)
    parser.add_argument("--batch-size", type=int, help="of training and drawing; default: the recipe's, and 16")
    parser.add_argument("--phantoms", type=int)
    parser.add_argument("--length", type=int, help="steps of the whole run")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="processes that draw phantoms")
    parser.add_argument("--patients", type=int, default=256, help="of a private step")
    parser.add_argument("--blocks", type=int, help="of throughput")
    parser.add_argument("--repeats", type=int, help="of sampling and private steps")
    parser.add_argument("--start", type=Path, help="a base, or its parts, to begin with")
    parser.add_argument("--data", action="append", default=[], help="public pictures, DIR[:WEIGHT]; repeatable")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    options = parser.parse_args()
    if set(options.sections.split(",")) - set(SECTIONS):
        parser.error(f"sections are some of {', '.join(SECTIONS)}")
    # Children run from the project's root.
    options.out, options.work = options.out.absolute(), options.work.absolute()
    return options


def main() -> None:
    """Run the sections, one after another."""
    options = parsed()
    for folder in (options.out, options.work):
        folder.mkdir(parents=True, exist_ok=True)
    if options.device == "auto":  # said by its own name to commands that know no other
        options.device = SECTIONS["facts"](options).get("device_word", options.device)
    found: Figures = {}
    for name in options.sections.split(","):
        start = time.monotonic()
        found[name] = SECTIONS[name](options) | {"wall_seconds": round(time.monotonic() - start, 1)}
        (options.out / "figures.json").write_text(json.dumps(found, indent=1))
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    print(json.dumps(found))
    sys.exit(any("failed" in figures for figures in found.values()))


if __name__ == "__main__":
    main()
