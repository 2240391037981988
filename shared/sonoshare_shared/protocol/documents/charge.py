"""Entries of a hospital's privacy ledger: what was spent on its patients, by which mechanism, and when.

Unit of privacy and neighbouring relation of every number here: add or remove one patient with all of their images.

An *event* says what touched the patients: a number of steps of the Poisson-sampled Gaussian mechanism, or a
pure epsilon-DP mechanism (geometric or Laplace noise, randomised response). Each *charge* carries the digest of
the charge before it and is signed by the hospital's identity key, so that nobody can edit, drop or reorder
entries unseen; dropping the *last* ones is seen by whoever has witnessed a later head.

This module needs neither torch nor numpy: an exported ledger is checked by anybody, offline. It checks that the
record is whole; epsilon is recomputed from the events by ``sonoshare_privacy.accounting``.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.base import Document
from sonoshare_shared.protocol.documents.plan import HexDigest, Identifier
from sonoshare_shared.protocol.keys import PublicKey

NO_PREVIOUS: Final = "0" * 64
_EVENT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_EVENT)
class SampledGaussian:
    """Steps of the Poisson-sampled Gaussian mechanism.

    Attributes:
        rate: probability q with which each patient takes part in a step, independently.
        noise_multiplier: sigma, the noise's standard deviation in units of the L2 sensitivity.
        steps: number of steps.
    """

    rate: Annotated[float, Field(gt=0, le=1)]
    noise_multiplier: Annotated[float, Field(gt=0)]
    steps: Annotated[int, Field(ge=1, le=2**40)]
    mechanism: Literal["sampled-gaussian"] = "sampled-gaussian"


@dataclass(frozen=True, config=_EVENT)
class PureDP:
    """One release by a pure epsilon-DP mechanism (geometric, Laplace, randomised response).

    Attributes:
        epsilon: its epsilon under add or remove one patient.
    """

    epsilon: Annotated[float, Field(gt=0)]
    mechanism: Literal["pure"] = "pure"


Event = Annotated[SampledGaussian | PureDP, Field(discriminator="mechanism")]


class Charge(Document):
    """One entry of the ledger.

    Attributes:
        hospital: whose ledger this is.
        sequence: position, from 0.
        kind: ``opened`` (entry 0), ``reserved`` (spent from this moment on, whatever happens next), ``committed``
            (the release that a reservation paid for took place).
        study: study, release or audit that is charged.
        purpose: why, in words, e.g. ``training round 3``.
        events: what is charged; empty unless reserved.
        delta: at which the requester states epsilon; 0 unless reserved.
        nominal_cohort: public number of patients that delta was judged against; 0 unless reserved.
        epsilon_study: upper bound, at the study budget's delta, of everything of this study up to here.
        epsilon_lifetime: upper bound, at the lifetime budget's delta, of everything up to here.
        reservation: digest of the reservation that a commit closes; empty otherwise.
        time: UTC, ISO 8601.
        previous: digest of the entry before, 64 zeros for the first.
        nonce: random characters of entry 0, so that no two ledgers are the same.
    """

    schema_: Literal["sonoshare/charge/v1"] = Field(default="sonoshare/charge/v1", alias="schema")
    hospital: Identifier
    sequence: Annotated[int, Field(ge=0)]
    kind: Literal["opened", "reserved", "committed"]
    study: Annotated[str, Field(max_length=200)] = ""
    purpose: Annotated[str, Field(max_length=500)] = ""
    events: tuple[Event, ...] = ()
    delta: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nominal_cohort: Annotated[int, Field(ge=0)] = 0
    epsilon_study: Annotated[float, Field(ge=0)] = 0.0
    epsilon_lifetime: Annotated[float, Field(ge=0)] = 0.0
    reservation: HexDigest | Literal[""] = ""
    time: str
    previous: HexDigest
    nonce: Annotated[str, Field(max_length=64)] = ""


class SignedCharge(Document):
    """A charge with the hospital's Ed25519 signature (128 hexadecimal characters) over its canonical bytes."""

    charge: Charge
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class LedgerExport(Document):
    """A whole ledger, for a data-protection officer or an auditor.

    Attributes:
        hospital: whose ledger this is.
        public_key: of the hospital's identity key, hexadecimal.
        head: digest of the last entry.
        entries: all entries in order.
    """

    schema_: Literal["sonoshare/ledger/v1"] = Field(default="sonoshare/ledger/v1", alias="schema")
    hospital: Identifier
    public_key: HexDigest
    head: HexDigest
    entries: Annotated[tuple[SignedCharge, ...], Field(min_length=1)]

    def verify(self, key: PublicKey) -> None:
        """Check that the record is whole and the hospital's own.

        Args:
            key: the hospital's identity key, from the roster and not from this document.

        Raises:
            IntegrityError: an entry is missing, edited, reordered or not signed by this key.
        """
        if self.public_key != key.hex:
            raise IntegrityError("the ledger names another key", remedy="take the key from the roster")
        head = verify_chain(self.entries, key, self.hospital)
        if head != self.head:
            raise IntegrityError("the ledger's head is not its last entry", remedy="export it again")


def verify_chain(
    entries: Iterable[SignedCharge], key: PublicKey, hospital: str, *, start: int = 0, previous: str = NO_PREVIOUS
) -> str:
    """Check sequence, hash chain and signatures of consecutive entries.

    Args:
        entries: in order.
        key: the hospital's identity key.
        hospital: identifier that every entry must carry.
        start: sequence number that the first must have.
        previous: digest that the first must name.

    Returns:
        Digest of the last entry (``previous`` if there are none).

    Raises:
        IntegrityError: names the first entry that does not fit.
    """
    for sequence, signed in enumerate(entries, start):
        charge = signed.charge
        if charge.sequence != sequence or charge.previous != previous or charge.hospital != hospital:
            raise IntegrityError(f"ledger entry {sequence} does not follow the one before")
        if (charge.kind == "opened") != (sequence == 0):
            raise IntegrityError(f"ledger entry {sequence} opens the ledger in the wrong place")
        data = charge.canonical()
        try:
            key.verify(bytes.fromhex(signed.signature), data)
        except IntegrityError as error:
            raise IntegrityError(f"ledger entry {sequence} is not signed by the hospital") from error
        previous = sha256_hex(data)
    return previous
