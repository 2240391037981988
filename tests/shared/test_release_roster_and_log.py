"""Rules of ``release.verify`` on what a release rests on: the roster, the transparency log, revocations."""

from datetime import timedelta
from pathlib import Path

import pytest
from tests.shared.consortium import NOW, RELEASE, Consortium
from tests.shared.sealed_release import cause_of, check

from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.protocol.documents import Roster
from sonoshare_shared.protocol.documents.base import public_day
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.release import evidence, layout
from sonoshare_shared.protocol.release.verify import verify_release
from sonoshare_shared.protocol.translog import TransparencyLog


def test_roster_must_be_signed_by_its_root_and_by_the_pinned_one(built: Consortium, folder: Path) -> None:
    stranger = SigningKey.generate()
    forged = Envelope.sign(ROSTER_PAYLOAD_TYPE, built.roster().canonical(), stranger)
    assert cause_of(lambda: verify_release(folder, forged, now=NOW)) == "roster"
    assert cause_of(lambda: check(built, folder, root=stranger.public)) == "roster"
    check(built, folder, root=built.root.public)


def test_roster_of_another_consortium(built: Consortium, folder: Path, tmp_path: Path) -> None:
    assert cause_of(lambda: verify_release(folder, Consortium(tmp_path).signed_roster(), now=NOW)) == "roster"


def test_roster_expired(built: Consortium, folder: Path) -> None:
    assert cause_of(lambda: check(built, folder, now=NOW + timedelta(days=366))) == "roster-expired"


def test_same_version_with_other_hospitals_is_refused(built: Consortium, folder: Path) -> None:
    roster = built.roster()
    other = roster.model_copy(update={"hospitals": roster.hospitals[:2]})
    signed = Envelope.sign(ROSTER_PAYLOAD_TYPE, other.canonical(), built.root)
    assert cause_of(lambda: verify_release(folder, signed, now=NOW)) == "roster"


def test_case_62_old_release_verifies_under_a_newer_roster(consortium: Consortium) -> None:
    folder = consortium.release()
    consortium.version, consortium.expires = 2, NOW + timedelta(days=900)
    consortium.keys |= {"south": SigningKey.generate(), "east": SigningKey.generate()}
    check(consortium, folder, now=NOW + timedelta(days=500))


def test_a_release_of_before_a_change_of_the_root_key_verifies_where_the_new_roster_names_its_roster(
    consortium: Consortium,
) -> None:
    folder = consortium.release()
    first, old = consortium.roster(), consortium.root
    consortium.root, consortium.version = SigningKey.generate(), 2
    named = consortium.roster().model_copy(update={"former_rosters": (first.digest(),)})

    def cause(roster: Roster) -> str | None:
        signed = Envelope.sign(ROSTER_PAYLOAD_TYPE, roster.canonical(), consortium.root).countersigned(old)
        try:
            verify_release(folder, signed, now=NOW, root=consortium.root.public)
        except VerificationError as error:
            return error.cause
        return None

    assert cause(named) is None
    assert cause(consortium.roster()) == "roster"  # the old key by itself is trusted with nothing any more
    other = named.model_copy(update={"former_rosters": ("0" * 64,)})
    assert cause(other) == "roster"


def test_case_62_new_release_needs_the_new_roster(consortium: Consortium) -> None:
    old = consortium.signed_roster()
    consortium.version = 2
    folder = consortium.release()
    assert cause_of(lambda: verify_release(folder, old, now=NOW)) == "roster"


def test_a_release_needs_every_hospital_of_its_study_whatever_roster_it_rests_on(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server keeps the roster of when one hospital alone was admitted, and publishes with its consent alone."""
    monkeypatch.setattr("sonoshare_server.release.build.require_passes", lambda *_: None)
    keys = consortium.keys
    consortium.keys = {"north": keys["north"]}
    folder = consortium.release()
    consortium.keys, consortium.version = keys, 3
    assert cause_of(lambda: check(consortium, folder)) == "quorum"


def test_release_logged_after_its_roster_expired(consortium: Consortium) -> None:
    consortium.draft()
    consortium.expires = NOW - timedelta(days=1)
    with pytest.raises(VerificationError) as caught:
        consortium.draft("breast-2026-2")
    assert caught.value.cause == "roster-expired"


def test_fresh_log_without_revocation(built: Consortium, folder: Path) -> None:
    verified = check(built, folder, log=evidence.view(built.log()))
    assert verified.revocations_known_until == public_day(NOW)


def test_case_56_revoked_release_fails_against_a_fresh_log_only(consortium: Consortium) -> None:
    folder = consortium.release()
    consortium.revoke(sha256_file(folder / layout.MANIFEST))
    check(consortium, folder)
    assert cause_of(lambda: check(consortium, folder, log=evidence.view(consortium.log()))) == "revoked"


def test_a_revocation_counts_wherever_it_stands_in_the_log(consortium: Consortium) -> None:
    """A server logs a revoked release once more, and proves the new place, which lies after the revocation."""
    folder = consortium.release()
    digest = sha256_file(folder / layout.MANIFEST)
    consortium.revoke(digest)
    log = consortium.log()
    index = log.append(evidence.release_entry(RELEASE, digest))
    proof = evidence.LogProof(index=index, proof=tuple(log.inclusion_proof(index)), head=log.head())
    (folder / layout.LOG_PROOF).write_bytes(proof.canonical())
    check(consortium, folder)
    assert cause_of(lambda: check(consortium, folder, log=evidence.view(log))) == "revoked"


def test_revocation_of_another_release_changes_nothing(consortium: Consortium) -> None:
    folder = consortium.release()
    consortium.revoke("0" * 64)
    check(consortium, folder, log=evidence.view(consortium.log()))


def test_case_60_61_old_forked_or_shortened_log(consortium: Consortium, tmp_path: Path) -> None:
    empty = evidence.view(consortium.log())
    folder = consortium.release()
    proof = evidence.LogProof.from_bytes((folder / layout.LOG_PROOF).read_bytes())
    consortium.revoke(sha256_file(folder / layout.MANIFEST))
    whole = evidence.view(consortium.log())
    fork = TransparencyLog(tmp_path / "fork.jsonl", consortium.coordinator, lambda: NOW)
    for number in range(5):
        fork.append({"kind": "model", "study": "other", "round": number, "digest": str(number)})
    stranger = TransparencyLog(tmp_path / "stranger.jsonl", SigningKey.generate(), lambda: NOW)
    stranger.append({"kind": "model", "digest": "0"})
    faults = {
        "older": empty,
        "fork": evidence.view(fork),
        "revocation left out": whole.model_copy(update={"entries": whole.entries[:-1]}),
        "revocation rewritten": whole.model_copy(update={"entries": (*whole.entries[:-1], "{}")}),
        "head of another key": evidence.view(stranger),
        "head alone, newer": whole.head,
    }
    for name, log in faults.items():
        assert cause_of(lambda log=log: check(consortium, folder, log=log)) == "log-proof", name  # type: ignore[misc]
    check(consortium, folder, log=proof.head)


def test_log_proof_of_another_release(consortium: Consortium) -> None:
    folder = consortium.release()
    other = evidence.append_release(consortium.log(), "breast-2026-2", "0" * 64)
    (folder / layout.LOG_PROOF).write_bytes(other.canonical())
    assert cause_of(lambda: check(consortium, folder)) == "log-proof"
