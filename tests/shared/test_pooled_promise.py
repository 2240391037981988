"""A release of a plan with pooled noise says on how many honest hospitals its epsilon rests, or is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.shared.consortium import Consortium, make_plan
from tests.shared.sealed_release import cause_of, check, replace_file, reseal

from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.charge import Charge, PooledGaussian, SampledGaussian, most_honest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate


class Pooling(Consortium):
    """A consortium whose plan pools noise and rests on two of its three hospitals."""

    def attest(self, hospital: str, candidate: Candidate, /, **changes: Any) -> Envelope:
        return super().attest(hospital, candidate, **({"honest": 2} | changes))


@pytest.fixture
def pooling(tmp_path: Path) -> Consortium:
    changes = {"noise": "pooled", "honest": 2, "local_steps": 1, "masked": True, "quorum": 3}
    return Pooling(tmp_path, plan=StudyPlan.model_validate(make_plan().model_dump() | changes))


def test_manifest_report_pages_and_verify_say_what_the_promise_rests_on(pooling: Consortium) -> None:
    folder = pooling.release()
    check(pooling, folder)
    assert json.loads((folder / layout.MANIFEST).read_bytes())["privacy"]["honest"] == 2
    report = json.loads((folder / layout.PRIVACY_JSON).read_bytes())
    assert report["honest"] == 2
    assert any("fewer hospitals" in line for line in report["not_promised"])
    assert "must be honest" in (folder / layout.PRIVACY_HTML).read_text()
    assert "2 hospitals of every sum" in (folder / layout.DATASHEET).read_text()


@pytest.mark.parametrize("honest", [None, 3])
def test_a_statement_that_assumes_less_or_more_than_the_plan_is_refused(
    pooling: Consortium, honest: int | None
) -> None:
    folder = pooling.release()
    candidate = Candidate.from_bytes((folder / layout.CANDIDATE).read_bytes())
    said = pooling.attest("south", candidate, honest=honest)
    replace_file(pooling, folder, layout.attestation_path("south"), said.to_bytes())
    assert cause_of(lambda: check(pooling, folder)) == "privacy"


def test_a_manifest_or_report_that_hides_the_assumption_is_refused(pooling: Consortium) -> None:
    folder = pooling.release()
    report = json.loads((folder / layout.PRIVACY_JSON).read_bytes())
    del report["honest"]
    replace_file(pooling, folder, layout.PRIVACY_JSON, json.dumps(report).encode())
    assert cause_of(lambda: check(pooling, folder)) == "privacy"
    reseal(pooling, folder, lambda v: v["privacy"].pop("honest"))
    assert cause_of(lambda: check(pooling, folder)) == "privacy"


def test_a_plan_from_which_the_assumption_was_stripped_is_another_plan(pooling: Consortium) -> None:
    folder = pooling.release()
    plan = json.loads((folder / layout.PLAN).read_bytes())
    del plan["noise"], plan["honest"]
    replace_file(pooling, folder, layout.PLAN, json.dumps(plan).encode())
    assert cause_of(lambda: check(pooling, folder)) == "plan"


def test_releases_of_own_noise_stay_as_they_were(consortium: Consortium) -> None:
    folder = consortium.release()
    check(consortium, folder)
    for name in (layout.MANIFEST, layout.PRIVACY_JSON, layout.attestation_path("north")):
        assert b"honest" not in (folder / name).read_bytes()
    candidate = Candidate.from_bytes((folder / layout.CANDIDATE).read_bytes())
    said = consortium.attest("south", candidate, honest=2)
    replace_file(consortium, folder, layout.attestation_path("south"), said.to_bytes())
    assert cause_of(lambda: check(consortium, folder)) == "privacy"


def test_a_ledger_rests_on_the_most_that_any_of_its_charges_assumes() -> None:
    def charge(*events: Any) -> Charge:
        return Charge(hospital="north", sequence=1, kind="reserved", events=events, time="", previous="0" * 64)

    own = charge(SampledGaussian(0.5, 1.0, 3))
    assert most_honest([own]) is None
    assert most_honest([own, charge(PooledGaussian(0.5, 1.0, 3, 2)), charge(PooledGaussian(0.5, 1.0, 3, 5))]) == 5
