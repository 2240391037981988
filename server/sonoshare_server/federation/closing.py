"""Closing a round, once, whatever is killed in between; and who took part in a study.

In this order, each durable before the next: the new model's file; the log's entry, which names who took part and the
model by its digest; the study's state, which names the model as the newest. A kill before the entry leaves the round
open: nobody has seen its model, and whoever answers when it is run again makes it anew. From the entry on the round is
closed: the next start finds the model that the entry names and goes on (CASES 39).
"""

from collections.abc import Iterable

from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_shared.errors import FederationError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.closed_rounds import ClosedRound, closed_rounds, took_part


def close_round(
    coordinator: Coordinator, number: int, adapter: bytes, hospitals: Iterable[str], *, sum_digest: str | None = None
) -> None:
    """Close a round with its new model.

    Args:
        coordinator: the action.
        number: the round.
        adapter: the new model's adapter (safetensors).
        hospitals: whose updates are in it.
        sum_digest: of the sum that it was stepped by, where noise is pooled.
    """
    study, digest = coordinator.study, sha256_hex(adapter)
    study.keep_adapter(number, adapter)
    names = tuple(sorted(hospitals))
    closed = ClosedRound(study=study.plan.study, round=number, hospitals=names, adapter=digest, sum=sum_digest)
    coordinator.logged(closed.entry)
    study.advance(number, digest)


def resume_closed(coordinator: Coordinator) -> None:
    """Take up a round that the log closed before the study's state could say so.

    Raises:
        FederationError: the model that the log names is not in the study's folder.
    """
    study = coordinator.study
    number = study.state.rounds_done + 1
    closed = closed_rounds(coordinator.log.index, study.plan.study).get(number)
    if closed is None:
        return
    if study.kept_digest(number) != closed.adapter:
        raise FederationError(
            f"the log closed round {number} of {study.plan.study} with a model that the study's folder does not hold",
            remedy="bring back the newest copy of the study's folder",
        )
    study.advance(number, closed.adapter)
    study.event("aggregated", round=number, hospitals=list(closed.hospitals), left_out=[], resumed=True)


def participants(home: CoordinatorHome, study: Study) -> tuple[str, ...] | None:
    """Hospitals that took part in a study; None where the log does not say (``closed_rounds``)."""
    return took_part(home.log().index, study.plan.study, study.plan.rounds)


def whom_to_ask(home: CoordinatorHome, study: Study) -> tuple[str, ...]:
    """Hospitals that a release of a study is asked of: who took part, or else every hospital of the plan."""
    return participants(home, study) or tuple(sorted(study.plan.cohorts))
