"""What a hospital sees of its own node: its ledger and its vault in figures. For its own eyes, never sent.

Two sets of figures: ``ledger_overview`` rests on the ledger alone, ``node_overview`` on ledger and vault.
"""

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sonoshare_client.node.evidence import EvidenceFolder
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_client.node.spent import spent_at_a_glance, spent_of_life
from sonoshare_client.vault.store import Vault
from sonoshare_privacy.budget import Budget, Spent
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import InputError, LedgerError
from sonoshare_shared.protocol.documents.charge import Charge

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class LedgerOverview:
    """The ledger of a hospital.

    Attributes:
        spent: of its life so far, at most; None if the ledger is not intact.
        exact: whether that is the number of record.
        budget: of its life.
        entries: all charges, in order.
        head: digest of the last entry; None if the ledger is not intact.
        studies: names of the studies that were charged.
        broken: why the ledger is not intact; empty if it is.
    """

    spent: Spent | None
    exact: bool
    budget: Budget
    entries: tuple[Charge, ...]
    head: str | None
    studies: tuple[str, ...]
    broken: str

    @property
    def intact(self) -> bool:
        """Whether order, chain and signatures hold."""
        return not self.broken


@dataclass(frozen=True)
class NodeOverview:
    """A node.

    Attributes:
        patients: in the vault, without those held back.
        held_out: of them never trained on.
        images: of these patients.
        twins: undecided pairs of patients who look like one person.
        held_back: patients who wait for a decision about such a pair.
        ledger: the ledger.
        evidence: digest of evidence of misconduct that stops this node until a person has looked; None if none stands.
    """

    patients: int
    held_out: int
    images: int
    twins: int
    held_back: int
    ledger: LedgerOverview
    evidence: str | None


def ledger_overview(home: NodeHome, clock: Clock, *, exact: bool = True) -> LedgerOverview:
    """Read the whole ledger and check it.

    Args:
        home: the node.
        clock: returns the time in UTC.
        exact: wait for the number of record, rather than take an upper bound where it is not known.
    """
    rules = home.policy().budget
    budget = Budget(rules.lifetime_epsilon, rules.delta)
    try:
        with closing(open_ledger(home, clock)) as ledger:
            spent, known = _spent(home, ledger, exact=exact)
            return LedgerOverview(  # what was opened has been checked, entry by entry
                spent=spent,
                exact=known,
                budget=budget,
                entries=tuple(signed.charge for signed in ledger.entries()),
                head=ledger.head(),
                studies=ledger.studies(),
                broken="",
            )
    except LedgerError as error:
        return LedgerOverview(
            spent=None, exact=False, budget=budget, entries=(), head=None, studies=(), broken=str(error)
        )


def _spent(home: NodeHome, ledger: Ledger, *, exact: bool) -> tuple[Spent, bool]:
    if exact:
        return spent_of_life(home, ledger), True
    known = spent_at_a_glance(home, ledger)
    return Spent(known.epsilon, known.delta), known.exact


def draw_ledger_overview(home: NodeHome, clock: Clock, path: Path) -> None:
    """Draw the lifetime epsilon after each charge, and its limit, as a PNG.

    Raises:
        LedgerError: the ledger is not intact.
    """
    from sonoshare_privacy.plots import draw_ledger  # noqa: PLC0415 - loads a plotting library

    with closing(open_ledger(home, clock)) as ledger:
        draw_ledger(ledger.entries(), ledger.budgets.lifetime, path)


def export_ledger(home: NodeHome, clock: Clock, path: Path) -> None:
    """Write the whole signed ledger as JSON (`LedgerExport`), which anybody with the roster can verify.

    Raises:
        LedgerError: the ledger is not intact.
        InputError: the file exists, or cannot be written.
    """
    if path.exists():
        raise InputError(f"{path.name} exists", remedy="give the name of a new file")
    with closing(open_ledger(home, clock)) as ledger:
        document = ledger.export()
    try:
        write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())
    except OSError as error:
        raise InputError(f"cannot write {path.name}: {error.strerror}", remedy="give another file") from error


def node_overview(home: NodeHome, clock: Clock) -> NodeOverview:
    """Count the vault and read the ledger."""
    with Vault(home) as vault:
        patients = vault.patients()
        twins = sum(not twin.two_people for twin in vault.twins())
        held_back = len(vault.held_back())
    return NodeOverview(
        patients=len(patients),
        held_out=sum(patient.held_out for patient in patients),
        images=sum(len(patient.images) for patient in patients),
        twins=twins,
        held_back=held_back,
        ledger=ledger_overview(home, clock, exact=False),
        evidence=EvidenceFolder(home.state.evidence_path).standing(),
    )
