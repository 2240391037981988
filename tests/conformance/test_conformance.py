"""The conformance kit: every case gets the verdict and the cause that it was made for, and every cause has a case."""

import json
import re
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from sonoshare_deploy.cli.verify import check_evidence, check_ledger, read_log
from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.release.verify import verify_release

KIT = zipfile.ZipFile(Path(__file__).parent / "kit.zip")
CASES: list[dict[str, Any]] = json.loads(KIT.read("expected.json"))["cases"]
PAGE = Path(__file__).parents[2] / "docs" / "researcher.md"


def unpacked(case: dict[str, Any], folder: Path) -> Path:
    """The release of a case: its base, with what the case changes, removes and links."""
    changed, place = f"cases/{case['name']}/", folder / "release"
    here = {
        name.removeprefix(f"{case['base']}/"): name for name in KIT.namelist() if name.startswith(f"{case['base']}/")
    }
    here |= {path: changed + path for path in case["changed"]}
    for path, name in here.items():
        if path in case["removed"] or path in case["links"]:
            continue
        target = place / PurePosixPath(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(KIT.read(name))
    for path, target_of_link in case["links"].items():
        (place / path).symlink_to(target_of_link)
    return place


def given(case: dict[str, Any], what: str, folder: Path) -> Path | None:
    if case.get(what) is None:
        return None
    path = folder / f"{what}.json"
    path.write_bytes(KIT.read(case[what]))
    return path


def cause_of(case: dict[str, Any], folder: Path) -> str | None:
    roster, root = Envelope.load(given(case, "roster", folder)), case["root"] and PublicKey.from_hex(case["root"])
    log = given(case, "log", folder)
    try:
        if case["kind"] == "release":
            now, fresh = datetime.fromisoformat(case["now"]), None if log is None else read_log(log)
            verify_release(unpacked(case, folder), roster, now=now, root=root, log=fresh)
        else:
            path = folder / "file.json"
            path.write_bytes(KIT.read(f"cases/{case['name']}/{case['kind']}.json"))
            check: Callable[..., Any] = check_ledger if case["kind"] == "ledger" else check_evidence
            check(path, roster, root=root)
    except VerificationError as error:
        return error.cause
    return None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_every_case_has_its_verdict_and_cause(case: dict[str, Any], tmp_path: Path) -> None:
    assert cause_of(case, tmp_path) == case["cause"]


def test_the_kit_covers_every_cause_that_is_documented() -> None:
    covered = {case["cause"] for case in CASES if case["cause"]}
    rows = re.findall(r"^\| (`[a-z`, -]+`) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {word for row in rows for word in re.findall(r"[a-z-]+", row)}
    assert covered == documented
    assert len(CASES) >= 40
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert sum(case["verified"] for case in CASES) >= 10
