"""What a fresh log says of a study's plan, its last model, a candidate and a manifest is what the release holds."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.shared.consortium import MODEL, RELEASE, Consortium
from tests.shared.sealed_release import cause_of, check

from sonoshare_shared.protocol.canonical import canonical_bytes, parsed_json, sha256_file
from sonoshare_shared.protocol.closed_rounds import ClosedRound
from sonoshare_shared.protocol.log_index import Entry, candidate_entry, manifest_entry, plan_entry
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.evidence import LogView, append_release, view
from sonoshare_shared.protocol.translog import TransparencyLog

STUDY, OTHER = "lesions", "e" * 64
PART = ("north", "south")
INSTEAD = {
    "plan": plan_entry(STUDY, OTHER),
    "candidate": candidate_entry(STUDY, RELEASE, OTHER),
    "manifest": manifest_entry(STUDY, RELEASE, OTHER),
}
CAUSES = [("plan", "plan"), ("candidate", "candidate"), ("manifest", "log-proof")]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """A consortium whose release names who took part."""
    consortium = Consortium(tmp_path_factory.mktemp("named"), participants=PART)
    for entry in closed(consortium, MODEL):
        consortium.log().append(entry)
    consortium.release()
    return consortium


def closed(consortium: Consortium, model: str) -> list[Entry]:
    rounds = range(1, consortium.plan.rounds + 1)
    return [ClosedRound(study=STUDY, round=number, hospitals=PART, adapter=model).entry for number in rounds]


def shown(
    consortium: Consortium, folder: Path, first: Sequence[Entry] = (), keep: Callable[[Any], bool] = lambda _kind: True
) -> LogView:
    """A log that the coordinator could have shown instead: with entries in front, and without others."""
    lines = [entry.encode() for entry in view(consortium.log()).entries if keep(parsed_json(entry.encode())["kind"])]
    path = folder.parent / "log.jsonl"
    # Not by `append`, which refuses what a log may not hold.
    path.write_bytes(b"".join(line + b"\n" for line in [*map(canonical_bytes, first), *lines]))
    log = TransparencyLog(path, consortium.coordinator, lambda: consortium.now)
    proof = append_release(log, RELEASE, sha256_file(folder / layout.MANIFEST))
    (folder / layout.LOG_PROOF).write_bytes(proof.canonical())
    check(consortium, folder)  # without a fresh log nothing is seen of it
    return view(log)


def test_a_release_whose_steps_were_logged_verifies(built: Consortium, folder: Path) -> None:
    check(built, folder, log=shown(built, folder))


@pytest.mark.parametrize(("kind", "cause"), CAUSES)
def test_a_step_that_was_logged_otherwise_fails_the_release(
    built: Consortium, folder: Path, kind: str, cause: str
) -> None:
    """Hospitals charged under the plan in the log; another one that everybody has signed lies in the release."""
    log = shown(built, folder, [INSTEAD[kind]], lambda said: said != kind)
    assert cause_of(lambda: check(built, folder, log=log)) == cause


@pytest.mark.parametrize(("kind", "cause"), CAUSES)
def test_a_step_that_was_logged_in_two_ways_fails_the_release(
    built: Consortium, folder: Path, kind: str, cause: str
) -> None:
    assert cause_of(lambda: check(built, folder, log=shown(built, folder, [INSTEAD[kind]]))) == cause


def test_images_of_another_model_than_the_study_closed_with_fail_the_release(built: Consortium, folder: Path) -> None:
    check(built, folder, log=shown(built, folder, closed(built, MODEL)))
    log = shown(built, folder, closed(built, OTHER))
    assert cause_of(lambda: check(built, folder, log=log)) == "candidate"


def test_a_release_of_the_days_without_such_entries_verifies(built: Consortium, folder: Path) -> None:
    check(built, folder, log=shown(built, folder, keep=lambda said: said not in INSTEAD))


@pytest.mark.parametrize(("kind", "cause"), CAUSES)
def test_entries_cannot_be_left_out_where_the_manifest_names_who_took_part(
    named: Consortium, tmp_path: Path, kind: str, cause: str
) -> None:
    folder = Path(shutil.copytree(named.folder / RELEASE, tmp_path / "copy"))
    check(named, folder, log=shown(named, folder))
    log = shown(named, folder, keep=lambda said: said != kind)
    assert cause_of(lambda: check(named, folder, log=log)) == cause
