"""Releases over a change of an identity key: which key may sign what, and what the thief of an old one can make."""

from pathlib import Path
from typing import Any

import pytest
from tests.shared.consortium import NOW, Consortium
from tests.shared.sealed_release import cause_of, check

from sonoshare_shared.protocol.documents.identity_succession import IdentitySuccession
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE, ReleaseManifest
from sonoshare_shared.protocol.documents.roster import KeySuccession, Roster
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.view import LEDGER_HEAD_PAYLOAD_TYPE, LedgerHead
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import manifest_entry, succession_entry
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate
from sonoshare_shared.protocol.release.evidence import view
from sonoshare_shared.protocol.release.statements import sign_manifest
from sonoshare_shared.protocol.release.verify import verify_release


class Changing(Consortium):
    """A consortium in which north can change its key."""

    successions: tuple[KeySuccession, ...] = ()
    attests_with: SigningKey | None = None

    def roster(self) -> Roster:
        return super().roster().model_copy(update={"successions": self.successions or None})

    def attest(self, hospital: str, candidate: Candidate, /, **changes: Any) -> Envelope:
        statement = self.statement(hospital, candidate, **changes)
        key = self.attests_with if hospital == "north" and self.attests_with else self.keys[hospital]
        return Envelope.sign(STATEMENT_PAYLOAD_TYPE, statement.canonical(), key)

    def change(self, *, logged: bool = True) -> SigningKey:
        """North's key is changed; returns the old one."""
        old, new = self.keys["north"], SigningKey.generate()
        head = LedgerHead(hospital="north", identity_key=old.public.hex, entries=1, head="1" * 64)
        ledger = Envelope.sign(LEDGER_HEAD_PAYLOAD_TYPE, head.canonical(), old)
        said = IdentitySuccession(hospital="north", old=old.public.hex, new=new.public.hex, ledger=ledger)
        if logged:
            self.log().append(succession_entry(said.old, said.signed(old, new)))
        named = KeySuccession(hospital="north", old=said.old, new=said.new, succession=said.digest())
        self.successions, self.version = (*self.successions, named), self.version + 1
        self.keys["north"] = new
        return old


@pytest.fixture
def consortium(tmp_path: Path) -> Changing:
    return Changing(tmp_path)


def test_an_old_release_verifies_after_any_number_of_changes(consortium: Changing) -> None:
    folder = consortium.release()
    for _ in range(3):
        consortium.change()
        check(consortium, folder, log=view(consortium.log()))


def test_a_statement_of_before_stands_in_a_release_that_the_new_key_signs(consortium: Changing) -> None:
    consortium.attests_with = consortium.change()
    check(consortium, consortium.release(), log=view(consortium.log()))


@pytest.mark.parametrize("stranger", ["nobody", "south"])
def test_a_statement_of_a_key_that_north_never_had_is_refused(consortium: Changing, stranger: str) -> None:
    consortium.change()
    consortium.attests_with = SigningKey.generate() if stranger == "nobody" else consortium.keys["south"]
    assert cause_of(consortium.release) == "signature"


def test_a_manifest_of_before_is_signed_by_the_key_that_followed(consortium: Changing) -> None:
    """The roster in it cannot name that key: the reader's says that it follows."""

    def sign(hospital: str, manifest: ReleaseManifest) -> Envelope:
        if hospital == "north":
            consortium.change()
        return sign_manifest(manifest, consortium.keys[hospital])

    before = consortium.signed_roster()
    folder = consortium.release(sign=sign)
    check(consortium, folder, log=view(consortium.log()))
    consortium.change()
    check(consortium, folder, log=view(consortium.log()))
    assert cause_of(lambda: verify_release(folder, before, now=NOW)) == "signature"


def test_the_thief_of_an_old_key_signs_no_release_under_the_new_roster(consortium: Changing) -> None:
    old = consortium.change()

    def sign(hospital: str, manifest: ReleaseManifest) -> Envelope:
        return sign_manifest(manifest, old if hospital == "north" else consortium.keys[hospital])

    assert cause_of(lambda: consortium.release(sign=sign)) == "signature"


@pytest.mark.parametrize("shown", [False, True])
def test_a_release_that_a_thief_signs_under_an_old_roster_is_told_by_a_fresh_log(
    consortium: Changing, shown: bool
) -> None:
    version, keys = consortium.version, dict(consortium.keys)
    consortium.change()
    newest = consortium.signed_roster()
    consortium.keys, consortium.successions, consortium.version = keys, (), version

    def sign(hospital: str, manifest: ReleaseManifest) -> Envelope:
        entry = manifest_entry(manifest.study, manifest.release, manifest.digest())
        if shown and consortium.log().index_of(entry) is None:
            consortium.log().append(entry)
        return sign_manifest(manifest, keys[hospital])

    folder = consortium.release(sign=sign)
    verify_release(folder, newest, now=NOW)
    log = view(consortium.log())
    assert cause_of(lambda: verify_release(folder, newest, now=NOW, log=log)) == "signature"


def test_a_signature_beside_another_is_refused_after_a_change_too(consortium: Changing) -> None:
    old = consortium.change()
    folder = consortium.release()
    path = folder / layout.signature_path("north")
    manifest = (folder / layout.MANIFEST).read_bytes()
    both = Envelope.sign(MANIFEST_PAYLOAD_TYPE, manifest, consortium.keys["north"]).countersigned(old)
    path.write_bytes(both.to_bytes())
    assert cause_of(lambda: check(consortium, folder)) == "envelope"
