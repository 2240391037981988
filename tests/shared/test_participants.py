"""A release of the hospitals that took part: their PASS and signatures, nobody else's, and the log that says who."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.shared.consortium import MODEL, Consortium
from tests.shared.sealed_release import cause_of, check, replace_file, reseal

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.closed_rounds import ClosedRound
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.evidence import view

PART = ("north", "south")


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Three hospitals in the roster and in the plan, of which two took part; two close a round."""
    return Consortium(tmp_path, participants=PART)


def close(consortium: Consortium, *rounds: tuple[str, ...]) -> None:
    log = consortium.log()
    for number, hospitals in enumerate(rounds, 1):
        log.append(ClosedRound(study="lesions", round=number, hospitals=hospitals, adapter=MODEL).entry)


def test_a_release_of_those_who_took_part_verifies_without_the_others(consortium: Consortium) -> None:
    verified = check(consortium, consortium.release())
    assert verified.hospitals == PART
    assert [entry.id for entry in verified.roster.hospitals] == ["north", "south", "west"]


def test_where_a_fresh_log_says_who_took_part_the_manifest_names_these(consortium: Consortium) -> None:
    close(consortium, ("north",), PART)
    folder = consortium.release()
    check(consortium, folder, log=view(consortium.log()))


@pytest.mark.parametrize("rounds", [(("north",), ("north",)), (PART, ("south", "west"))])
def test_a_log_that_says_otherwise_fails_the_release(consortium: Consortium, rounds: Any) -> None:
    close(consortium, *rounds)
    folder = consortium.release()
    check(consortium, folder)
    assert cause_of(lambda: check(consortium, folder, log=view(consortium.log()))) == "quorum"


@pytest.mark.parametrize("rounds", [(), (PART,), (PART, PART, PART)])
def test_a_list_that_a_fresh_log_does_not_bear_out_fails_the_release(consortium: Consortium, rounds: Any) -> None:
    """Whoever is named may have kept the entries out together with the coordinator."""
    close(consortium, *rounds)
    folder = consortium.release()
    assert cause_of(lambda: check(consortium, folder, log=view(consortium.log()))) == "quorum"


@pytest.mark.parametrize(
    ("listed", "cause"),
    [
        (None, "quorum"),  # stripped: every hospital of the roster is wanted, and west said nothing
        (["north"], "quorum"),  # fewer than the plan's quorum
        (["north", "south", "west"], "quorum"),
        (["north", "stranger"], "quorum"),
    ],
)
def test_another_list_fails_even_if_everybody_signs_it(consortium: Consortium, listed: Any, cause: str) -> None:
    folder = consortium.release()

    def edit(value: dict[str, Any]) -> None:
        value.pop("participants")
        if listed is not None:
            value["participants"] = listed

    reseal(consortium, folder, edit)
    for hospital in consortium.keys.keys() - set(listed or consortium.keys):
        (folder / layout.signature_path(hospital)).unlink()
    assert cause_of(lambda: check(consortium, folder)) == cause


def test_a_list_cut_short_over_a_smaller_quorum_still_leaves_a_statement_too_many(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, participants=PART)
    consortium.plan = consortium.plan.model_copy(update={"quorum": 1})
    folder = consortium.release()
    reseal(consortium, folder, lambda value: value.update(participants=["north"]))
    for hospital in ("south", "west"):
        (folder / layout.signature_path(hospital)).unlink()
    assert cause_of(lambda: check(consortium, folder)) == "quorum"


def test_a_participant_who_has_not_signed_fails_it(consortium: Consortium) -> None:
    folder = consortium.release()
    (folder / layout.signature_path("south")).unlink()
    assert cause_of(lambda: check(consortium, folder)) == "quorum"


def test_the_signature_of_one_who_took_no_part_is_a_file_too_many(consortium: Consortium) -> None:
    folder = consortium.release()
    source = (folder / layout.signature_path("south")).read_bytes()
    (folder / layout.signature_path("west")).write_bytes(source)
    assert cause_of(lambda: check(consortium, folder)) == "file-extra"


def test_one_who_took_no_part_does_not_speak(consortium: Consortium) -> None:
    folder = consortium.release()
    candidate = consortium.attest("south", _candidate(folder)).to_bytes()
    west = consortium.attest("west", _candidate(folder)).to_bytes()
    assert candidate != west
    replace_file(consortium, folder, layout.attestation_path("west"), west)
    (folder / layout.signature_path("west")).unlink()
    assert cause_of(lambda: check(consortium, folder)) == "quorum"


def _candidate(folder: Path) -> Any:
    from sonoshare_shared.protocol.release.candidate import Candidate  # noqa: PLC0415 - beside its one use

    return Candidate.from_bytes((folder / layout.CANDIDATE).read_bytes())


def test_a_manifest_without_the_field_has_the_bytes_of_before_and_a_list_is_sorted(tmp_path: Path) -> None:
    everybody = Consortium(tmp_path / "all")
    folder = everybody.release()
    data = (folder / layout.MANIFEST).read_bytes()
    assert b"participants" not in data
    assert check(everybody, folder).hospitals == ("north", "south", "west")
    for listed in (["south", "north"], ["north", "north"], []):
        with pytest.raises(IntegrityError):
            ReleaseManifest.from_bytes(json.dumps(json.loads(data) | {"participants": listed}).encode())
