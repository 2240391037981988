"""What every action of the coordinator needs, and what it knows of the hospitals: their newest signed views.

Views are kept for the whole consortium, not for a study, in the coordinator's folder; their ledger heads go into the
log. A hospital whose view is older than what the log shows of it has restored a backup: nothing more is sent to it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sonoshare_server.federation.fleet import Fleet
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.queue.actions import Action, require_asked_for
from sonoshare_server.queue.turns import Ticket, turn
from sonoshare_server.queue.wanted import wanted
from sonoshare_shared.errors import FederationError, IntegrityError
from sonoshare_shared.protocol.documents import Roster
from sonoshare_shared.protocol.documents.view import Shown
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.log_index import Entry, LogIndex, ledger_head_entry
from sonoshare_shared.protocol.misconduct import require_ledger_not_older
from sonoshare_shared.protocol.translog import TransparencyLog
from sonoshare_shared.protocol.views import SeenView, verified_view


@dataclass(frozen=True)
class Coordinator:
    """One action on one study: the coordinator's folder, the study, the hospitals and the open log.

    Attributes:
        home: the coordinator's folder.
        study: the study.
        fleet: the hospitals.
        log: the open log.
        absent: hospitals that did not answer when they were last asked in this action.
        barred: hospitals that nothing more is sent to in this action.
        busy: hospitals that are answering something right now, and would answer nothing else before.
        clock: seconds that only grow.
        pause: waits for so many seconds.
        action: what a command has asked for; None where there is none (tests).
        by_files: hospitals whose answers take as long as somebody carries them.
    """

    home: CoordinatorHome
    study: Study
    fleet: Fleet
    log: TransparencyLog
    absent: set[str] = field(default_factory=set)
    barred: set[str] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    action: Action | None = None
    by_files: frozenset[str] = frozenset()

    def require_wanted(self) -> None:
        """Check that somebody still waits for this action.

        Raises:
            StoppedError: nobody does.
        """
        if self.action is not None:
            require_asked_for(self.study, self.action)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have the hospitals to this action alone, for one exchange and what follows from it.

        Raises:
            StoppedError: nobody waits for this action any more.
        """
        action = self.action or Action("")
        told: list[dict[str, str]] = []

        def look(ahead: list[Ticket]) -> None:
            self.require_wanted()
            first = [{"study": other.study, "what": other.what} for other in ahead]
            if first != told:
                told[:] = first
                self.study.event("queued", ahead=first)

        priority = wanted(self.study).priority
        with turn(self.home, Ticket(self.study.plan.study, action.words, action.run, priority), look):
            self.log.catch_up()
            yield

    @property
    def hospitals(self) -> tuple[str, ...]:
        """Hospitals of the plan, in a fixed order."""
        return tuple(sorted(self.study.plan.cohorts))

    def logged(self, entry: Entry) -> int:
        """Index of an entry in the log; it is appended if it is not there yet.

        Raises:
            InputError: the log shows another entry in its place.
        """
        index = self.log.index_of(entry)
        return self.log.append(entry) if index is None else index

    def views(self) -> dict[str, SeenView]:
        """Newest view of every hospital of the roster that has one."""
        roster, found = self.home.roster, {}
        for hospital, envelope in self.home.views().items():
            try:
                found[hospital] = verified_view(envelope, hospital, roster, self.index_for(roster))
            except IntegrityError:
                continue  # of a key or a hospital that has left the roster since
        return found

    def index_for(self, roster: Roster) -> LogIndex:
        """What the log says, up to every change of a key that a roster names: another process may have logged one."""
        newest = (roster.successions or ())[-1:]
        if any(self.log.index.passed_on(PublicKey.from_hex(said.old)) is None for said in newest):
            self.log.catch_up()
        return self.log.index

    def is_former(self, seen: SeenView) -> bool:
        """Whether a view is signed by a key that was passed on: its hospital has not seen yet that it was."""
        return self.log.index.passed_on(seen.key) is not None

    def shown(self, hospital: str, views: Mapping[str, SeenView] | None = None) -> Shown:
        """What a hospital is shown with a request: the log from where it stands, and the others' views.

        Args:
            hospital: who is shown it.
            views: the newest views, where they are in hand.
        """
        views = self.views() if views is None else views
        part = self.log.part(views[hospital].log_size if hospital in views else 0)
        return Shown(log=part, views={name: seen.envelope for name, seen in views.items() if name != hospital})

    def keep(self, seen: SeenView) -> None:
        """Keep a hospital's newest view, and log its ledger head, unless it is by a key that was passed on.

        Raises:
            IntegrityError: the hospital's ledger is older than the log shows; as MisconductError, that is proved.
        """
        require_ledger_not_older(seen.ledger, seen.view.ledger, self.log.index)
        self.home.keep_view(seen.view.hospital, seen.envelope)
        newest = self.log.index.newest_head(seen.key)
        if self.is_former(seen):
            return  # its newest key will say the same of a longer ledger
        if newest is None or newest.head.head != seen.ledger.head:
            self.logged(ledger_head_entry(seen.ledger, seen.view.ledger))

    def require_own_log(self, seen: SeenView) -> None:
        """Check that this coordinator still has the log that a hospital was shown.

        Raises:
            FederationError: it has not: the whole action must stop, before another log is signed.
        """
        held = seen.log
        if held is None or (held.size <= len(self.log) and self.log.root(held.size).hex() == held.root):
            return
        raise FederationError(
            f"{seen.view.hospital} holds a log of {held.size} entries that this coordinator signed and no longer has",
            remedy="an old log.jsonl was restored: bring back the newest (every hospital holds a copy)",
        )


def identity_key(roster: Roster, hospital: str) -> PublicKey:
    """Identity key of a hospital of the roster.

    Raises:
        IntegrityError: the roster names no such hospital.
    """
    entry = roster.hospital(hospital)
    if entry is None:
        raise IntegrityError(f"{hospital} is not in the roster")
    return entry.key
