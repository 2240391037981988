"""Which keys are of one ledger, by the log: what no log may say of it, and what proves that one said it."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.log_parts import STUDY, Keys, lines

from sonoshare_shared.errors import IntegrityError, VerificationError
from sonoshare_shared.protocol.documents.identity_succession import IdentitySuccession
from sonoshare_shared.protocol.documents.roster import KeySuccession, Roster
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import Entry, Fault, LogIndex, ledger_head_entry, succession_entry
from sonoshare_shared.protocol.misconduct import ForkedLedger, faulty_log, require_ledger_not_older, verify_evidence


@pytest.fixture
def keys() -> Keys:
    return Keys()


def passed(keys: Keys, hospital: str, new: SigningKey, old: SigningKey | None = None, entries: int = 1) -> Envelope:
    """A hospital's key is passed on, by a ledger of so many entries."""
    old = old or keys.hospitals[hospital]
    ledger = keys.ledger_head(hospital, entries, key=old)[1]
    said = IdentitySuccession(hospital=hospital, old=old.public.hex, new=new.public.hex, ledger=ledger)
    return said.signed(old, new)


def entry(envelope: Envelope) -> Entry:
    return succession_entry(IdentitySuccession.from_bytes(envelope.decoded()).old, envelope)


def read(*entries: Entry) -> tuple[LogIndex, list[Fault | None]]:
    index = LogIndex()
    return index, [index.add(line) for line in lines(*entries)]


def head(keys: Keys, hospital: str, entries: int, digest: str = "5" * 64, key: SigningKey | None = None) -> Entry:
    return ledger_head_entry(*keys.ledger_head(hospital, entries, digest, key=key or keys.hospitals[hospital]))


def test_keys_that_follow_each_other_are_one_ledger_in_the_order_of_the_log(keys: Keys) -> None:
    first, second, third = keys.hospitals["a"], SigningKey.generate(), SigningKey.generate()
    index, faults = read(
        head(keys, "a", 1),
        entry(passed(keys, "a", second)),
        head(keys, "b", 4),
        head(keys, "a", 3, key=second),
        entry(passed(keys, "a", third, second, entries=3)),
        head(keys, "a", 5, key=third),
    )
    assert faults == [None] * 6
    for key in (first, second, third):
        assert [logged.head.entries for logged in index.heads(key.public)] == [1, 1, 3, 3, 5]
        assert index.present_key(key.public) == third.public
        assert index.must_have_seen(key.public, 0) == 4
        assert index.keys_since(key.public, 0) == (first.public, second.public, third.public)
        assert index.keys_since(key.public, 1) == (second.public, third.public)  # who holds entry 1 knows of it
        assert index.keys_since(key.public, 4) == (third.public,)
    assert index.present_key(keys.hospitals["b"].public) == keys.hospitals["b"].public
    followed = index.followed(keys.roster)
    assert [hospital.identity_key for hospital in followed.hospitals if hospital.id == "a"] == [third.public.hex]
    roster = keys.roster
    assert read(head(keys, "a", 1))[0].followed(roster) is roster


Bad = Callable[[Keys, SigningKey], list[Entry]]


def forged(keys: Keys, new: SigningKey) -> list[Entry]:
    """What a coordinator can make by itself: the new key's signature twice."""
    said = IdentitySuccession.from_bytes(passed(keys, "a", new).decoded())
    return [entry(said.signed(new, new))]


BAD: dict[str, Bad] = {
    "the old key did not sign": forged,
    "the new key did not sign": lambda k, n: [
        entry(
            IdentitySuccession.from_bytes(passed(k, "a", n).decoded()).signed(k.hospitals["a"], SigningKey.generate())
        )
    ],
    "more than the two signed": lambda k, n: [entry(passed(k, "a", n).countersigned(k.coordinator))],
    "another hospital's ledger": lambda k, n: [
        entry(
            IdentitySuccession(
                hospital="a",
                old=k.hospitals["a"].public.hex,
                new=n.public.hex,
                ledger=k.ledger_head("b")[1],
            ).signed(k.hospitals["a"], n)
        )
    ],
    "the entry names another key": lambda k, n: [succession_entry(k.hospitals["b"].public.hex, passed(k, "a", n))],
    "to a key that has a ledger": lambda k, n: [head(k, "b", 2, key=n), entry(passed(k, "a", n))],
    "to a key that another passed to": lambda k, n: [entry(passed(k, "b", n)), entry(passed(k, "a", n))],
    "back to a key that was passed on": lambda k, n: [
        entry(passed(k, "a", n)),
        entry(passed(k, "a", k.hospitals["a"], n)),
    ],
    "a head of a key that was passed on": lambda k, n: [entry(passed(k, "a", n)), head(k, "a", 9)],
    "two successors": lambda k, n: [entry(passed(k, "a", n)), entry(passed(k, "a", SigningKey.generate()))],
}


