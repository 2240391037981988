"""A ledger passes to a new key of its hospital whole, and to nobody else."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.privacy.charges import request

from sonoshare_shared.errors import IntegrityError, LedgerError, PassedOnError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.charge import Charge, LedgerExport, SignedCharge, taken_up, verify_chain
from sonoshare_shared.protocol.keys import SigningKey


def test_a_ledger_passes_to_a_new_key_whole_and_to_nobody_else(
    open_ledger: Callable[..., Any], key: SigningKey
) -> None:
    ledger, new, thief = open_ledger(), SigningKey.generate(), SigningKey.generate()
    ledger.reserve(request())
    before, spent, charge = ledger.head(), ledger.spent(), ledger.last_charge()
    beside = open_ledger()
    ledger.succeed(new)
    ledger.succeed(new)  # made again: nothing more is written
    assert (len(ledger.entries()), ledger.last_charge(), ledger.spent()) == (3, charge, spent)
    ledger.require_not_older_than([before])
    ledger.reserve(request("study-b"))
    assert ledger.last_charge() == ledger.head() != charge
    again = open_ledger(signing=new)
    again.verify()
    assert again.spent() == ledger.spent()
    for stale in (beside.reserve, lambda _: open_ledger().reserve(request())):
        with pytest.raises(PassedOnError):
            stale(request())
    with pytest.raises(LedgerError):
        open_ledger(signing=thief)
    export = LedgerExport.model_validate(beside.export())
    assert len(export.verify(new.public)) == 4
    for wrong in (key, thief):
        with pytest.raises(IntegrityError):
            export.verify(wrong.public)


@pytest.mark.parametrize("forgery", ["another signs for the new key", "another place", "not the ledger's key"])
def test_a_succession_that_the_new_key_did_not_sign_for_this_place_breaks_the_chain(
    open_ledger: Callable[..., Any], key: SigningKey, forgery: str
) -> None:
    ledger, new = open_ledger(), SigningKey.generate()
    ledger.succeed(new)
    *first, last = ledger.entries()
    assert last.charge.succession is not None
    said = {**last.charge.model_dump(mode="json", by_alias=True)}
    old = SigningKey.generate().public.hex if forgery == "not the ledger's key" else key.public.hex
    place = 2 if forgery == "another place" else 1
    signer = key if forgery == "another signs for the new key" else new
    words = taken_up("alpha", place, said["previous"], old, new.public.hex)
    said["succession"] |= {"old": old, "signature": signer.sign(words).hex()}
    body = Charge.model_validate(said).canonical()
    forged = SignedCharge.read(body, key.sign(body).hex())
    assert verify_chain([*first, last], key.public, "alpha").key == new.public
    with pytest.raises(IntegrityError, match="ledger entry 1"):
        verify_chain([*first, forged], key.public, "alpha")


def test_a_succession_charges_nothing_and_nothing_else_passes_a_key_on(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger()
    ledger.reserve(request())
    ledger.succeed(SigningKey.generate())
    _, reserved, succession = (signed.charge for signed in ledger.entries())
    passing = succession.model_dump(mode="json", by_alias=True)
    charging = reserved.model_dump(mode="json", by_alias=True)
    for bad in (
        passing | {"schema": "sonoshare/charge/v1"},
        {name: value for name, value in passing.items() if name != "succession"},
        passing | {"events": charging["events"]},
        passing | {"kind": "committed"},
        charging | {"succession": passing["succession"]},
        charging | {"schema": "sonoshare/charge/v2"},
    ):
        with pytest.raises(IntegrityError):
            Charge.from_bytes(canonical_bytes(bad))
