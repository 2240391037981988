"""CASES 51-54 and 69: the ledger under tampering, rollback, kills, races and full disks."""

import os
import resource
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoshare_privacy.accounting import PureDP, SampledGaussian, epsilon
from sonoshare_privacy.budget import Budget, Budgets, ChargeRequest
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import BudgetError, InputError, IntegrityError, LedgerError, PassedOnError, PolicyError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.charge import Charge, LedgerExport, SignedCharge, taken_up, verify_chain
from sonoshare_shared.protocol.keys import SigningKey

TRAINING = SampledGaussian(0.25, 4.0, 10)


def request(
    study: str = "study-a",
    *events: SampledGaussian | PureDP,
    delta: float = 1e-5,
    cohort: int = 200,
    purpose: str = "round 0",
) -> ChargeRequest:
    return ChargeRequest(study, purpose, tuple(events) or (TRAINING,), delta, cohort)


def budgets(study: Any, lifetime: Any = 100.0, delta: float = 1e-5) -> Budgets:
    return Budgets(study=Budget(study, delta), lifetime=Budget(lifetime, delta))


def ample() -> Budgets:
    return budgets(1e6, 1e6)


def edit(path: Path, statement: str, *values: Any) -> None:
    """What somebody with the file but without the key can do."""
    database = sqlite3.connect(path)
    for name in ("entries_update", "entries_delete", "entries_order"):
        database.execute(f"DROP TRIGGER {name}")
    database.execute(statement, values)
    database.commit()
    database.close()


