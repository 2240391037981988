"""The hospital's privacy ledger: every charge durable before the first gradient, none ever undone.

Rules, each with a test:

1. Append only. Triggers (``ledger_file``) refuse UPDATE and DELETE; entries are hash-chained and signed by the
   hospital's identity key, so a file edited without the key is noticed at the next open, and by anybody who holds an
   export.
2. Reserve, then commit. A reservation counts as spent from the moment `Ledger.reserve` returns: it is then on
   disk (WAL, synchronous=FULL). A crash between reserve and commit leaves it spent: over-counted, never under-counted.
   There is no release of a reservation.
3. One winner. Reserving happens inside BEGIN IMMEDIATE after reading whatever other processes have appended.
4. Budgets. Epsilon of the *whole* composition is recomputed by the accountant of record at every reserve, once over
   the study at the study budget's delta, once over the hospital's life at the lifetime budget's delta. Deltas of
   1 / nominal cohort or more are refused. The limits are asked for at each decision, so one that was lowered since
   counts; limits that cannot be read refuse.
5. Rollback is noticed from outside: heads that servers and peers have witnessed must be in this chain
   (`Ledger.require_not_older_than`). A restored backup, a copied database and a fresh one all fail it.
6. Heads tell nothing. An entry says the day and no more, and holds 128 random bits: how long a training took, and so
   how many patients it had, can neither be read off an entry nor found by trying entries against a head.
7. One ledger, whatever its key. `Ledger.succeed` passes it to a new identity key in an entry that both sign; what was
   spent stays spent, and nobody who has the old key alone can write to it any more.
8. Bytes first. Digests, chain and signatures are over the bytes in the file, whatever fields charges gain later.
9. A declaration is a charge that no budget refuses. `Ledger.declare` charges what was spent on the same patients under
   another ledger; where that is over a limit, every later reservation is refused.

Neighbouring relation of every number: add or remove one patient with all of their images.

Not promised: secrecy of the file (it holds no patient data), or protection from somebody who has the identity key and
no witness against them.
"""

import math
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sonoshare_privacy.accounting import Event, epsilon, merged
from sonoshare_privacy.budget import Budget, Budgets, ChargeRequest, Reservation, Spent, at_most, within
from sonoshare_privacy.ledger_file import open_ledger_file, require_triggers, unusable
from sonoshare_shared.errors import IntegrityError, LedgerError, NewerVersionError, PassedOnError, PolicyError
from sonoshare_shared.protocol.documents.base import public_day
from sonoshare_shared.protocol.documents.charge import (
    NO_PREVIOUS,
    SUCCESSION_SCHEMA,
    Charge,
    ExportedCharge,
    LedgerExport,
    SignedCharge,
    Succession,
    first_key,
    taken_up,
    verify_chain,
)
from sonoshare_shared.protocol.keys import PublicKey, SigningKey

__all__ = ["Budget", "Budgets", "ChargeRequest", "Clock", "Ledger", "Reservation", "Spent"]

Clock = Callable[[], datetime]
BudgetSource = Callable[[], Budgets]
"""Gives the hospital's limits as they stand now; what it raises, refuses the charge."""
Bound = Callable[[tuple[Event, ...], Budget, str], float]
"""What events come to at a budget's delta; refuses, by whose budget it is, what may not be charged."""

_SALT_BYTES: Final = 16


