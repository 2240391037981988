"""Broken files through a hospital's intake: does anything get lost, hang, or take the parent with it?

    python -m benchmarks.intake_fuzz [--mutants 100000] [--batch 500] [--seed 1] [--keep FOLDER] [--json]

Sound files of every form that intake knows (DICOM of fifteen transfer syntaxes and forms, clips, PNG, JPEG, masks, ZIP,
tables of labels) are broken in their bytes, headers, chunks or cells, and taken in as a hospital does it: archives
unpacked, tables read, pictures read in a child with limits, everything sealed in a vault, patients compared. A batch
has one child and a vault of its own; every eighth has no table, so that patients come from headers. Afterwards

- every row stands in the report with a reason, or its patient stands in the vault, and not both;
- the vault holds as many pictures as the report says, each of them opens, and no blob is without a row;
- no file took longer than the limits allow.

Prints one JSON object as the last line of stdout, and exits with 1 where anything of this did not hold:

- ``mutants``, ``archives``, ``tables``: files that were made, and how many of them are archives and tables;
- ``taken``, ``set_aside``: rows that reached the vault, rows with a reason; ``reasons``: how often each;
- ``children_died``, ``timed_out``, ``nonsense``: files that a decoder crashed on, took too long on, or answered
  nonsense on (these have a reason, too);
- ``lost``, ``faults``: rows without a reason or a picture; everything else that was found, in words;
- ``slowest_seconds``: the longest wait for one file, the start of its child included.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from benchmarks._fuzz_mutations import broken, broken_table
from benchmarks._fuzz_seeds import PATIENT, archive, drawn, objects, raster, rasters
from sonoshare_client.intake.archive import unpacked
from sonoshare_client.intake.ingest import ingest, ingest_table
from sonoshare_client.intake.limits import DEFAULT_LIMITS
from sonoshare_client.intake.reasons import SetAside
from sonoshare_client.intake.report import IngestReport
from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.store import Vault
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.keyed_labels import is_keyed, read_keyed
from sonoshare_shared.science.label_table import LabelRow, LabelTable
from sonoshare_shared.science.labels import read_labels

LIMITS: Final = replace(DEFAULT_LIMITS, cpu_seconds=10, wall_seconds=20.0)
LONGEST_WAIT: Final = 2 * LIMITS.wall_seconds + 10
"""Seconds: a file whose decoder crashed is tried once more, by a fresh child."""
WITHOUT_TABLE: Final = 8
SUFFIXES: Final = ("", ".dcm", ".png", ".jpg")
FILES_OF_A_TABLE: Final = ("explicit.dcm", "clip.dcm", "grey.png", "grey.jpg")

Place = tuple[str, int | None]
"""A row in a report: its file, and the line of the table."""


@dataclass
class Findings:
    """What a run has seen."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def as_json(self) -> dict[str, object]:
        """The figures."""
        by_reason = {reason.value: reason.name for reason in SetAside}
        counted = Counter({by_reason.get(reason, reason): count for reason, count in self.reasons.items()})
        return {name: self.counts[name] for name in ("mutants", "archives", "tables", "taken", "set_aside", "lost")} | {
            "children_died": counted[SetAside.CRASHED.name],
            "timed_out": counted[SetAside.TIMED_OUT.name],
            "nonsense": counted[SetAside.BAD_ANSWER.name],
            "faults": self.faults,
            "slowest_seconds": round(self.slowest, 2),
            "reasons": {reason.split(";")[0]: count for reason, count in counted.most_common()},
        }


