"""What a ledger has spent, without waiting for the accountant where it has spoken already.

    state/spent.json   {"head": ..., "delta": ..., "epsilon": ...}

The number of record takes seconds to compute, and changes with the ledger's head and the budget's delta alone. It is
kept with both, and believed only where both are the same. The running agent keeps it after each charge, so that a look
at the node is quick. Nothing is decided by it: a charge is always composed anew.
"""

from contextlib import suppress
from dataclasses import dataclass

from sonoshare_client.node.home import NodeHome
from sonoshare_privacy.budget import Spent
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.state import read_state, write_state


@dataclass(frozen=True)
class _Kept:
    head: str
    delta: float
    epsilon: float


def spent_of_life(home: NodeHome, ledger: Ledger) -> Spent:
    """What the ledger has spent in all, at the lifetime budget's delta; computed once for each head.

    Raises:
        SonoShareError: the ledger or the policy cannot be read.
    """
    head, delta = ledger.head(), ledger.budgets.lifetime.delta
    with suppress(OSError, IntegrityError):
        kept = read_state(home.state.spent_path, _Kept, remedy="it is computed anew")
        if (kept.head, kept.delta) == (head, delta):
            return Spent(kept.epsilon, delta)
    spent = ledger.spent(delta)
    if ledger.head() == head:  # nobody charged meanwhile
        with suppress(OSError):
            write_state(home.state.spent_path, _Kept(head, delta, spent.epsilon))
    return spent