@pytest.mark.parametrize("what", BAD)
def test_a_log_that_passes_a_key_on_as_nobody_may_is_evidence_and_changes_no_line(keys: Keys, what: str) -> None:
    new = SigningKey.generate()
    entries = BAD[what](keys, new)
    index, faults = read(*entries)
    fault = faults[-1]
    assert fault is not None
    assert faults[:-1] == [None] * (len(faults) - 1)
    before, _ = read(*entries[:-1])
    for key in (keys.hospitals["a"].public, keys.hospitals["b"].public, new.public):
        assert index.present_key(key) == before.present_key(key)
        assert index.heads(key) == before.heads(key)
    log = [*STUDY, *lines(*entries)]
    evidence = faulty_log(fault, keys.head(log), tuple(log))
    assert verify_evidence(evidence.canonical(), keys.roster)[0] == "coordinator"
    honest = [*STUDY, *lines(*entries[:-1])]
    with pytest.raises(VerificationError, match="no such fault"):
        verify_evidence(faulty_log(fault, keys.head(honest), tuple(honest)).canonical(), keys.roster)


def test_an_honest_log_takes_in_no_head_of_a_key_that_was_passed_on(keys: Keys) -> None:
    index, _ = read(entry(passed(keys, "a", SigningKey.generate())))
    assert index.conflicts(head(keys, "a", 9))
    assert not index.conflicts(head(keys, "b", 9))


def test_a_ledger_that_forks_at_a_change_of_keys_is_proved_with_the_roster_of_before_and_after(keys: Keys) -> None:
    new, other = SigningKey.generate(), SigningKey.generate()
    link = passed(keys, "a", new, entries=3)
    index, _ = read(head(keys, "a", 3), entry(link))
    said, signed = keys.ledger_head("a", 3, "2" * 64, key=new)
    with pytest.raises(IntegrityError) as found:
        require_ledger_not_older(said, signed, index)
    proof = found.value.evidence  # type: ignore[attr-defined]
    after = index.followed(keys.roster)
    for roster in (keys.roster, after):
        assert verify_evidence(proof, roster) == ("a", "signed two different ledgers of 3 entries")
    fields: dict[str, Any] = {"hospital": "a", "one": keys.ledger_head("a", 3)[1], "other": signed}
    strange = passed(keys, "b", other)
    for links in (None, (), (strange,), (passed(keys, "a", other),), (link.countersigned(other),)):
        with pytest.raises(VerificationError):
            verify_evidence(ForkedLedger(**fields, successions=links).canonical(), keys.roster)
    with pytest.raises(IntegrityError, match="has 2 entries and had 3"):
        require_ledger_not_older(*keys.ledger_head("a", 2, "4" * 64, key=new), index)
    require_ledger_not_older(*keys.ledger_head("a", 4, "4" * 64, key=new), index)


def test_a_roster_names_every_change_once_and_no_key_that_was_passed_on(keys: Keys) -> None:
    roster = keys.roster
    a = next(hospital for hospital in roster.hospitals if hospital.id == "a")
    old, older = "1" * 64, "2" * 64

    def named(*changes: tuple[str, str, str]) -> Roster:
        said = [KeySuccession(hospital=who, old=o, new=n, succession="9" * 64) for who, o, n in changes]
        return Roster.from_bytes(roster.model_copy(update={"successions": tuple(said)}).canonical())

    good = named(("a", older, old), ("b", "3" * 64, "4" * 64), ("a", old, a.identity_key))
    assert [key.hex for key in good.keys_of(a)] == [a.identity_key, old, older]
    before = a.model_copy(update={"identity_key": older})
    assert [key.hex for key in good.successors_of(before)] == [older, old, a.identity_key]
    assert roster.keys_of(a) == roster.successors_of(a) == (a.key,)
    foreign = named(("b", old, a.identity_key))
    assert foreign.keys_of(a) == (a.key,)  # another hospital's change says nothing of this one
    for bad in (
        (("a", old, "3" * 64), ("a", old, "4" * 64)),
        (("a", old, "3" * 64), ("a", older, "3" * 64)),
        (("a", a.identity_key, "3" * 64),),
        (("a", roster.coordinator_key, "3" * 64),),
    ):
        with pytest.raises(IntegrityError):
            named(*bad)
