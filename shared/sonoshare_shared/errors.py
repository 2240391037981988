"""Every error a user can meet, drawn in one place.

``SonoShareError`` is the root. Each error says in one line what is wrong, and carries a *remedy* the user can
act on; the command line prints ``error: <message> (<remedy>)`` and exits 1. Errors never contain patient data:
no pixel, no identifier from a record, no file name given by a hospital's archive beyond its last component.

    SonoShareError
    ├── InputError            the user's files or arguments are not usable
    ├── IntegrityError        bytes, hashes or signatures do not match
    │   ├── NewerVersionError a document or database was made by a newer version of SonoShare
    │   ├── VerificationError a release or statement is not verified; ``cause`` is a stable machine-readable word
    │   └── MisconductError   somebody signed two things that cannot both be true; ``evidence`` proves it
    ├── RefusedError          a rule of the hospital, the plan or the gate says no
    │   ├── PolicyError       the plan breaks the hospital's policy
    │   ├── BudgetError       the charge would exceed the budget
    │   ├── LedgerError       the ledger is not intact, or older than a witnessed head
    │   │   └── PassedOnError the ledger is intact, and has passed to another identity key
    │   ├── WitnessError      the log, or the other hospitals' views, do not show what they must show first
    │   └── NotHeldError      a hospital does not hold what had to be sent before
    ├── ModelError            an architecture, checkpoint or adapter cannot be used
    │   └── ContributionError a patient's contribution is larger than the noise was made for
    └── FederationError       a process or peer of the federation failed
        ├── StorageError      where files are kept does not answer; what is there may be whole
        └── StoppedError      an action ended because nobody wants it any more
"""


class SonoShareError(Exception):
    """Root of all errors of SonoShare.

    Args:
        message: what is wrong, one line, without patient data.
        remedy: what the user can do about it, one line.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class InputError(SonoShareError):
    """The user's files or arguments are not usable."""


class IntegrityError(SonoShareError):
    """Bytes, hashes or signatures do not match."""


class NewerVersionError(IntegrityError):
    """A document or database holds what only a newer version of SonoShare understands."""


class VerificationError(IntegrityError):
    """A release or statement is not verified.

    Args:
        cause: stable machine-readable word, e.g. ``file-digest`` or ``signature``.
        message: what is wrong, one line.
        remedy: what the user can do about it.
    """

    def __init__(self, cause: str, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.cause = cause

    @classmethod
    def because(cls, cause: str, error: IntegrityError, place: str = "") -> "VerificationError":
        """What is wrong with a document, as a reason why nothing that rests on it is verified.

        Args:
            cause: the word, unless the error has one of its own; ``version`` where the document is of a newer version.
            error: what is wrong.
            place: which document, for the message.
        """
        if isinstance(error, VerificationError):
            return error
        word = "version" if isinstance(error, NewerVersionError) else cause
        return cls(word, f"{place}{error.message}", remedy=error.remedy)


class MisconductError(IntegrityError):
    """Somebody signed two things that cannot both be true.

    Args:
        message: what was signed, one line.
        evidence: the proof, as a file that anybody can check (``sonoshare_shared.protocol.misconduct``).
        remedy: what the user can do about it.
    """

    def __init__(self, message: str, *, evidence: bytes, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.evidence = evidence


class RefusedError(SonoShareError):
    """A rule of the hospital, the plan or the gate says no."""


class PolicyError(RefusedError):
    """The study plan breaks the hospital's own policy."""


class BudgetError(RefusedError):
    """The charge would exceed the hospital's privacy budget."""


class LedgerError(RefusedError):
    """The ledger is not intact, or older than a head that others have witnessed."""


class PassedOnError(LedgerError):
    """The ledger is intact, and has passed to another identity key than the one that is here."""


class WitnessError(RefusedError):
    """The log, or what the other hospitals sign that they have seen, does not show what it must show first."""


class NotHeldError(RefusedError):
    """A hospital does not hold what had to be sent before: it is to be sent, and asked for again."""


class ModelError(SonoShareError):
    """An architecture, checkpoint or adapter cannot be used."""


class ContributionError(ModelError):
    """A patient's contribution is larger than the noise was made for: a fault of software or machine, never of data."""


class FederationError(SonoShareError):
    """A process or peer of the federation failed."""


class StorageError(FederationError):
    """Where files are kept does not answer, or does not give them out now; nothing is known of the files."""


class StoppedError(FederationError):
    """An action ended because nobody wants it any more: its command ended, or its study was stopped."""
