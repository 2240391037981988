"""Entries of a hospital's privacy ledger: what was spent on its patients, by which mechanism, and when.

Unit of privacy and neighbouring relation of every number here: add or remove one patient with all of their images.

An *event* says what touched the patients: a number of steps of the Poisson-sampled Gaussian mechanism, with noise of
the hospital's own or pooled with others', or a pure epsilon-DP mechanism (geometric or Laplace noise, randomised
response). Each *charge* carries the digest of the charge before it and is signed by the hospital's identity key, so
that nobody can edit, drop or reorder entries unseen; dropping the *last* ones is seen by whoever has witnessed a later
head. Where a hospital changes its identity key, the ledger goes on: an entry that the old key signs names the new one,
the new one signs in it that it takes up this very chain, and signs every entry from there on.

This module needs neither torch nor numpy: an exported ledger is checked by anybody, offline. It checks that the
record is whole; epsilon is recomputed from the events by ``sonoshare_privacy.accounting``.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass as checked

from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.canonical import canonical_bytes, parsed_json, require_canonical, sha256_hex
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, added
from sonoshare_shared.protocol.keys import PublicKey

NO_PREVIOUS: Final = "0" * 64
_FIRST_EXPORT: Final = "sonoshare/ledger/v1"
SUCCESSION_SCHEMA: Final = "sonoshare/charge/v2"
_EVENT = ConfigDict(extra="forbid", allow_inf_nan=False)
FEWEST_HONEST: Final = 2
"""With fewer there is nobody to share the noise with."""
MOST_HONEST: Final = 256
"""Up to so many shares the sum of drawn noise is accounted for (docs/proofs/pooled-noise.md)."""


@checked(frozen=True, config=_EVENT)
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


@checked(frozen=True, config=_EVENT)
class PureDP:
    """One release by a pure epsilon-DP mechanism (geometric, Laplace, randomised response).

    Attributes:
        epsilon: its epsilon under add or remove one patient.
    """

    epsilon: Annotated[float, Field(gt=0)]
    mechanism: Literal["pure"] = "pure"


@checked(frozen=True, config=_EVENT)
class PooledGaussian:
    """Steps of the Poisson-sampled Gaussian mechanism on a sum over hospitals that share its noise.

    It costs what `SampledGaussian` of the same numbers costs *under an assumption*: that ``honest`` of the hospitals in
    the sum, this one among them, add their share of the noise and show it to nobody, and that nobody sees a part of
    the sum (docs/pooled-noise.md). It is an event of its own, so that no reader takes it for one that assumes nothing.

    Attributes:
        rate: probability q with which each patient takes part in a step, independently.
        noise_multiplier: sigma, the deviation of ``honest`` hospitals' noise together, in units of the L2 sensitivity.
        steps: number of steps.
        honest: how many hospitals must be honest; each adds noise of variance sigma**2 / ``honest``.
    """

    rate: Annotated[float, Field(gt=0, le=1)]
    noise_multiplier: Annotated[float, Field(gt=0)]
    steps: Annotated[int, Field(ge=1, le=2**40)]
    honest: Annotated[int, Field(ge=FEWEST_HONEST, le=MOST_HONEST)]
    mechanism: Literal["pooled-gaussian"] = "pooled-gaussian"

    @property
    def alone(self) -> SampledGaussian:
        """What this hospital's patients are left with where its part is seen by itself: its own share of the noise."""
        return SampledGaussian(self.rate, self.noise_multiplier / math.sqrt(self.honest), self.steps)


Gaussian = SampledGaussian | PooledGaussian
Event = Annotated[Gaussian | PureDP, Field(discriminator="mechanism")]


class Succession(Document):
    """In a ledger's entry: which key the next entries are signed by.

    Attributes:
        old: the key that signs this entry, hexadecimal.
        new: the key that signs every entry after it, until another says so.
        signature: of the new key over `taken_up`, 128 hexadecimal characters.
    """

    old: HexDigest
    new: HexDigest
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


def taken_up(hospital: str, sequence: int, previous: str, old: str, new: str) -> bytes:
    """What a new identity key signs: that it takes up this very ledger after these entries."""
    return f"sonoshare ledger succession\n{hospital}\n{sequence}\n{previous}\n{old}\n{new}\n".encode()