class Batch:
    """Some broken files in a folder, and what became of them."""

    def __init__(self, folder: Path, seed: int, findings: Findings) -> None:
        self._folder = folder
        self._source = folder / "in"
        self._source.mkdir(parents=True)
        self._rng = random.Random(seed)  # noqa: S311 - the same seed breaks the same files
        self._findings = findings
        self._sound = rasters(seed) | objects(seed, folder)
        self._all = list(self._sound.values())

    def run(self, count: int, *, with_table: bool) -> None:
        """Make the files, take them in, and look."""
        made = [self._make(number, with_table=with_table) for number in range(count)]
        self._findings.counts["mutants"] += count
        home = NodeHome.create(self._folder / "node", "bench")
        if with_table:
            self._with_table([row for rows in made for row in rows], home)
        else:
            self._without_table(home)

    def _make(self, number: int, *, with_table: bool) -> list[LabelRow]:
        chance = self._rng.random()
        if with_table and chance < 0.04:
            return self._rows_of_a_table(number)
        if chance < 0.08:
            return list(self._rows_of_an_archive(number))
        name, data = self._rng.choice(list(self._sound.items()))
        masks: tuple[Path, ...] = ()
        if self._rng.random() < 0.06:
            sound = raster(drawn(number), "PNG")
            masks = (self._source / f"{number:06}-mask.png",)
            masks[0].write_bytes(broken(self._rng, sound, [sound]) if self._rng.random() < 0.8 else sound)
        else:
            data = broken(self._rng, self._renamed(data), self._all)
        suffix = Path(name).suffix if self._rng.random() < 0.95 else self._rng.choice(SUFFIXES)
        path = self._source / f"{number:06}{suffix}"
        path.write_bytes(data)
        return [self._row(path, masks)]

    def _renamed(self, data: bytes) -> bytes:
        """The same with a SOP instance UID and a patient of its own."""
        at = data.find(b"\x02\x00\x03\x00UI")
        if at < 0:
            return data
        uid = data[at + 8 : at + 8 + data[at + 6]].rstrip(b"\0")
        digits = b"%09d" % self._rng.randrange(10**9)
        return data.replace(uid, uid[:-9] + digits).replace(PATIENT.encode(), PATIENT.encode()[:-9] + digits)

    def _row(self, path: Path, masks: tuple[Path, ...] = ()) -> LabelRow:
        frame = self._rng.choice((1, 2, 5, 6, 1 << 31)) if self._rng.random() < 0.05 else None
        return LabelRow(path, f"patient-{path.name}", "benign", masks=masks, frame=frame)

    def _rows_of_an_archive(self, number: int) -> Iterator[LabelRow]:
        self._findings.counts["archives"] += 1
        names = self._rng.sample(list(self._sound), 3)
        path = self._folder / "export.zip"
        sound = archive({name: self._renamed(self._sound[name]) for name in names})
        path.write_bytes(broken(self._rng, sound, [sound]))
        try:
            with unpacked(path, self._folder / "unpacked") as folder:
                for place, found in enumerate(sorted(one for one in folder.rglob("*") if one.is_file())):
                    suffix = found.suffix if found.suffix in SUFFIXES else ""
                    yield self._row(found.rename(self._source / f"{number:06}-{place}{suffix}"))
        except InputError as error:
            self._findings.reasons[_kind(error)] += 1
        except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
            self._fault(path)

    def _rows_of_a_table(self, number: int) -> list[LabelRow]:
        self._findings.counts["tables"] += 1
        for name in FILES_OF_A_TABLE:
            (self._source / name).write_bytes(self._sound[name])
        path = self._source / f"table-{number:06}.csv"
        keyed = self._rng.random() < 0.3
        path.write_bytes(broken_table(self._rng, _KEYED_TABLE if keyed else _TABLE))
        try:
            if is_keyed(path):
                read_keyed(path)
                return []
            return list(read_labels(path, leave_out_absent=True))
        except InputError as error:
            self._findings.reasons[_kind(error)] += 1
        except Exception:  # noqa: BLE001 - as above
            self._fault(path)
        return []

    def _with_table(self, rows: list[LabelRow], home: NodeHome) -> None:
        table = LabelTable(self._source, tuple(rows))
        report = self._taken(home, lambda progress: ingest_table(home, table, limits=LIMITS, progress=progress))
        if report is None:
            return
        left = Counter((row.image.relative_to(self._source).as_posix(), row.line) for row in rows)
        left.subtract((one.source, one.line) for one in report.quarantined)
        with Vault(home) as vault:
            kept = {ref.pseudonym for ref in vault.images()}
            inside = Counter(
                (row.image.relative_to(self._source).as_posix(), row.line)
                for row in rows
                if vault.pseudonym(row.written or row.patient) in kept
            )
        self._account(left, inside)

    def _without_table(self, home: NodeHome) -> None:
        files = [path.name for path in self._source.iterdir()]
        report = self._taken(home, lambda progress: ingest(home, self._source, limits=LIMITS, progress=progress))
        if report is None:
            return
        left: Counter[Place] = Counter((name, None) for name in files)
        left.subtract((one.source, one.line) for one in report.quarantined)
        left.subtract((name, None) for name in report.unlisted)
        taken = sum(1 for count in left.values() if count > 0)
        if taken > report.accepted + report.duplicates:
            self._findings.counts["lost"] += taken - report.accepted - report.duplicates
        self._account(left, Counter(dict.fromkeys(left, 1)))

    def _account(self, left: Counter[Place], inside: Counter[Place]) -> None:
        """Rows without a reason must be in the vault, and none may have more reasons than rows."""
        for place, count in left.items():
            if count < 0:
                self._findings.faults.append(f"{place}: more reasons than rows")
            elif count > inside[place]:
                self._findings.counts["lost"] += count - inside[place]
                self._findings.faults.append(f"{place}: no reason, and not in the vault")
        self._findings.counts["taken"] += sum(max(0, count) for count in left.values())

    def _taken(self, home: NodeHome, run: Callable[[Callable[[int, int], None]], IngestReport]) -> IngestReport | None:
        moments = [time.monotonic()]
        try:
            report = run(lambda _done, _total: moments.append(time.monotonic()))
        except Exception:  # noqa: BLE001 - as above
            self._fault(None)
            return None
        waits = [after - before for before, after in pairwise(moments)]
        self._findings.slowest = max([self._findings.slowest, *waits])
        if max(waits, default=0.0) > LONGEST_WAIT:
            self._findings.faults.append(f"a file took {max(waits):.0f} s")
        self._findings.counts["set_aside"] += len(report.quarantined)
        self._findings.reasons.update(one.reason for one in report.quarantined)
        self._check_vault(home, report)
        return report

    def _check_vault(self, home: NodeHome, report: IngestReport) -> None:
        with Vault(home) as vault:
            images = vault.images()
            blobs = {path.name for path in (home.vault_path / "blobs").iterdir()}
            if len(images) != report.accepted or blobs != {ref.blob for ref in images}:
                self._findings.faults.append(
                    f"{report.accepted} pictures were taken, {len(images)} have a row, {len(blobs)} a blob"
                )
            for ref in images:
                vault.load(ref)

    def _fault(self, path: Path | None) -> None:
        where = "" if path is None else f"{path.name}: "
        print(f"{where}{traceback.format_exc()}", file=sys.stderr, flush=True)
        self._findings.faults.append(f"{where}{traceback.format_exc(limit=-1).splitlines()[-1]}")
        if path is not None:
            shutil.copy(path, self._folder / f"fault-{len(self._findings.faults)}-{path.name}")


