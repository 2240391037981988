"""What the benchmarks share."""

import subprocess
import sys
from pathlib import Path

import pytest

HOLD_AND_LET_GO = """
from benchmarks._parts import peak_resident_mib
before = peak_resident_mib()
held = bytearray(b"x") * (before + 64) * 2**20
del held
print(before, peak_resident_mib())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count resident memory in other units")
def test_the_peak_counts_what_was_held_and_given_back() -> None:
    root = Path(__file__).resolve().parents[2]
    said = subprocess.run([sys.executable, "-c", HOLD_AND_LET_GO], cwd=root, capture_output=True, text=True, check=True)
    before, peak = map(int, said.stdout.split())
    assert before + 64 <= peak <= 2 * before + 128
