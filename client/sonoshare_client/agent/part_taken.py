"""What the log says of this hospital's part in a study, held against what it knows itself.

The coordinator logs each round that it closed: whose updates are in the new model, and that model's digest. Before a
later round this hospital checks, by its own copy of the log, that it starts from the very model that the round before
was closed with, and that no round names this hospital that it has not answered. A hospital that was left out of a round
sees it there, and spends nothing on a release of a study in which it had no part. Where the log says nothing of a
round, as logs of earlier days, nothing is checked.
"""

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.replies import reveal_slot, train_slot
from sonoshare_shared.errors import RefusedError
from sonoshare_shared.protocol.closed_rounds import closed_rounds, require_closed_with, took_part
from sonoshare_shared.protocol.documents import StudyPlan


def require_rounds(node: Node, plan: StudyPlan, number: int, digest: str) -> None:
    """Check what the log says of the rounds before one, where it says anything.

    Args:
        node: the hospital.
        plan: the study's. In a masked one a hospital has answered a round once it gave its numbers, not its key alone.
        number: the round that is asked for, or the number after the last where none is.
        digest: of the model that it starts from.

    Raises:
        RefusedError: an entry names this hospital in a round that it has not answered.
        IntegrityError: the model is not the one that the round before was closed with.
    """
    slot_of = reveal_slot if plan.masked else train_slot
    require_closed_with(node.log.index, plan.study, number - 1, digest)
    for closed in closed_rounds(node.log.index, plan.study).values():
        if node.hospital in closed.hospitals and not node.replies.holds(slot_of(plan.study, closed.round)):
            raise RefusedError(
                f"the log says that this hospital took part in round {closed.round} of {plan.study}, and it did not",
                remedy="tell the other hospitals: the server may be naming hospitals that have sent nothing",
            )


def require_part(node: Node, plan: StudyPlan) -> None:
    """Refuse to spend anything on a release of a study whose rounds are closed and in which this hospital had no part.

    Raises:
        RefusedError: its patients are in no round's model.
        IntegrityError: the log does not say one thing of who took part.
    """
    took = took_part(node.log.index, plan.study, plan.rounds)
    if took is not None and node.hospital not in took:
        raise RefusedError(
            f"this hospital took part in no round of {plan.study}", remedy="ask the hospitals that did: see the log"
        )


def require_keys_of_then(node: Node, study: str) -> None:
    """Check that those who took part speak with the keys that they had then.

    Who trains has a ledger head of its id in the log before the round is closed. A hospital that was expelled, and an
    id that was given to another key afterwards, be it another hospital's, would let somebody else pass what the first
    one's patients are in. Not promised: that this shows a key of which a hostile log held a false head of that id
    before the round.

    Raises:
        RefusedError: a hospital has another key now.
        IntegrityError: as `closed_rounds`.
    """
    index, roster = node.log.index, node.roster()
    for closed in closed_rounds(index, study).values():
        place = index.place(closed.entry)
        for hospital in closed.hospitals:
            entry = roster.hospital(hospital)
            # Of this id: a key that was another hospital's then has heads too.
            known = () if entry is None else index.heads(entry.key)
            heads = [logged for logged in known if logged.head.hospital == hospital]
            if place is None or not heads or heads[0].position > place:
                raise RefusedError(
                    f"{hospital} took part in round {closed.round} of {study} with another key than the roster names",
                    remedy=f"admit {hospital} with the keys that it had",
                )
