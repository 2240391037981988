"""Making a hospital's ledger, once, and opening it under the budgets of its own policy.

A ledger that is gone is never made anew in passing: a fresh one would say that nothing was spent. The budgets are read
from ``policy.toml`` at each decision: an edit counts for the next charge of a node that runs, and a policy that cannot
be read refuses it.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sonoshare_client.node.changing import taking
from sonoshare_client.node.plan_check import study_events
from sonoshare_client.node.policy import Policy
from sonoshare_privacy.accounting import epsilon, merged
from sonoshare_privacy.budget import Budget, Budgets
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.durable import move
from sonoshare_shared.errors import LedgerError, PassedOnError
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.keys import SigningKey

if TYPE_CHECKING:
    from sonoshare_client.node.home import NodeHome


def make_ledger(path: Path, key: SigningKey, hospital: str, policy: Policy, clock: Callable[[], datetime]) -> None:
    """Make the empty ledger of a new node."""
    Ledger(path, key=key, hospital=hospital, clock=clock, budgets=lambda: _budgets(policy)).close()


def open_ledger(home: "NodeHome", clock: Callable[[], datetime]) -> Ledger:
    """Open the ledger of a node with its identity key; a change of the key that was cut off is ended first.

    Args:
        home: the node's folder.
        clock: returns the time in UTC.

    Raises:
        LedgerError: the ledger is missing, not intact, or not this hospital's; as PassedOnError, it has passed to an
            identity key that is not here.
        FederationError: another process does not end changing the key.
    """
    path = home.ledger_path
    if not path.exists() or path.stat().st_size == 0:
        raise LedgerError(
            f"{path.name} is missing, and with it the record of what was spent",
            remedy="put back its newest copy; without one this node must not train or audit again",
        )

    def opened(key: SigningKey) -> Ledger:
        return Ledger(path, key=key, hospital=home.hospital, clock=clock, budgets=lambda: _budgets(home.policy()))

    try:
        return opened(home.identity())
    except PassedOnError:
        # Killed between the ledger's entry and the key's file, or another process is between the two.
        with taking(home.state):
            try:
                return opened(home.identity())  # that process has ended it meanwhile
            except PassedOnError:
                if (following := home.next_identity()) is None:
                    raise
                ledger = opened(following)
                move(home.next_identity_key_path, home.identity_key_path)
                return ledger


def take_next_identity(home: "NodeHome", following: SigningKey) -> None:
    """Make the next identity key the node's own, in one step; the old private key is gone from the folder with it.

    Args:
        home: the node's folder.
        following: the key that the ledger has passed to. Where another process has put it in its place already, and a
            further next key lies there, that one stays: the ledger has not passed to it.

    Raises:
        FederationError: another process does not end doing so.
    """
    with taking(home.state):
        there = home.next_identity()
        if there is not None and there.public == following.public:
            move(home.next_identity_key_path, home.identity_key_path)


def epsilon_after(ledger: Ledger, plan: StudyPlan, delta: float, candidates: int | None = None) -> float:
    """Lifetime epsilon once a whole plan is spent.

    It is of everything charged in other studies, and of the larger of this study's charges and its whole plan.

    Args:
        ledger: what was charged.
        plan: the study.
        delta: at which.
        candidates: of so many candidates only; None for all that are planned.
    """
    charges = [signed.charge for signed in ledger.entries() if signed.charge.kind == "reserved"]
    others = [event for charge in charges if charge.study != plan.study for event in charge.events]
    here = [event for charge in charges if charge.study == plan.study for event in charge.events]
    return max(epsilon(merged([*others, *events]), delta) for events in (here, study_events(plan, candidates)))


def _budgets(policy: Policy) -> Budgets:
    rules = policy.budget
    return Budgets(study=Budget(rules.study_epsilon, rules.delta), lifetime=Budget(rules.lifetime_epsilon, rules.delta))
