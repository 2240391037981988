"""CASE 51: a ledger that was edited, rolled back, put in another's place or exported and changed."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.privacy.charges import TRAINING, request

from sonoshare_privacy.accounting import PureDP
from sonoshare_shared.errors import IntegrityError, LedgerError
from sonoshare_shared.protocol.documents.charge import LedgerExport
from sonoshare_shared.protocol.keys import SigningKey


def edit(path: Path, statement: str, *values: Any) -> None:
    """What somebody with the file but without the key can do."""
    database = sqlite3.connect(path)
    for name in ("entries_update", "entries_delete", "entries_order"):
        database.execute(f"DROP TRIGGER {name}")
    database.execute(statement, values)
    database.commit()
    database.close()


def test_sql_cannot_change_or_remove_an_entry(open_ledger: Callable[..., Any], tmp_path: Path) -> None:
    open_ledger().reserve(request())
    database = sqlite3.connect(tmp_path / "ledger.db")
    for statement in (
        "DELETE FROM entries WHERE sequence = 1",
        "UPDATE entries SET signature = ''",
        "INSERT INTO entries VALUES (7, 'x', '', '')",
        "INSERT OR REPLACE INTO entries VALUES (1, 'x', '', '')",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            database.execute(statement)
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = CAST(replace(body, '4,', '9,') AS BLOB) WHERE sequence = 1",
        "UPDATE entries SET body = CAST(replace(body, 'round 0', 'round 1') AS BLOB) WHERE sequence = 2",
        "UPDATE entries SET signature = (SELECT signature FROM entries WHERE sequence = 1) WHERE sequence = 2",
        "UPDATE entries SET digest = 'aa' WHERE sequence = 1",
        "DELETE FROM entries WHERE sequence = 1",
        "DELETE FROM entries WHERE sequence = 0",
        "UPDATE entries SET sequence = sequence + 10",
        "UPDATE entries SET body = x'00' WHERE sequence = 3",
    ],
)
def test_case_51_an_edited_file_is_refused(open_ledger: Callable[..., Any], tmp_path: Path, statement: str) -> None:
    ledger = open_ledger()
    for _ in range(3):
        ledger.reserve(request())
    ledger.close()
    edit(tmp_path / "ledger.db", statement)
    with pytest.raises(LedgerError):
        open_ledger()


def test_case_51_triggers_that_are_gone_are_made_again(open_ledger: Callable[..., Any], tmp_path: Path) -> None:
    """Without them nothing was lost yet, and from the next opening nothing can be."""
    ledger = open_ledger()
    ledger.reserve(request())
    ledger.close()
    edit(tmp_path / "ledger.db", "DELETE FROM entries WHERE sequence = 99")
    open_ledger().verify()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database, pytest.raises(sqlite3.IntegrityError):
        database.execute("DELETE FROM entries WHERE sequence = 1")


def test_case_51_an_edit_under_a_running_ledger_is_noticed(open_ledger: Callable[..., Any], tmp_path: Path) -> None:
    ledger = open_ledger()
    ledger.reserve(request())
    ledger.reserve(request())
    edit(tmp_path / "ledger.db", "DELETE FROM entries WHERE sequence = 2")
    with pytest.raises(LedgerError):
        ledger.reserve(request())
    with pytest.raises(LedgerError):
        ledger.verify()


def test_case_51_a_restored_backup_is_older_than_its_witnessed_head(
    open_ledger: Callable[..., Any], tmp_path: Path
) -> None:
    ledger = open_ledger()
    ledger.reserve(request())
    early = ledger.head()
    ledger.close()
    shutil.copy(tmp_path / "ledger.db", tmp_path / "backup.db")
    ledger = open_ledger()
    ledger.reserve(request())
    late = ledger.head()
    ledger.require_not_older_than([early, late])
    restored = open_ledger("backup.db")
    restored.require_not_older_than([early])
    with pytest.raises(LedgerError, match="witnessed head"):
        restored.require_not_older_than([early, late])
    restored.reserve(request())  # a copy that went its own way
    with pytest.raises(LedgerError, match="witnessed head"):
        restored.require_not_older_than([late])
    with pytest.raises(LedgerError, match="witnessed head"):
        open_ledger("fresh.db").require_not_older_than([early])


def test_case_51_the_last_row_removed_is_seen_by_the_witness(open_ledger: Callable[..., Any], tmp_path: Path) -> None:
    ledger = open_ledger()
    ledger.reserve(request())
    ledger.reserve(request())
    head = ledger.head()
    ledger.close()
    edit(tmp_path / "ledger.db", "DELETE FROM entries WHERE sequence = 2")
    with pytest.raises(LedgerError, match="witnessed head"):
        open_ledger().require_not_older_than([head])


def test_a_ledger_of_another_hospital_or_key_is_refused(open_ledger: Callable[..., Any]) -> None:
    open_ledger().reserve(request())
    with pytest.raises(LedgerError, match="not intact"):
        open_ledger(hospital="beta")
    with pytest.raises(LedgerError, match="not intact"):
        open_ledger(signing=SigningKey.generate())


def test_two_new_ledgers_differ(open_ledger: Callable[..., Any]) -> None:
    assert open_ledger("a.db").head() != open_ledger("b.db").head()


def test_junk_in_the_file_s_place_is_refused(open_ledger: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database" * 400)
    with pytest.raises(LedgerError, match="could not be written or read"):
        open_ledger()


def test_an_export_verifies_anywhere_and_any_change_is_noticed(
    open_ledger: Callable[..., Any], key: SigningKey
) -> None:
    ledger = open_ledger()
    ledger.commit(ledger.reserve(request("study-a", TRAINING, PureDP(0.5))))
    document = LedgerExport.model_validate(ledger.export())
    assert document.verify(key.public) == tuple(entry.charge for entry in ledger.entries())
    assert document.head == ledger.head()
    with pytest.raises(IntegrityError):
        document.verify(SigningKey.generate().public)
    with pytest.raises(IntegrityError):
        document.model_copy(update={"entries": document.entries[:-1]}).verify(key.public)
    changed = document.entries[1].body.replace("round 0", "nothing")
    assert changed != document.entries[1].body
    entries = (document.entries[0], document.entries[1].model_copy(update={"body": changed}), document.entries[2])
    with pytest.raises(IntegrityError):
        document.model_copy(update={"entries": entries}).verify(key.public)
