"""Evidence files: what proves something, what proves nothing, and the command that says so offline."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.command import sonoshare
from tests.log_parts import STUDY, Keys, lines

from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.roster import ROSTER_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.view import LEDGER_HEAD_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import Fault, LogIndex, ledger_head_entry, model_entry, plan_entry
from sonoshare_shared.protocol.misconduct import ForkedLedger, SplitView, faulty_log, split_view, verify_evidence

FORKED = lines(plan_entry("s", "f" * 64))
TWICE = [*STUDY, *lines(model_entry("s", 2, "f" * 64))]
FAULT = Fault("two-entries", 3, 2, "")


@pytest.fixture
def keys() -> Keys:
    return Keys()


def texts(entries: list[Any]) -> tuple[Any, ...]:
    return tuple(entry.decode() for entry in entries)


def proofs(keys: Keys) -> dict[Any, Any]:
    """One piece of evidence of each kind, and whom it is against."""
    head, by_another = keys.ledger_head("a")[0], keys.ledger_head("a", key=SigningKey.generate())[1]
    false = [*STUDY, *lines(ledger_head_entry(head, by_another))]
    return {
        "two heads of one size": ("coordinator", SplitView(smaller=keys.head(STUDY), larger=keys.head(TWICE[1:]))),
        "a log that does not extend another": (
            "coordinator",
            split_view(keys.head(STUDY), keys.head(FORKED), tuple(STUDY), keys.coordinator.public),
        ),
        "two models of a round": ("coordinator", faulty_log(FAULT, keys.head(TWICE), tuple(TWICE))),
        "a ledger head nobody signed": (
            "coordinator",
            faulty_log(Fault("false-ledger-head", 3, None, ""), keys.head(false), tuple(false)),
        ),
        "a ledger that was forked": (
            "b",
            ForkedLedger(
                hospital="b", one=keys.ledger_head("b", 7, "1" * 64)[1], other=keys.ledger_head("b", 7, "2" * 64)[1]
            ),
        ),
    }


KINDS = list(proofs(Keys()))


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_names_whom_it_is_against_and_verifies_after_a_round_through_a_file(keys: Keys, kind: Any) -> None:
    against, evidence = proofs(keys)[kind]
    assert verify_evidence(evidence.canonical(), keys.roster)[0] == against


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_can_make_evidence_without_the_accused_key(keys: Keys, kind: Any) -> None:
    other = Keys(root=keys.root)
    with pytest.raises(VerificationError) as refused:
        verify_evidence(proofs(other)[kind][1].canonical(), keys.roster)
    assert refused.value.cause == "evidence"


def test_what_an_honest_coordinator_and_hospital_sign_is_no_evidence(keys: Keys) -> None:
    own, larger = keys.head(STUDY[:2]), keys.head(STUDY)
    honest = (
        SplitView(smaller=own, larger=larger, entries=texts(STUDY)),
        SplitView(smaller=own, larger=keys.head(STUDY[:2])),
        # Larger before smaller, entries of another log, entries left out.
        SplitView(smaller=larger, larger=own, entries=texts(STUDY[:2])),
        SplitView(smaller=own, larger=larger, entries=texts([*STUDY[1:], STUDY[0]])),
        SplitView(smaller=own, larger=larger),
        faulty_log(FAULT, larger, tuple(STUDY)),
        faulty_log(FAULT, larger, tuple(TWICE)),
        faulty_log(FAULT, keys.head([*STUDY, STUDY[2]]), (*STUDY, STUDY[2])),
        faulty_log(Fault("false-ledger-head", 3, None, ""), keys.head(TWICE), tuple(TWICE)),
        ForkedLedger(hospital="b", one=keys.ledger_head("b", 7)[1], other=keys.ledger_head("b", 8, "2" * 64)[1]),
        ForkedLedger(hospital="b", one=keys.ledger_head("b")[1], other=keys.ledger_head("b")[1]),
        ForkedLedger(hospital="b", one=keys.ledger_head("b")[1], other=keys.ledger_head("a", 1, "2" * 64)[1]),
        ForkedLedger(hospital="x", one=keys.ledger_head("b")[1], other=keys.ledger_head("b", 1, "2" * 64)[1]),
    )
    for evidence in honest:
        with pytest.raises(VerificationError):
            verify_evidence(evidence.canonical(), keys.roster)
    for data in (b"", b"{}", b"[]", b'{"schema":"sonoshare/evidence/split-view/v9"}'):
        with pytest.raises(VerificationError):
            verify_evidence(data, keys.roster)


def test_a_ledger_head_of_a_newer_version_is_passed_over_and_accuses_nobody(keys: Keys) -> None:
    key = keys.hospitals["a"]
    newer = {**keys.ledger_head("a")[0].model_dump(mode="json", by_alias=True), "schema": "sonoshare/ledger-head/v2"}
    signed = Envelope.sign(LEDGER_HEAD_PAYLOAD_TYPE, canonical_bytes({**newer, "more": 1}), key)
    entry = {"kind": "ledger-head", "identity_key": key.public.hex, "signed": signed.model_dump(mode="json")}
    index = LogIndex()
    assert index.add(canonical_bytes(entry)) is None
    assert index.heads(key.public) == ()
    # Under a key that did not sign it, it is what it always was.
    assert index.add(canonical_bytes({**entry, "identity_key": keys.hospitals["b"].public.hex})) is not None


def test_one_command_checks_evidence_offline(tmp_path: Path, keys: Keys) -> None:
    roster, file = tmp_path / "roster.dsse.json", tmp_path / "evidence.json"
    roster.write_bytes(Envelope.sign(ROSTER_PAYLOAD_TYPE, keys.roster.canonical(), keys.root).to_bytes())
    file.write_bytes(proofs(keys)["two models of a round"][1].canonical())
    said = json.loads(sonoshare("verify", file, "--roster", roster, "--json").stdout.splitlines()[-1])
    assert (said["verified"], said["against"]) == (True, "coordinator")
    assert "two different entries for one model" in said["what"]
    file.write_bytes(proofs(Keys())["two models of a round"][1].canonical())
    run = sonoshare("verify", file, "--roster", roster)
    assert run.returncode == 1
    assert "evidence" in run.errors[0]


def test_the_index_finds_heads_and_what_others_must_have_seen(keys: Keys) -> None:
    index, key = LogIndex(), keys.hospitals["a"].public
    entries = [*STUDY, *lines(*(keys.logged_head("a", n, f"{n}" * 64) for n in (1, 3, 5)), keys.logged_head("b"))]
    assert [index.add(line) for line in entries] == [None] * len(entries)
    assert [logged.head.entries for logged in index.heads(key)] == [1, 3, 5]
    assert index.newest_head(key).head.head == "5" * 64
    # The step, or all heads of its own but the newest: whichever stands later.
    assert [index.must_have_seen(key, step) for step in (0, 4, 6)] == [4, 4, 6]
    assert index.must_have_seen(keys.hospitals["c"].public, 2) == 2
    assert index.place(model_entry("s", 1, "any")) == 1
    assert index.conflicts(model_entry("s", 1, "9" * 64))
    assert not index.conflicts(model_entry("s", 1, "1" * 64))
    assert not index.conflicts(model_entry("s", 9, "9" * 64))