def _kind(error: InputError) -> str:
    """A refusal without what stands in it."""
    return f"refused whole ({type(error).__name__})"


_COLUMNS: Final = "image,patient,label,device,mask,box,frame,region,hospital"
_TABLE: Final = "\n".join(
    (_COLUMNS, *(f'{name},0{place}-x,benign,,,,,"0,0,90,90",a' for place, name in enumerate(FILES_OF_A_TABLE)), "")
).encode()
_KEYED_TABLE: Final = b'accession,sop,patient,label,box\nA1,,p1,benign,\n,1.2.3,p2,malignant,"1,2,30,40"\n'


def fuzz(work: Path, mutants: int, batch: int, seed: int, keep: Path | None = None) -> Findings:
    """Run some batches.

    Args:
        work: a folder for files and vaults; each batch removes its own.
        mutants: files in all.
        batch: files of one batch.
        seed: decides what is broken, and how.
        keep: where the folders of batches with a fault, a crash or a timeout are put.
    """
    findings, done = Findings(), 0
    for number in range(-(-mutants // batch)):
        before = len(findings.faults) + _hard(findings)
        folder = work / f"batch-{number:05}"
        count = min(batch, mutants - done)
        Batch(folder, seed * 100_000 + number, findings).run(count, with_table=number % WITHOUT_TABLE != 1)
        done += count
        if keep is not None and len(findings.faults) + _hard(findings) > before:
            shutil.copytree(folder, keep / folder.name, dirs_exist_ok=True)
        shutil.rmtree(folder)
        print(f"{done} of {mutants}: {_line(findings)}", file=sys.stderr, flush=True)
    return findings


def _hard(findings: Findings) -> int:
    hard: Iterable[SetAside] = (SetAside.CRASHED, SetAside.TIMED_OUT, SetAside.BAD_ANSWER)
    return sum(findings.reasons[reason.value] for reason in hard)


def _line(findings: Findings) -> str:
    figures = findings.as_json()
    return ", ".join(f"{name} {figures[name]}" for name in ("taken", "children_died", "timed_out", "lost")) + (
        f", faults {len(findings.faults)}"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", action="store_true", help="for uniformity: the last line is always JSON")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        findings = fuzz(Path(work), options.mutants, options.batch, options.seed, options.keep)
    spent = time.monotonic() - start
    figures = findings.as_json() | {"seconds": round(spent), "per_second": round(options.mutants / spent, 1)}
    print(json.dumps(figures))
    if findings.faults or findings.counts["lost"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
