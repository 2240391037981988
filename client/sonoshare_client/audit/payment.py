"""Where an audit is charged: a hospital's ledger, or nowhere but in the outcome.

A payment is reserved before the first patient is looked at and committed before any figure is returned, so that a
crash in between leaves the charge standing, and no refusal tells of a patient.
"""

from typing import Final, Protocol

from sonoshare_privacy.budget import ChargeRequest, Reservation
from sonoshare_privacy.ledger import Ledger
from sonoshare_shared.errors import LedgerError, PolicyError
from sonoshare_shared.protocol.documents.charge import PureDP

AUDIT_PURPOSE: Final = "audit of candidate"
"""How the purpose of every audit's charge begins; charges are counted by it."""


class Payment(Protocol):
    """Where an audit is charged: reserved before the first patient is scored, committed before figures are returned."""

    def reserve(self, events: tuple[PureDP, ...]) -> None:
        """Make the charge durable."""

    def commit(self) -> None:
        """Record that the figures are released."""


class LedgerPayment:
    """Charges an audit to the hospital's ledger.

    Args:
        ledger: the hospital's ledger.
        study: study that is charged.
        candidate: digest of the candidate (named in the purpose).
        delta: at which the study states epsilon (the audits themselves are pure).
        nominal: nominal cohort.
        max_candidates: how many candidates of the study may be audited at all; None leaves it to the budget.
    """

    def __init__(
        self, ledger: Ledger, *, study: str, candidate: str, delta: float, nominal: int, max_candidates: int | None
    ) -> None:
        self._ledger, self._study, self._max = ledger, study, max_candidates
        self._purpose = f"{AUDIT_PURPOSE} {candidate}"
        self._delta, self._nominal = delta, nominal
        self._reservation: Reservation | None = None

    def require_allowed(self) -> None:
        """Check that the plan allows one more audit; public, so that it can be asked before any work.

        Raises:
            PolicyError: as many candidates of this study as the plan allows were audited before.
        """
        earlier = sum(
            signed.charge.kind == "reserved"
            and signed.charge.study == self._study
            and signed.charge.purpose.startswith(AUDIT_PURPOSE)
            for signed in self._ledger.entries()
        )
        if self._max is not None and earlier >= self._max:
            raise PolicyError(
                f"{earlier} audits of this study were charged; the plan allows {self._max}",
                remedy="every audit pays again: a new study plan must allow more",
            )

    def reserve(self, events: tuple[PureDP, ...]) -> None:
        """Reserve.

        Raises:
            PolicyError: as `require_allowed`.
            BudgetError: the budget does not allow it; nothing was charged.
        """
        self.require_allowed()
        request = ChargeRequest(self._study, self._purpose, events, self._delta, self._nominal)
        self._reservation = self._ledger.reserve(request)

    @property
    def reservation(self) -> Reservation:
        """The durable charge.

        Raises:
            LedgerError: nothing was reserved yet.
        """
        if self._reservation is None:
            raise LedgerError("this audit was not charged yet", remedy="reserve first")
        return self._reservation

    def commit(self) -> None:
        """Commit the reservation."""
        self._ledger.commit(self.reservation)


class NoLedger:
    """For the stand-alone audit, which has no ledger: the charge is stated in the outcome only."""

    def reserve(self, events: tuple[PureDP, ...]) -> None:
        """Nothing to make durable."""

    def commit(self) -> None:
        """Nothing to record."""
