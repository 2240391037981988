"""A thousand broken files: nothing is lost, nothing hangs, the parent goes on (a hundred thousand: benchmarks)."""

from pathlib import Path

from benchmarks.intake_fuzz import fuzz


def test_a_thousand_broken_files_are_each_taken_or_set_aside_with_a_reason(tmp_path: Path) -> None:
    findings = fuzz(tmp_path, mutants=1000, batch=500, seed=1)
    assert findings.faults == []
    counts = findings.counts
    assert counts["lost"] == 0
    assert counts["taken"] > 50
    assert counts["set_aside"] > 500
    assert counts["archives"] > 10
    assert counts["tables"] > 5
    assert len(findings.reasons) > 15
