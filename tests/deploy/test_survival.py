"""A federation of real processes under kills and cut lines: it finishes, no charge is lost, no process is left.

``benchmarks.chaos`` and ``benchmarks.network_cut`` do the same for longer.
"""

from pathlib import Path

import pytest
from benchmarks.chaos import chaos
from benchmarks.network_cut import cable, cut_and_heal

from sonoshare_shared.errors import InputError


@pytest.mark.processes
def test_case_39_a_study_is_finished_whatever_is_killed(tmp_path: Path) -> None:
    """The moments are the machine's own; what must hold holds at every one."""
    result = chaos(tmp_path / "w", hospitals=2, rounds=2, kills=2, seed=5)
    assert result["killed"] >= 2
    assert result["unfinished"] == 0
    assert result["under_counts"] == result["broken"] == result["orphans"] == 0
    assert result["charges"] >= result["trainings"] >= result["rounds"]


@pytest.mark.processes
def test_case_38_a_hospital_whose_line_is_cut_leaves_the_round_and_comes_back(tmp_path: Path) -> None:
    try:
        with cable():
            pass
    except InputError as error:
        pytest.skip(f"no network namespaces can be made here: {error}")
    result = cut_and_heal(tmp_path / "w", rounds=8, seconds=25)
    assert result["rounds"] == result["of"]
    assert result["closed_without"] >= 1
    assert result["back"]
    assert result["under_counts"] == result["broken"] == result["orphans"] == 0