class Charge(Document):
    """One entry of the ledger.

    Attributes:
        schema_: version 2 for a succession, which versions of before must not take for damage; else version 1.
        hospital: whose ledger this is.
        sequence: position, from 0.
        kind: ``opened`` (entry 0), ``reserved`` (spent from this moment on, whatever happens next), ``committed``
            (the release that a reservation paid for took place), ``succession`` (the identity key changes here).
        study: study, release or audit that is charged.
        purpose: why, in words, e.g. ``training round 3``.
        events: what is charged; empty unless reserved.
        delta: at which the requester states epsilon; 0 unless reserved.
        nominal_cohort: public number of patients that delta was judged against; 0 unless reserved.
        epsilon_study: upper bound, at the study budget's delta, of everything of this study up to here.
        epsilon_lifetime: upper bound, at the lifetime budget's delta, of everything up to here.
        reservation: digest of the reservation that a commit closes; empty otherwise.
        time: the day, UTC, ISO 8601. Old entries say the millisecond; the time between two of them told how long a
            training took, and so how many patients it had.
        previous: digest of the entry before, 64 zeros for the first.
        nonce: random characters, so that nobody who sees a head can find the entry by trying. Old entries, but the
            first of a ledger, have none.
        succession: of a ``succession``, and of nothing else: the keys.
    """

    schema_: Literal["sonoshare/charge/v1", "sonoshare/charge/v2"] = Field(
        default="sonoshare/charge/v1", alias="schema"
    )
    hospital: Identifier
    sequence: Annotated[int, Field(ge=0)]
    kind: Literal["opened", "reserved", "committed", "succession"]
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
    succession: Succession | None = added()

    @model_validator(mode="after")
    def _keys_where_they_change(self) -> Self:
        marks = {self.kind == "succession", self.succession is not None, self.schema_ == SUCCESSION_SCHEMA}
        if len(marks) != 1:
            raise ValueError("a succession names its keys, in version 2, and nothing else does")
        if self.succession is not None and (self.events or self.study or self.reservation):
            raise ValueError("a succession charges nothing")
        return self


@dataclass(frozen=True)
class SignedCharge:
    """An entry as it was signed.

    Attributes:
        body: exactly the bytes that were signed; digest and chain are over these.
        signature: the hospital's Ed25519 signature over ``body``, 128 hexadecimal characters.
        charge: what the bytes say.
    """

    body: bytes
    signature: str
    charge: Charge

    @classmethod
    def read(cls, body: bytes, signature: str) -> Self:
        """Parse an entry; its signature is checked by `verify_chain`.

        Raises:
            NewerVersionError: it holds what only a newer version of SonoShare knows.
            IntegrityError: the bytes are not a charge.
        """
        return cls(body, signature, Charge.from_bytes(body))


class ExportedCharge(Document):
    """An entry of an export: the bytes that were signed, as the text that they are, and the signature over them."""

    body: str
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class LedgerExport(Document):
    """A whole ledger, for a data-protection officer or an auditor.

    Attributes:
        hospital: whose ledger this is.
        public_key: of the hospital's identity key, hexadecimal; of the newest where it was changed.
        head: digest of the last entry.
        entries: all entries in order.
    """

    schema_: Literal["sonoshare/ledger/v2"] = Field(default="sonoshare/ledger/v2", alias="schema")
    hospital: Identifier
    public_key: HexDigest
    head: HexDigest
    entries: Annotated[tuple[ExportedCharge, ...], Field(min_length=1)]

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse an export; one of version 1, whose entries are JSON objects and not text, is brought to version 2.

        Raises:
            NewerVersionError: it holds what only a newer version of SonoShare knows.
            IntegrityError: the bytes are not an export.
        """
        try:
            said = parsed_json(data)
            if isinstance(said, dict) and said.get("schema") == _FIRST_EXPORT:
                data = canonical_bytes(_second(said))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError) as error:
            raise IntegrityError("not a valid LedgerExport", remedy="check its version and source") from error
        return super().from_bytes(data)

    def charges(self) -> tuple[SignedCharge, ...]:
        """All entries in order; nothing of them is checked before `verify`."""
        return tuple(SignedCharge.read(entry.body.encode(), entry.signature) for entry in self.entries)

    def verify(self, key: PublicKey) -> tuple[Charge, ...]:
        """Check that the record is whole and the hospital's own, and return what it says.

        Args:
            key: the hospital's identity key, from the roster and not from this document.

        Raises:
            IntegrityError: an entry is missing, edited, reordered or not signed by this key.
        """
        if self.public_key != key.hex:
            raise IntegrityError("the ledger names another key", remedy="take the key from the roster")
        charges = self.charges()
        end = verify_chain(charges, first_key(charges, key), self.hospital)
        if end.key != key:
            raise IntegrityError("the ledger has passed to another key", remedy="take the newest roster")
        if end.digest != self.head:
            raise IntegrityError("the ledger's head is not its last entry", remedy="export it again")
        return tuple(signed.charge for signed in charges)


def _second(export: dict[str, Any]) -> dict[str, Any]:
    """An export of version 1 as one of version 2: what was signed is the canonical form of each entry's object."""
    if any(entry.keys() != {"charge", "signature"} for entry in export["entries"]):
        raise ValueError("an entry of version 1 is a charge and a signature")
    entries = [
        {"body": canonical_bytes(entry["charge"]).decode(), "signature": entry["signature"]}
        for entry in export["entries"]
    ]
    return {**export, "schema": "sonoshare/ledger/v2", "entries": entries}


