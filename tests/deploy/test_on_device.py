"""The one command for a machine with a GPU: sections keep to themselves, and figures are there after each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.on_device import SECTIONS, given, parsed, ran

ROOT = Path(__file__).resolve().parents[2]


def test_a_section_gives_the_last_line_of_its_command_or_says_how_it_failed() -> None:
    assert ran(["-c", "print('words'); print('{\"a\": 1}')"], 60) == {"a": 1}
    broken = ran(["-c", "raise SystemExit('no such card')"], 60)
    assert (broken["failed"], broken["said"]) == ("exit 1", "no such card\n")
    assert ran(["-c", "import time; time.sleep(60)"], 0.2)["failed"] == "stopped after 0 s"


def test_sections_are_given_what_was_asked_for_and_no_other_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--out", str(tmp_path), "--batch-size", "64", "--profile", "large"])
    options = parsed()
    assert given(options, "profile", "batch-size", "length") == ["--profile", "large", "--batch-size", "64"]
    assert options.sections.split(",") == list(SECTIONS)
    monkeypatch.setattr(sys, "argv", ["x", "--out", str(tmp_path), "--sections", "facts,lunch"])
    with pytest.raises(SystemExit):
        parsed()


def test_a_section_that_fails_is_told_and_kept_with_the_others_figures(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [
        "--out",
        out,
        "--work",
        tmp_path / "work",
        "--profile",
        "tiny",
        "--device",
        "cpu",
        "--precision",
        "float32",
    ]
    command = [sys.executable, "-m", "benchmarks.on_device", *map(str, words), "--sections", "sheet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1, "nothing was trained, so there is nothing to draw from"
    assert "no base weights for profile tiny" in found["sheet"]["said"]
    assert json.loads((out / "figures.json").read_text()) == found
