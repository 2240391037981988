"""What a ledger has spent, said at once: exactly where that is known, and else the bound that charges are decided by.

    state/spent.json   {"head": ..., "delta": ..., "epsilon": ..., "exact": ...}

The number of record takes long to compose, up to seconds, and changes with every charge. So the running agent keeps
after each charge the ledger's upper bound (`Ledger.spent_at_most`), which the charge itself was decided by: it lies a
few per cent above the number of record at most, and never below it. Who asks for the number of record
(``hospital ledger``) waits for it once, and then it is kept in the place of the bound.

What is kept is believed for the ledger's head and the budget's delta that it was computed at, and for no other.
Nothing is decided by it.
"""

from contextlib import suppress
from dataclasses import dataclass

from sonoshare_client.node.home import NodeHome
from sonoshare_privacy.budget import Spent
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.state import read_state, write_state


@dataclass(frozen=True)
class LifeSpent:
    """What a ledger had spent in all when ``head`` was its newest entry.

    Attributes:
        head: of the ledger.
        delta: of the lifetime budget.
        epsilon: the number of record, or an upper bound of it.
        exact: whether it is the number of record.
    """

    head: str
    delta: float
    epsilon: float
    exact: bool


def spent_of_life(home: NodeHome, ledger: Ledger) -> Spent:
    """What the ledger has spent in all, at the lifetime budget's delta: the number of record, composed once a head.

    Raises:
        SonoShareError: the ledger or the policy cannot be read.
    """
    head, delta = ledger.head(), ledger.budgets.lifetime.delta
    kept = _kept(home, head, delta)
    if kept is not None and kept.exact:
        return Spent(kept.epsilon, delta)
    spent = ledger.spent(delta)
    _keep(home, ledger, LifeSpent(head, delta, spent.epsilon, exact=True))
    return spent


def spent_at_a_glance(home: NodeHome, ledger: Ledger) -> LifeSpent:
    """The same, or the upper bound where the number of record was not composed for this head.

    Raises:
        SonoShareError: the ledger or the policy cannot be read.
    """
    head, delta = ledger.head(), ledger.budgets.lifetime.delta
    kept = _kept(home, head, delta)
    if kept is None:
        bound = ledger.spent_at_most().epsilon
        kept = LifeSpent(head, delta, bound, exact=bound == 0)
        _keep(home, ledger, kept)
    return kept


def _kept(home: NodeHome, head: str, delta: float) -> LifeSpent | None:
    with suppress(OSError, IntegrityError):
        kept = read_state(home.state.spent_path, LifeSpent, remedy="it is computed anew")
        if (kept.head, kept.delta) == (head, delta):
            return kept
    return None


def _keep(home: NodeHome, ledger: Ledger, spent: LifeSpent) -> None:
    if ledger.head() == spent.head:  # nobody charged meanwhile
        with suppress(OSError):
            write_state(home.state.spent_path, spent)
