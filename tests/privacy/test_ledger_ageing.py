"""Ledgers age: entries tell nothing of time, old ones go on, and newer ones are refused in plain words."""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.privacy.charges import ample, request

from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import LedgerError
from sonoshare_shared.protocol.documents.base import added
from sonoshare_shared.protocol.documents.charge import Charge, LedgerExport
from sonoshare_shared.protocol.keys import SigningKey

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"


def test_entries_say_the_day_only_and_no_two_have_the_same_salt(tmp_path: Path, key: SigningKey) -> None:
    """The time between reserve and commit is the training's length, which grows with the number of patients."""
    moments = iter([datetime(2026, 11, 28, 23, 59, second, 123_456, UTC) for second in range(10)])
    ledger = Ledger(tmp_path / "l.db", key=key, hospital="alpha", clock=lambda: next(moments), budgets=ample)
    for _ in range(3):
        ledger.commit(ledger.reserve(request()))
    charges = [entry.charge for entry in ledger.entries()]
    assert {charge.time for charge in charges} == {"2026-11-28"}
    assert len({charge.nonce for charge in charges}) == len(charges)
    assert all(len(charge.nonce) == 32 for charge in charges)
    assert not any(b"23:59" in entry.body for entry in ledger.entries())
    ledger.close()


def test_a_head_is_not_found_by_who_knows_everything_but_the_salt(tmp_path: Path, key: SigningKey) -> None:
    """Whoever knows the entry before and all that was charged tries every field there is, and finds no head."""
    now = datetime(2026, 11, 28, tzinfo=UTC)
    ledger = Ledger(tmp_path / "l.db", key=key, hospital="alpha", clock=lambda: now, budgets=ample)
    opened = ledger.head()
    ledger.commit(ledger.reserve(request()))
    _, reserved, committed = (entry.charge for entry in ledger.entries())
    known = reserved.model_copy(update={"previous": opened, "nonce": ""})
    days = [f"2026-11-{day:02d}" for day in range(1, 31)]
    guesses = {known.model_copy(update={"time": day}).digest() for day in days}
    assert reserved.digest() == committed.previous not in guesses
    assert all(len(charge.nonce) * 4 == 128 for charge in (reserved, committed))
    ledger.close()


def test_an_old_ledger_goes_on_and_its_entries_stay_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    shutil.copy(GOLDEN / "north" / "ledger.db", path)
    signing = SigningKey.load(GOLDEN / "north" / "identity.key")
    ledger = Ledger(path, key=signing, hospital="north", clock=lambda: datetime.now(UTC), budgets=ample)
    assert ledger.head() == LedgerExport.from_bytes((GOLDEN / "ledger-north.json").read_bytes()).head
    before = [entry.body for entry in ledger.entries()]
    ledger.commit(ledger.reserve(request(cohort=30)))
    ledger.verify()
    assert [entry.body for entry in ledger.entries()][: len(before)] == before
    export = LedgerExport.model_validate(ledger.export())
    assert [entry.body.encode() for entry in export.entries][: len(before)] == before
    assert len(export.verify(signing.public)) == len(before) + 2
    ledger.close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_ledger_of_a_newer_version_is_refused_in_one_line(open_ledger: Callable[..., Any], tmp_path: Path) -> None:
    open_ledger().close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
        database.execute("PRAGMA user_version = 7")
    with pytest.raises(LedgerError, match="the ledger was written by a newer version of SonoShare: version 7") as found:
        open_ledger()
    assert "\n" not in str(found.value)
    assert found.value.remedy == "update SonoShare"


def test_an_entry_with_a_field_of_a_newer_version_is_refused_by_its_name(
    open_ledger: Callable[..., Any], tmp_path: Path, key: SigningKey
) -> None:
    """A charge of tomorrow: the reader of today says what is the matter, and does not cry that the file was edited."""

    class Tomorrow(Charge):
        remark: str | None = added()

    ledger = open_ledger()
    last = ledger.entries()[-1].charge
    ledger.close()
    fields = last.model_dump(by_alias=True) | {"sequence": 1, "kind": "reserved", "previous": last.digest()}
    body = Tomorrow.model_validate(fields | {"remark": "new"}).canonical()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database, database:
        row = (1, hashlib.sha256(body).hexdigest(), body, key.sign(body).hex())
        database.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", row)
    with pytest.raises(LedgerError, match="made by a newer version of SonoShare: remark is unknown here"):
        open_ledger()
