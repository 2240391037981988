"""What can be wrong with a release, by name: how it is made so, and the cause that a verifier must give."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from tests.shared.consortium import NOW

from sonoshare_shared.protocol.release import layout

Breaking = Callable[[Path], object]


def _append(path: str) -> Breaking:
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes() + b" ")


def _flip(path: str) -> Breaking:
    def flip(folder: Path) -> None:
        data = bytearray((folder / path).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / path).write_bytes(data)

    return flip


def _write(path: str, data: bytes = b"x") -> Breaking:
    def write(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)

    return write


def _remove(path: str) -> Breaking:
    return lambda folder: (folder / path).unlink()


def _copy(source: str, target: str) -> Breaking:
    return lambda folder: (folder / target).write_bytes((folder / source).read_bytes())


def _link(path: str) -> Breaking:
    def link(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        (folder / path).symlink_to("/etc/hostname")

    return link


FOLDER: Final[dict[str, tuple[Breaking, str]]] = {
    "image-removed": (_remove("images/000000.png"), "file-missing"),
    "mask-flipped": (_flip("masks/000001.png"), "file-digest"),
    "metadata-longer": (_append(layout.METADATA), "file-size"),
    "sums-flipped": (_flip(layout.SHA256SUMS), "file-digest"),
    "sums-removed": (_remove(layout.SHA256SUMS), "file-missing"),
    "manifest-removed": (_remove(layout.MANIFEST), "file-missing"),
    "manifest-no-json": (_write(layout.MANIFEST, b"{"), "manifest"),
    "manifest-white-space": (_append(layout.MANIFEST), "manifest"),
    "image-added": (_write("images/999999.png"), "file-extra"),
    "signature-added": (_copy("signatures/west.dsse.json", "signatures/east.dsse.json"), "file-extra"),
    "litter-macos": (_write("images/.DS_Store"), "file-extra"),
    "litter-windows": (_write("Thumbs.db"), "file-extra"),
    "link-added": (_link("link"), "path"),
    "image-is-a-link": (_link("images/000000.png"), "path"),
    "hidden-file": (_write(".hidden"), "path"),
    "signature-removed": (_remove("signatures/south.dsse.json"), "quorum"),
    "signature-no-envelope": (_write("signatures/south.dsse.json", b"{}"), "envelope"),
    "signature-of-another": (_copy("signatures/north.dsse.json", "signatures/south.dsse.json"), "signature"),
    "log-proof-removed": (_remove(layout.LOG_PROOF), "file-missing"),
    "log-proof-no-json": (_write(layout.LOG_PROOF, b"[]"), "log-proof"),
    "log-proof-white-space": (_append(layout.LOG_PROOF), "log-proof"),
}

MANIFEST: Final[dict[str, tuple[Callable[[dict[str, Any]], None], str]]] = {
    "counts": (lambda v: v.update(counts={"benign": 600, "malignant": 5}), "candidate"),
    "another-plan": (lambda v: v.update(plan_digest="0" * 64), "plan"),
    "another-candidate": (lambda v: v.update(candidate_digest="0" * 64), "candidate"),
    "another-model": (lambda v: v.update(model_digest="0" * 64), "candidate"),
    "less-epsilon": (lambda v: v["privacy"].update(epsilon=1.0), "privacy"),
    "budget-left-out": (lambda v: v["privacy"]["hospitals"].pop(), "privacy"),
    "path-outside": (lambda v: v["files"][0].update(path="../evil"), "path"),
    "path-absolute": (lambda v: v["files"][0].update(path="/etc/passwd"), "path"),
    "path-device-name": (lambda v: v["files"][0].update(path="NUL.png"), "path"),
    "report-not-listed": (
        lambda v: v.update(files=[entry for entry in v["files"] if entry["path"] != layout.PRIVACY_JSON]),
        "manifest",
    ),
    "unknown-field": (lambda v: v.update(status="published"), "version"),
}

REPORT: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "less-epsilon": lambda report: report.update(epsilon=0.1),
    "better-figure": lambda report: report["hospitals"][0]["figures"]["membership"].update(auc=0.5),
    "hospital-left-out": lambda report: report["hospitals"].pop(),
}

STATEMENT: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "fail": ({"verdict": "FAIL"}, "verdict"),
    "inconclusive": ({"verdict": "INCONCLUSIVE"}, "verdict"),
    "another-study": ({"study": "other"}, "statement"),
    "another-hospital": ({"hospital": "north"}, "statement"),
    "another-policy": ({"policy_digest": "0" * 64}, "statement"),
    "after-the-roster": ({"time": NOW + timedelta(days=400)}, "roster-expired"),
    "more-epsilon": ({"spent_epsilon": 6.6}, "privacy"),
    "more-delta": ({"spent_delta": 2e-4}, "privacy"),
}