class Ledger:
    """A hospital's ledger. Safe to share between threads and to open in several processes.

    Args:
        path: SQLite file, created if absent; its folder exists.
        key: the hospital's identity key.
        hospital: identifier.
        clock: returns the time in UTC.
        budgets: gives the hospital's limits; asked at each decision.

    Raises:
        LedgerError: the file is not an intact ledger of this hospital and key, of a newer version of SonoShare, or
            cannot be written; as `PassedOnError`, it has passed to another identity key.
    """

    def __init__(self, path: Path, *, key: SigningKey, hospital: str, clock: Clock, budgets: BudgetSource) -> None:
        self.path, self.hospital, self._budgets = path, hospital, budgets
        self._key, self._public, self._clock = key, key.public, clock
        self._signer: PublicKey | None = None
        self._lock = threading.RLock()
        self._entries: list[SignedCharge] = []
        self._digests: list[str] = []
        self._positions: dict[str, int] = {}
        self._events: dict[str, tuple[Event, ...]] = {}
        self._committed: set[str] = set()
        self._database = open_ledger_file(path)
        try:
            with self._writing():
                if not self._entries:
                    self._append(Charge(**self._next("opened")))
            self._require_own()
            require_triggers(self._database)
        except BaseException:
            self._database.close()
            raise

    @property
    def budgets(self) -> Budgets:
        """The hospital's limits as they stand now."""
        return self._budgets()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def reserve(self, request: ChargeRequest) -> Reservation:
        """Charge the budgets, durably, for events that may run once this returns.

        Raises:
            PolicyError: a delta is not below 1 / nominal cohort, or there is nothing to charge.
            BudgetError: the study's or the lifetime budget would be exceeded; nothing was written.
            LedgerError: the ledger is not intact or cannot be written; treat the charge as made.
            SonoShareError: the limits cannot be read; nothing was written.
        """
        with self._writing():
            return self._reserved(request, within)

    def declare(self, requests: Sequence[ChargeRequest]) -> None:
        """Charge, all of it or nothing, what was spent on these patients under another ledger.

        Raises:
            PolicyError: a delta is not below 1 / nominal cohort, there is nothing to charge, or no epsilon holds.
            LedgerError: the ledger is not intact or cannot be written; treat the charges as made.
            SonoShareError: the limits cannot be read; nothing was written.
        """
        with self._writing():
            for request in requests:
                self._reserved(request, _whatever)

    def commit(self, reservation: Reservation) -> None:
        """Record that what a reservation paid for was released.

        Raises:
            LedgerError: the reservation is not this ledger's, or was committed before.
        """
        with self._writing():
            position = self._positions.get(reservation.digest)
            if position is None or self._entries[position].charge.kind != "reserved":
                raise LedgerError("the reservation is not in this ledger", remedy="reserve first")
            if reservation.digest in self._committed:
                raise LedgerError("the reservation was committed before", remedy="reserve again for a second release")
            fields = self._next("committed")
            self._append(
                Charge(
                    **fields,
                    study=reservation.charge.study,
                    purpose=reservation.charge.purpose,
                    epsilon_study=self._running(reservation.charge.study),
                    epsilon_lifetime=self._entries[-1].charge.epsilon_lifetime,
                    reservation=reservation.digest,
                )
            )

    def succeed(self, new: SigningKey) -> None:
        """Pass the ledger on to a new identity key: the old one signs its last entry, and this ledger has the new one.

        To the key that it has it passes without an entry: a change that was cut off is made again.

        Raises:
            LedgerError: it has passed to another key, is not intact or cannot be written.
        """
        if new.public == self._public:
            return
        with self._writing():
            fields, old = self._next("succession"), self._public.hex
            said = taken_up(self.hospital, fields["sequence"], fields["previous"], old, new.public.hex)
            keys = Succession(old=old, new=new.public.hex, signature=new.sign(said).hex())
            lifetime = self._entries[-1].charge.epsilon_lifetime
            self._append(Charge(**fields, schema=SUCCESSION_SCHEMA, epsilon_lifetime=lifetime, succession=keys))
        with self._lock:
            self._key, self._public = new, new.public

    def last_charge(self) -> str:
        """Digest of the last entry that is no succession: it changes with every charge, and with nothing else."""
        with self._reading():
            pairs = zip(reversed(self._entries), reversed(self._digests), strict=True)
            return next(digest for signed, digest in pairs if signed.charge.succession is None)

    def head(self) -> str:
        """Digest of the last entry, 64 hexadecimal characters; what others witness."""
        with self._reading():
            return self._digests[-1]

    def entries(self) -> tuple[SignedCharge, ...]:
        """All entries, in order."""
        with self._reading():
            return tuple(self._entries)

    def spent(self, delta: float | None = None, *, study: str | None = None) -> Spent:
        """Epsilon of record of everything reserved so far.

        Args:
            delta: at which; by default the budget's.
            study: of one study; by default of the hospital's life.
        """
        at = delta
        if at is None:
            budgets = self.budgets
            at = (budgets.lifetime if study is None else budgets.study).delta
        with self._reading():
            lists = self._events.values() if study is None else [self._events.get(study, ())]
            events = merged([event for events in lists for event in events])
        return Spent(epsilon(events, at), at)

    def spent_at_most(self) -> Spent:
        """Upper bound of what was reserved in the hospital's life, at its budget's delta: what charges are decided by.

        Quick after a charge, which has worked it out; the number of record itself where that is near the limit.
        """
        budget = self.budgets.lifetime
        with self._reading():
            events = merged([event for events in self._events.values() for event in events])
        return Spent(at_most(events, budget), budget.delta)

    def studies(self) -> tuple[str, ...]:
        """Names of all studies charged so far, in order of their first charge."""
        with self._reading():
            return tuple(self._events)

    def open_reservations(self) -> tuple[Reservation, ...]:
        """Reservations without a commit: spent, but nothing is known to have been released."""
        with self._reading():
            pairs = zip(self._entries, self._digests, strict=True)
            return tuple(
                Reservation(signed.charge, digest)
                for signed, digest in pairs
                if signed.charge.kind == "reserved" and digest not in self._committed
            )

    def verify(self) -> None:
        """Read the whole file again and check order, chain, signatures and triggers.

        Raises:
            LedgerError: something does not fit.
        """
        with self._lock:
            known = self._digests
            self._forget()
            with self._reading():
                require_triggers(self._database)
                if self._digests[: len(known)] != known:
                    raise LedgerError("the ledger is older than it was", remedy="restore the newest file")

    def require_not_older_than(self, witnessed: Iterable[str]) -> None:
        """Refuse to go on if others have seen entries that are not here.

        Args:
            witnessed: heads of this ledger that servers, peers or signed statements have recorded.

        Raises:
            LedgerError: one of them is not in this chain: the ledger was restored, copied or replaced.
        """
        with self._reading():
            for head in witnessed:
                if head not in self._positions:
                    raise LedgerError(
                        f"this ledger does not contain its witnessed head {head[:12]}",
                        remedy="a backup or copy was restored: bring back the newest ledger",
                    )

    def export(self) -> dict[str, object]:
        """The whole ledger as JSON-able `LedgerExport`, which anybody can verify offline."""
        with self._reading():
            document = LedgerExport(
                hospital=self.hospital,
                public_key=(self._signer or self._public).hex,
                head=self._digests[-1],
                entries=tuple(
                    ExportedCharge(body=entry.body.decode(), signature=entry.signature) for entry in self._entries
                ),
            )
        return document.model_dump(mode="json", by_alias=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the write lock, with every other process's entries read; all or nothing."""
        with self._lock:
            known = len(self._entries)
            try:
                self._database.execute("BEGIN IMMEDIATE")
                self._refresh()
                self._require_own()
                known = len(self._entries)
                yield
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                self._undo(known)
                raise unusable(error) from error
            except BaseException:
                self._undo(known)
                raise

    def _require_own(self) -> None:
        """Only the newest identity key writes.

        Raises:
            PassedOnError: this is an older one.
        """
        if self._signer not in {None, self._public}:
            raise PassedOnError(
                "the ledger has passed to another identity key than the one that is here",
                remedy="run it again; if that is of no use, bring back the newest identity.key",
            )

    def _undo(self, known: int) -> None:
        """Roll back, and forget what was appended in memory only."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")
        if len(self._entries) > known:
            self._forget()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            try:
                self._refresh()
            except sqlite3.Error as error:
                raise unusable(error) from error
            yield

    def _refresh(self) -> None:
        """Read and verify what was appended since; notice if what we knew is gone."""
        start = len(self._entries)
        cursor = self._database.execute(
            "SELECT sequence, digest, body, signature FROM entries WHERE sequence >= ? ORDER BY sequence",
            (max(0, start - 1),),
        )
        rows = cursor.fetchall()
        if start:
            if not rows or rows[0][0] != start - 1 or rows[0][1] != self._digests[-1]:
                raise LedgerError("the ledger is older than it was", remedy="restore the newest file")
            rows = rows[1:]
        previous = self._digests[-1] if self._digests else NO_PREVIOUS
        try:
            read = [(row, SignedCharge.read(row[2], row[3])) for row in rows]
            if self._signer is None and read:
                self._signer = first_key((signed for _, signed in read), self._public)
            for row, signed in read:
                previous = self._read_entry(row, signed, previous)
        except NewerVersionError as error:
            raise LedgerError(f"the ledger cannot be read: {error.message}", remedy=error.remedy) from error
        except (IntegrityError, ValueError) as error:
            raise LedgerError(
                f"the ledger is not intact: {error}", remedy="stop, keep the file, and tell the data-protection officer"
            ) from error

    def _read_entry(self, row: tuple[int, str, bytes, str], signed: SignedCharge, previous: str) -> str:
        """Check one row against the chain, remember it, and return its digest."""
        sequence, digest, start = row[0], row[1], len(self._entries)
        signer = self._signer or self._public
        found = verify_chain([signed], signer, self.hospital, start=start, previous=previous)
        if found.digest != digest or sequence != start:
            raise IntegrityError(f"ledger entry {start} is misplaced")
        self._remember(signed, digest)
        return digest

    def _next(self, kind: str) -> dict[str, Any]:
        return {
            "hospital": self.hospital,
            "sequence": len(self._entries),
            "kind": kind,
            "time": public_day(self._clock()).date().isoformat(),
            "previous": self._digests[-1] if self._digests else NO_PREVIOUS,
            "nonce": secrets.token_hex(_SALT_BYTES),
        }

    def _reserved(self, request: ChargeRequest, bound: Bound) -> Reservation:
        """Append a charge, with what study and life come to by ``bound``, which may refuse it."""
        # Read once others' entries are: limits and what they are compared with are of the same moment.
        budgets = self.budgets
        _check(request, budgets)
        study = merged((*self._events.get(request.study, ()), *request.events))
        life = merged((*(event for events in self._events.values() for event in events), *request.events))
        charge = Charge(
            **self._next("reserved"),
            study=request.study,
            purpose=request.purpose,
            events=request.events,
            delta=request.delta,
            nominal_cohort=request.nominal_cohort,
            epsilon_study=bound(study, budgets.study, f"study {request.study}"),
            epsilon_lifetime=bound(life, budgets.lifetime, "the hospital's lifetime"),
        )
        return Reservation(charge, self._append(charge))

    def _append(self, charge: Charge) -> str:
        body, digest = charge.canonical(), charge.digest()
        signature = self._key.sign(body).hex()
        self._database.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (charge.sequence, digest, body, signature))
        self._remember(SignedCharge(body, signature, charge), digest)
        return digest

    def _remember(self, signed: SignedCharge, digest: str) -> None:
        charge = signed.charge
        self._positions[digest] = len(self._entries)
        self._entries.append(signed)
        self._digests.append(digest)
        if charge.kind == "reserved":
            self._events[charge.study] = merged((*self._events.get(charge.study, ()), *charge.events))
        elif charge.kind == "committed":
            self._committed.add(charge.reservation)
        self._signer = self._signer or self._public
        if charge.succession is not None:  # checked by the chain, or made here
            self._signer = PublicKey.from_hex(charge.succession.new)

    def _forget(self) -> None:
        """Drop what is in memory; the next access reads and verifies the whole file."""
        self._entries, self._digests, self._positions, self._events = [], [], {}, {}
        self._committed = set()
        self._signer = None

    def _running(self, study: str) -> float:
        """The bound that the study's last entry states."""
        return next(s.charge.epsilon_study for s in reversed(self._entries) if s.charge.study == study)


def _whatever(events: tuple[Event, ...], budget: Budget, _whose: str) -> float:
    """Epsilon of record at a budget's delta, whatever its limit."""
    spent = epsilon(events, budget.delta)
    if not math.isfinite(spent):
        raise PolicyError(f"no epsilon holds at delta {budget.delta:g}", remedy="raise budget.delta in policy.toml")
    return spent


def _check(request: ChargeRequest, budgets: Budgets) -> None:
    if not request.events:
        raise PolicyError("nothing to charge", remedy="name the mechanisms that will run")
    for delta in (request.delta, budgets.study.delta, budgets.lifetime.delta):
        if request.nominal_cohort < 1 or not 0 < delta * request.nominal_cohort < 1:
            raise PolicyError(
                f"delta {delta:g} is not below 1 / {request.nominal_cohort} patients",
                remedy="lower delta in the plan or in policy.toml",
            )