class ChainEnd(NamedTuple):
    """Where consecutive entries end.

    Attributes:
        digest: of the last entry.
        key: that signs the next one.
    """

    digest: str
    key: PublicKey


def first_key(entries: Iterable[SignedCharge], newest: PublicKey) -> PublicKey:
    """The key that must have signed the first entry of a ledger: the newest one's, or that which the first gave way.

    Nothing is trusted by this: `verify_chain` then has to end at the newest key.
    """
    successions = (entry.charge.succession for entry in entries)
    return next((PublicKey.from_hex(said.old) for said in successions if said is not None), newest)


def verify_chain(
    entries: Iterable[SignedCharge], key: PublicKey, hospital: str, *, start: int = 0, previous: str = NO_PREVIOUS
) -> ChainEnd:
    """Check sequence, hash chain and signatures of consecutive entries.

    Args:
        entries: in order.
        key: the hospital's identity key when the first of them was made.
        hospital: identifier that every entry must carry.
        start: sequence number that the first must have.
        previous: digest that the first must name.

    Returns:
        Digest of the last entry (``previous`` if there are none), and the key that signs the next.

    Raises:
        IntegrityError: names the first entry that does not fit.
    """
    for sequence, signed in enumerate(entries, start):
        charge = signed.charge
        if charge.sequence != sequence or charge.previous != previous or charge.hospital != hospital:
            raise IntegrityError(f"ledger entry {sequence} does not follow the one before")
        if (charge.kind == "opened") != (sequence == 0):
            raise IntegrityError(f"ledger entry {sequence} opens the ledger in the wrong place")
        require_canonical(signed.body, f"ledger entry {sequence}")
        try:
            key.verify(bytes.fromhex(signed.signature), signed.body)
        except (IntegrityError, ValueError) as error:
            raise IntegrityError(f"ledger entry {sequence} is not signed by the hospital") from error
        key, previous = _next_key(charge, key), sha256_hex(signed.body)
    return ChainEnd(previous, key)


def _next_key(charge: Charge, key: PublicKey) -> PublicKey:
    """The key that signs the entry after this one, which ``key`` has signed."""
    said = charge.succession
    if said is None:
        return key
    if said.old != key.hex or said.new == key.hex:
        raise IntegrityError(f"ledger entry {charge.sequence} passes on a key that is not the ledger's")
    new = PublicKey.from_hex(said.new)
    try:
        new.verify(
            bytes.fromhex(said.signature),
            taken_up(charge.hospital, charge.sequence, charge.previous, said.old, said.new),
        )
    except IntegrityError as error:
        raise IntegrityError(f"ledger entry {charge.sequence}: the new key has not signed") from error
    return new


def most_honest(charges: Iterable[Charge]) -> int | None:
    """On how many honest hospitals a ledger's epsilon rests: the most that any charge assumes; None where none does."""
    return max(
        (event.honest for charge in charges for event in charge.events if isinstance(event, PooledGaussian)),
        default=None,
    )
