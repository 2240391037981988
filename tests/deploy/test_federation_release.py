"""A study's release with real agents: audited, signed, sealed, verified and revoked, or not built at all."""

import errno
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.deploy.in_process import HOSPITALS, World, copied, pipeline

from sonoshare_client.audit.payment import AUDIT_PURPOSE
from sonoshare_deploy.cli.coordinator_release import revoke as coordinator_revoke
from sonoshare_deploy.cli.hospital_look import look
from sonoshare_deploy.cli.hospital_revoke import revoke as hospital_revoke
from sonoshare_privacy.accounting import PureDP
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_server.consortium.publication import publish_release, revoke_release, unpublish_release
from sonoshare_server.federation import holding
from sonoshare_server.release.pipeline import facts_for
from sonoshare_shared.errors import FederationError, InputError, RefusedError, VerificationError
from sonoshare_shared.protocol.log_index import plan_entry
from sonoshare_shared.protocol.release.evidence import view
from sonoshare_shared.protocol.release.verify import verify_release


@pytest.fixture
def trained(trained_world: World, tmp_path: Path) -> World:
    """As ``world``, after its last round."""
    return copied(trained_world, tmp_path / "trained")


def looked_at(world: World, hospital: str, out: Path) -> Result:
    """``sonoshare hospital look --study`` on a node."""
    arguments = ["--study", "study", "--home", str(world.nodes[hospital].home.path), "--out", str(out), "--json"]
    return CliRunner().invoke(look, arguments, standalone_mode=False)


def test_a_release_is_audited_signed_sealed_and_verified(
    trained: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "BATCH_BYTES", 5000)
    steps = pipeline(trained)
    steps.draw(lambda done, total: None)
    said = steps.audit()
    assert trained.fleet.kinds("north").count("hold") > 3
    assert looked_at(trained, "north", tmp_path / "look").exception is None
    assert "Candidate" in (tmp_path / "look" / "report.html").read_text()
    assert {h: s.predicate.verdict for h, s in said.items()} == dict.fromkeys(HOSPITALS, "PASS"), [
        s.predicate.reasons for s in said.values()
    ]
    facts = facts_for(trained.home, trained.study, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    charged_since = copied(trained, tmp_path / "charged since")
    charged_since.nodes["north"].ledger.reserve(ChargeRequest("study", "another audit", (PureDP(5.0),), 3e-3, 30))
    with pytest.raises(FederationError, match="north did not sign"):
        pipeline(charged_since).finish(facts)
    bundle = steps.finish(facts)
    verified = verify_release(bundle, trained.home.roster_envelope, now=datetime.now(UTC))
    assert verified.manifest.counts == {"benign": 8, "malignant": 8}
    # Nothing public says more than the day, and the verdicts are bound to the adapter.
    moments = [verified.logged_at, verified.manifest.created, *(s.predicate.time for s in said.values())]
    assert {(m.hour, m.minute, m.second, m.microsecond) for m in moments} == {(0, 0, 0, 0)}
    assert {s.predicate.adapter_digest for s in said.values()} == {verified.manifest.model_digest}
    for hospital in HOSPITALS:
        stated = next(b for b in verified.manifest.privacy.hospitals if b.hospital == hospital)
        assert stated.epsilon >= trained.nodes[hospital].ledger.spent(stated.delta, study="study").epsilon - 1e-9
    gone = looked_at(trained, "north", tmp_path / "again").exception
    assert isinstance(gone, InputError)
    assert "keeps no candidate" in gone.message
    revoked_off_the_list(trained, bundle, tmp_path)


def revoked_off_the_list(world: World, bundle: Path, folder: Path) -> None:
    """A release that is listed no more can be revoked all the same, while others work, and a fresh log says so."""
    busy = world.coordinator()
    with busy.turn():
        publish_release(world.home, "r1")
        unpublish_release(world.home, "r1")
        revoked_by_a_hospital(world, bundle, folder)
        revoke_release(world.home, "r1", "consent withdrawn")
        held = len(busy.log)
        busy.logged(plan_entry("another", "0" * 64))  # behind two revocations that it had not seen
        assert len(busy.log) == held + 3
    with pytest.raises(VerificationError, match="was revoked by"):
        verify_release(bundle, world.home.roster_envelope, now=datetime.now(UTC), log=view(world.home.log()))
    with pytest.raises(InputError, match="never published"):
        revoke_release(world.home, "r2", "no such release")


def revoked_by_a_hospital(world: World, bundle: Path, folder: Path) -> None:
    """Its file is made beside its running agent, and entered while the coordinator is at work."""
    signed = str(folder / "revocation")
    node = ["--home", str(world.nodes["north"].home.path), "--name", "r1", "--out", signed]
    assert (
        CliRunner().invoke(hospital_revoke, [*node, "--reason", "withdrawn"], standalone_mode=False).exception is None
    )
    entered = ["--home", str(world.home.path), "--signed", signed, "--json"]
    assert '"by": "north"' in CliRunner().invoke(coordinator_revoke, entered, standalone_mode=False).stdout
    with pytest.raises(VerificationError, match="was revoked by 'north': withdrawn"):
        verify_release(bundle, world.home.roster_envelope, now=datetime.now(UTC), log=view(world.home.log()))


def audits_charged(world: World, hospital: str) -> int:
    entries = world.nodes[hospital].ledger.entries()
    return sum(s.charge.kind == "reserved" and s.charge.purpose.startswith(AUDIT_PURPOSE) for s in entries)


@pytest.mark.parametrize(
    ("failing", "charged"),
    [("sonoshare_client.agent.auditing.write_atomically", 0), ("sonoshare_client.agent.replies.write_atomically", 1)],
)
def test_a_full_disk_around_an_audit_costs_no_audit(
    trained: World, monkeypatch: pytest.MonkeyPatch, failing: str, charged: int
) -> None:
    def full(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    steps = pipeline(trained)
    steps.draw(lambda done, total: None)
    with monkeypatch.context() as patch:
        patch.setattr(failing, full)
        assert steps.audit() == {}
    assert {audits_charged(trained, hospital) for hospital in HOSPITALS} == {charged}
    said = steps.audit()
    assert {h: s.predicate.verdict for h, s in said.items()} == dict.fromkeys(HOSPITALS, "PASS")
    assert {audits_charged(trained, hospital) for hospital in HOSPITALS} == {1}


def test_cases_56_and_65_without_a_pass_nothing_is_built_and_nothing_is_signed(trained: World) -> None:
    steps = pipeline(trained)
    steps.draw(lambda done, total: None)
    trained.fleet.lost = {"south"}
    steps.audit()
    facts = facts_for(trained.home, trained.study, datetime(2026, 1, 2, tzinfo=UTC))
    with pytest.raises(RefusedError, match="south gave no verdict"):
        steps.finish(facts)
    assert not (trained.home.releases / "r1").exists()
    assert list(trained.home.releases.iterdir()) == []
