"""Opening the hospital's ledger under the budgets of its own policy."""

from collections.abc import Callable
from datetime import datetime

from sonoshare_client.home import NodeHome
from sonoshare_privacy.budget import Budget, Budgets
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.keys import SigningKey


def open_ledger(home: NodeHome, key: SigningKey, clock: Callable[[], datetime]) -> Ledger:
    """Open the ledger of a node, or make it.

    Args:
        home: the node's folder.
        key: its identity key.
        clock: returns the time in UTC.

    Raises:
        LedgerError: the ledger is not intact or not this hospital's.
        InputError: the policy cannot be read.
    """
    rules = home.policy().budget
    budgets = Budgets(
        study=Budget(rules.study_epsilon, rules.delta), lifetime=Budget(rules.lifetime_epsilon, rules.delta)
    )
    return Ledger(home.ledger_path, key=key, hospital=home.hospital, clock=clock, budgets=budgets)