def test_reserved_counts_as_spent_and_commit_adds_nothing(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger()
    reservation = ledger.reserve(request())
    expected = epsilon([TRAINING], 1e-5)
    assert ledger.spent().epsilon == expected
    assert ledger.spent(1e-6, study="study-a").epsilon == epsilon([TRAINING], 1e-6)
    assert [r.digest for r in ledger.open_reservations()] == [reservation.digest]
    ledger.commit(reservation)
    assert ledger.spent().epsilon == expected
    assert ledger.open_reservations() == ()
    assert [entry.charge.kind for entry in ledger.entries()] == ["opened", "reserved", "committed"]
    with pytest.raises(LedgerError, match="committed before"):
        ledger.commit(reservation)


def test_the_running_epsilon_is_never_below_the_record_and_near_it(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger(budgets=budgets(30.0))
    for number in range(12):
        ledger.reserve(request("study-a" if number % 3 else "study-b", SampledGaussian(0.25, 4.0, 7)))
        charge = ledger.entries()[-1].charge
        exact = ledger.spent().epsilon
        assert exact <= charge.epsilon_lifetime <= 1.05 * exact
        assert charge.epsilon_study <= charge.epsilon_lifetime + 1e-9


def test_studies_audits_and_mechanisms_compose(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger()
    events: list[SampledGaussian | PureDP] = [
        TRAINING,
        PureDP(0.5),
        SampledGaussian(0.1, 2.0, 30),
        PureDP(0.25),
        SampledGaussian(1, 30.0, 5),
    ]
    for number, event in enumerate(events):
        ledger.reserve(request(f"study-{number % 2}", event))
    assert ledger.spent().epsilon == epsilon(events, 1e-5)
    assert ledger.spent(study="study-1").epsilon == epsilon(events[1::2], 1e-5)
    assert ledger.studies() == ("study-0", "study-1")


def test_case_53_a_hair_beyond_the_budget_is_refused_and_writes_nothing(open_ledger: Callable[..., Any]) -> None:
    exact = epsilon([TRAINING, TRAINING], 1e-5)
    tight = open_ledger("tight.db", budgets=budgets(exact - 1e-9))
    tight.reserve(request())
    head = tight.head()
    with pytest.raises(BudgetError, match="study study-a"):
        tight.reserve(request())
    assert tight.head() == head
    enough = open_ledger("enough.db", budgets=budgets(exact))
    enough.reserve(request())
    enough.reserve(request())
    assert enough.spent().epsilon == exact


def test_case_53_the_lifetime_budget_binds_across_studies(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger(budgets=budgets(50.0, lifetime=epsilon([TRAINING, PureDP(1.0)], 1e-5)))
    ledger.reserve(request("study-a"))
    ledger.reserve(request("study-b", PureDP(1.0)))
    with pytest.raises(BudgetError, match="lifetime"):
        ledger.reserve(request("study-c", PureDP(0.01)))


def test_case_53_of_two_processes_exactly_one_wins_the_last_unit(tmp_path: Path, key: SigningKey) -> None:
    limit = budgets(epsilon([TRAINING], 1e-5))
    for attempt in range(5):
        path = tmp_path / f"{attempt}.db"
        children = []
        for _ in range(4):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    ledger = Ledger(
                        path, key=key, hospital="alpha", clock=lambda: datetime.now(UTC), budgets=lambda: limit
                    )
                    ledger.reserve(request())
                    status = 0
                except BudgetError:
                    status = 3
                finally:
                    os._exit(status)
            children.append(child)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        assert codes == [0, 3, 3, 3]


def test_case_53_of_many_threads_exactly_one_wins(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger(budgets=budgets(epsilon([TRAINING], 1e-5)))
    results = []

    def attempt() -> None:
        try:
            results.append(ledger.reserve(request()))
        except BudgetError:
            results.append(None)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result is not None for result in results) == 1


@pytest.mark.parametrize("delta", [1 / 200, 0.01])
def test_delta_of_one_over_the_cohort_is_refused(open_ledger: Callable[..., Any], delta: float) -> None:
    with pytest.raises(PolicyError, match="not below"):
        open_ledger().reserve(request(delta=delta))
    with pytest.raises(PolicyError, match="not below"):
        open_ledger("other.db", budgets=budgets(5.0, delta=delta)).reserve(request())
    with pytest.raises(PolicyError, match="nothing to charge"):
        open_ledger().reserve(ChargeRequest("study-a", "nothing", (), 1e-5, 200))


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
        "DELETE FROM entries WHERE sequence = 99",  # only the triggers are gone
    ],
)
def test_case_51_an_edited_file_is_refused(open_ledger: Callable[..., Any], tmp_path: Path, statement: str) -> None:
    ledger = open_ledger()
    for _ in range(3):
        ledger.reserve(request())
    ledger.close()
    edit(tmp_path / "ledger.db", statement)
    if statement.endswith("99"):
        open_ledger().verify()  # missing triggers are made again at opening; nothing was lost
        return
    with pytest.raises(LedgerError):
        open_ledger()


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


def test_case_54_every_run_of_a_search_is_charged(open_ledger: Callable[..., Any]) -> None:
    ledger = open_ledger()
    values = []
    for attempt in range(4):
        ledger.reserve(request(purpose=f"learning rate trial {attempt}"))  # none of them is ever committed
        values.append(ledger.spent().epsilon)
    assert values == sorted(set(values))


def _child(path: Any, key: Any, acknowledged: Any, limit: Any = None) -> None:
    """Reserve until killed or failed; every acknowledged charge is written down at once."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    log = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    ledger = Ledger(path, key=key, hospital="alpha", clock=lambda: datetime.now(UTC), budgets=ample)
    for _ in range(200):
        reservation = ledger.reserve(request("study-a", PureDP(0.01)))
        os.write(log, reservation.digest.encode())
        ledger.commit(reservation)


def _fork(*arguments: Any) -> int:
    child = os.fork()
    if child == 0:
        try:
            _child(*arguments)
        finally:
            os._exit(9)
    return child


def _acknowledged(path: Path) -> set[Any]:
    text = path.read_text() if path.exists() else ""
    return {text[i : i + 64] for i in range(0, len(text), 64)}


def test_case_52_killed_at_any_moment_it_never_under_counts(tmp_path: Path, key: SigningKey) -> None:
    path, log = tmp_path / "ledger.db", tmp_path / "acknowledged"
    chance = np.random.default_rng(1)
    kept = 0
    for _ in range(12):
        child = _fork(path, key, log)
        time.sleep(0.02 + 0.15 * chance.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        ledger = Ledger(path, key=key, hospital="alpha", clock=lambda: datetime.now(UTC), budgets=ample)
        ledger.verify()
        digests = {entry.charge.digest() for entry in ledger.entries() if entry.charge.kind == "reserved"}
        assert _acknowledged(log) <= digests
        assert kept <= len(digests)
        kept = len(digests)
        ledger.close()
    assert kept > 0


@pytest.mark.parametrize("offset", range(4_000, 120_000, 4_100))
def test_case_69_a_disk_that_fills_up_loses_no_acknowledged_charge(
    tmp_path: Path, key: SigningKey, offset: Any
) -> None:
    path, log = tmp_path / "ledger.db", tmp_path / "acknowledged"
    child = _fork(path, key, log, offset)
    os.waitpid(child, 0)
    ledger = Ledger(path, key=key, hospital="alpha", clock=lambda: datetime.now(UTC), budgets=ample)
    ledger.verify()
    digests = {entry.charge.digest() for entry in ledger.entries()}
    assert _acknowledged(log) <= digests
    ledger.commit(ledger.reserve(request()))
    ledger.close()


def test_case_69_a_full_disk_is_a_ledger_error_and_the_next_charge_works(tmp_path: Path, key: SigningKey) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ledger = Ledger(
                tmp_path / "l.db", key=key, hospital="alpha", clock=lambda: datetime.now(UTC), budgets=ample
            )
            ledger.reserve(request("study-a", PureDP(0.1)))
            size = (tmp_path / "l.db-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            try:
                ledger.reserve(request("study-a", PureDP(0.1)))
            except LedgerError:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                ledger.reserve(request("study-a", PureDP(0.1)))
                ledger.verify()
                status = 0 if len(ledger.entries()) == 3 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_lowered_budget_counts_for_the_next_charge_of_an_open_ledger(open_ledger: Callable[..., Any]) -> None:
    limits = {"now": budgets(100.0)}
    ledger = open_ledger(budgets=lambda: limits["now"])
    ledger.reserve(request())
    limits["now"] = budgets(100.0, lifetime=ledger.spent().epsilon)
    with pytest.raises(BudgetError, match="lifetime"):
        ledger.reserve(request("study-b", PureDP(0.01)))
    limits["now"] = budgets(ledger.spent().epsilon / 2)
    with pytest.raises(BudgetError, match="study study-a"):
        ledger.reserve(request())
    limits["now"] = budgets(100.0)
    ledger.reserve(request())


def test_limits_that_cannot_be_read_refuse_and_write_nothing(open_ledger: Callable[..., Any]) -> None:
    def unreadable() -> None:
        raise InputError("policy.toml is not TOML", remedy="correct the file")

    ledger = open_ledger(budgets=unreadable)
    head = ledger.head()
    with pytest.raises(InputError, match="TOML"):
        ledger.reserve(request())
    assert ledger.head() == head
    ledger.verify()


def test_what_is_declared_is_charged_whatever_the_limits_and_binds_the_next_charge(
    open_ledger: Callable[..., Any],
) -> None:
    ledger = open_ledger(budgets=budgets(1.0, 1.5))
    over = SampledGaussian(0.25, 1.0, 100)
    ledger.declare([request("before", over), request("study-b", PureDP(0.25))])
    assert ledger.spent().epsilon == epsilon([over, PureDP(0.25)], 1e-5) > 1.5
    last = ledger.entries()[-1].charge
    assert (last.kind, last.epsilon_lifetime) == ("reserved", ledger.spent().epsilon)
    with pytest.raises(BudgetError, match="lifetime"):
        ledger.reserve(request("study-c", PureDP(0.01)))
    ledger.verify()
    assert len(LedgerExport.model_validate(ledger.export()).verify(ledger._public)) == 3


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (request("study-b", PureDP(0.25), delta=0.01), PolicyError),  # 0.01 is not below 1 / 200
        (ChargeRequest("study-b", "nothing", (), 1e-5, 200), PolicyError),
    ],
)
def test_a_declaration_is_charged_whole_or_not_at_all(
    open_ledger: Callable[..., Any], wrong: ChargeRequest, error: type[Exception]
) -> None:
    ledger = open_ledger()
    head = ledger.head()
    with pytest.raises(error):
        ledger.declare([request(), wrong])
    assert (ledger.head(), ledger.spent().epsilon) == (head, 0.0)


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
