"""One exchange: ask the hospitals of a study one thing, verify each answer, record what became of it.

Every round, ballot, audit and signature goes through here, so each gets the same: introductions where something is
missing (``introduction``), the log and the others' views with each request, one deadline, the check of the hospital's
view and then of what it says, and an event for every hospital that refused or did not answer (``asking``).

What a hospital says is checked by the question's own ``verify``, which takes bytes and returns a value or raises, and
touches nothing; what follows from it is stored by ``record``.
"""

from typing import TypeVar

from sonoshare_server.federation.asking import Asking, Question
from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.introduction import settle
from sonoshare_server.federation.shortfall import shortfall
from sonoshare_shared.errors import FederationError

T = TypeVar("T")

__all__ = ["Question", "exchange", "heard"]


def exchange(coordinator: Coordinator, question: Question[T]) -> dict[str, T]:
    """Ask every hospital of the question, and return what each usefully said.

    Raises:
        FederationError: fewer than the quorum; or this coordinator's log is older than what a hospital has seen.
    """
    asking = heard(coordinator, question)
    if len(asking.said) < question.quorum:
        raise shortfall(question.name, len(asking.said), question.quorum, asking.left, asking.errors)
    return asking.said


def heard(coordinator: Coordinator, question: Question[T]) -> Asking[T]:
    """Ask every hospital of the question, and return what each said, however few they are.

    Raises:
        FederationError: this coordinator's log is older than what a hospital has seen.
    """
    step = coordinator.log.index.place(question.after)
    if step is None:
        raise FederationError("the step is not in the log", remedy="log it before asking for it")
    settle(coordinator, step)
    asking = Asking(coordinator, question, step)
    asking.run()
    return asking
