"""Every real ultrasound object that test sets carry, through a hospital's intake: taken in, or why not.

    python -m benchmarks.intake_objects [--folder DIR ...] [--markdown | --json]

Objects of an ultrasound SOP class or of modality US in pydicom, pydicom-data and the folders named (a copy of dcmtk's
or Orthanc's test data; their Debian packages carry no ultrasound). Each is a picture of a patient of its own; it goes
through the same child processes as any other, and is looked through for text. What is set aside for colour is tried
again in a node whose policy permits it. The table of docs/measurements/intake.md
is what ``--markdown`` prints.
"""

import argparse
import importlib.resources
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from sonoshare_client.intake.ingest import ingest_table
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import IntakeRules, Policy
from sonoshare_shared.science.label_table import LabelRow, LabelTable

MEDIA = "1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class Outcome:
    """What became of one object.

    Attributes:
        name: of its file.
        kind: SOP class.
        syntax: transfer syntax.
        description: photometric interpretation, frames, rows and columns.
        taken: whether the vault has it.
        with_colour: whether it has it where ``intake.colour`` is set.
        reason: why not; empty where it has.
    """

    name: str
    kind: str
    syntax: str
    description: str
    taken: bool
    with_colour: bool
    reason: str


def folders(further: Iterable[Path]) -> list[Path]:
    """Where objects lie."""
    packaged = [Path(str(importlib.resources.files("pydicom"))), Path(str(importlib.resources.files("data_store")))]
    return [*packaged, *further]


def objects(roots: Iterable[Path]) -> Iterator[tuple[Path, Outcome]]:
    """Ultrasound objects below folders, each name once, with what their headers say."""
    seen: set[str] = set()
    for path in sorted(path for root in roots for path in root.rglob("*") if path.is_file()):
        try:
            header = dcmread(path, stop_before_pixels=True)
            kind = header.get("SOPClassUID")
            ultrasound = header.get("Modality") == "US" or "ltrasound" in getattr(kind, "name", "")
        except (InvalidDicomError, OSError, ValueError, KeyError, AttributeError, NotImplementedError, EOFError):
            continue
        if not ultrasound or path.name in seen or kind == MEDIA:
            continue
        seen.add(path.name)
        size = f"{header.get('Rows')} x {header.get('Columns')}, frames: {header.get('NumberOfFrames') or 1}"
        description = f"{header.get('PhotometricInterpretation')}, {size}"
        syntax = header.file_meta.TransferSyntaxUID.name
        yield (
            path,
            Outcome(
                path.name,
                getattr(kind, "name", str(kind)),
                syntax,
                description,
                taken=False,
                with_colour=False,
                reason="",
            ),
        )


def run(roots: Iterable[Path]) -> list[Outcome]:
    """Take every object in, each alone in a vault of its own."""
    found: list[Outcome] = []
    for path, seen in objects(roots):
        reason = again = reason_why_not(path, Policy())
        if "colour" in reason:
            again = reason_why_not(path, Policy(intake=IntakeRules(colour=True)))
        found.append(replace(seen, taken=not reason, with_colour=not again, reason=reason))
    return found


def reason_why_not(path: Path, policy: Policy) -> str:
    """Take one file in, and say why it is set aside; empty where it is not."""
    with tempfile.TemporaryDirectory() as folder:
        home = NodeHome.create(Path(folder) / "home", "north", policy=policy)
        report = ingest_table(home, LabelTable(path.parent, (LabelRow(path, "one-4711", "benign"),)))
    return report.quarantined[0].reason if report.quarantined else ""


def markdown(found: Iterable[Outcome]) -> str:
    """The table."""
    lines = ["| object | what it is | taken in | with `intake.colour` |", "|---|---|---|---|"]
    for each in found:
        answers = "yes" if each.taken else each.reason, "yes" if each.with_colour else "no"
        lines.append(f"| `{each.name}` | {each.kind}; {each.syntax}; {each.description} | {' | '.join(answers)} |")
    return "\n".join(lines)


def main() -> None:
    """Print what became of each object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, action="append", default=[])
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = run(folders(arguments.folder))
    if arguments.json:
        print(json.dumps([asdict(each) for each in found]))
    elif arguments.markdown:
        print(markdown(found))
    else:
        for each in found:
            print(f"{each.name}: {'taken in' if each.taken else each.reason}")
        print(
            f"{sum(each.taken for each in found)} of {len(found)} taken in, "
            f"{sum(each.with_colour for each in found)} with intake.colour"
        )


if __name__ == "__main__":
    main()
