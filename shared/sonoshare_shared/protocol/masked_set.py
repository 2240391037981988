"""The set of hospitals of a masked sum, checked: what coordinator and hospitals both require of it.

Promise: whoever holds a ``MaskedSet`` knows that every hospital in it is of the plan and of the roster, has signed that
it is ready for this round of this plan from this adapter in this layout, each with a key of its own, that none stands
twice, and that they are at least the plan's quorum. Its ``digest`` names exactly what they signed.

Not promised: that a key is a point of the curve of large order. Who agrees on a secret with it checks that
(``sonoshare_privacy.masking.agreement``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sonoshare_shared.errors import IntegrityError, RefusedError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex
from sonoshare_shared.protocol.documents import HospitalEntry, Roster, StudyPlan
from sonoshare_shared.protocol.documents.masking import READY_PAYLOAD_TYPE, MaskReady
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.log_index import LogIndex, model_entry
from sonoshare_shared.protocol.signed import Signed

KeysOf = Callable[[HospitalEntry], tuple[PublicKey, ...]]


@dataclass(frozen=True)
class MaskedSet:
    """Who is in a sum.

    Attributes:
        ready: what each signed, by id, in the order of ids.
        digest: of the set of signed documents.
        envelopes: the documents as they were signed, in the same order.
    """

    ready: Mapping[str, Signed[MaskReady]]
    digest: str
    envelopes: tuple[Envelope, ...]

    @property
    def adapter_digest(self) -> str:
        """The adapter that all of them started from."""
        return next(iter(self.ready.values())).document.adapter_digest


def verified_ready(envelope: Envelope, hospital: str, roster: Roster, keys: KeysOf | None = None) -> Signed[MaskReady]:
    """What a hospital signed when it was ready.

    Args:
        envelope: what it signed.
        hospital: who.
        roster: whose keys count.
        keys: which keys of a hospital count; None for the roster's alone.

    Raises:
        IntegrityError: the roster has no such hospital, or it did not sign this.
    """
    entry = roster.hospital(hospital)
    if entry is None:
        raise IntegrityError(f"{hospital} is not in the roster")
    key = envelope.signer_among(_counting(entry, keys)) or entry.key
    signed = Signed.opened(MaskReady, envelope, key, READY_PAYLOAD_TYPE)
    envelope.require_plain(key)
    if signed.document.hospital != hospital:
        raise IntegrityError(f"{hospital} signed for another hospital")
    return signed


def masked_set(
    envelopes: Sequence[Envelope], roster: Roster, plan: StudyPlan, number: int, index: LogIndex
) -> MaskedSet:
    """Check a set.

    Args:
        envelopes: what the hospitals signed, in the order of their ids.
        roster: whose keys count.
        plan: the study's.
        number: of the round.
        index: the log. A hospital that changed its identity key since the round's model was logged may have signed
            with the one that it had then.

    Raises:
        RefusedError: fewer hospitals than the plan's quorum.
        IntegrityError: a signature, a hospital, a round, a plan, an adapter, a layout or a key is not as it must be.
    """
    place = index.place(model_entry(plan.study, number, ""))

    def keys(entry: HospitalEntry) -> tuple[PublicKey, ...]:
        return (entry.key,) if place is None else index.keys_since(entry.key, place)

    ready: dict[str, Signed[MaskReady]] = {}
    for envelope in envelopes:
        hospital = _named(envelope, roster, keys)
        if ready and hospital <= next(reversed(ready)):
            raise IntegrityError(f"{hospital} stands twice in the set, or out of order")
        if hospital not in plan.cohorts:
            raise IntegrityError(f"{hospital} is not part of the study")
        ready[hospital] = verified_ready(envelope, hospital, roster, keys)
    if len(ready) < plan.quorum:
        raise RefusedError(
            f"a masked sum of {len(ready)} hospitals; the plan asks for {plan.quorum}",
            remedy="the fewer they are, the more the sum tells of each: wait for more",
        )
    _require_one_round(ready, (plan.study, plan.digest(), number))
    digests = [[hospital, signed.digest] for hospital, signed in ready.items()]
    return MaskedSet(ready, sha256_hex(canonical_bytes(digests)), tuple(envelopes))


def _counting(entry: HospitalEntry, keys: KeysOf | None) -> tuple[PublicKey, ...]:
    return (entry.key,) if keys is None else keys(entry)


def _named(envelope: Envelope, roster: Roster, keys: KeysOf) -> str:
    """Which hospital of the roster signed an envelope."""
    named = [entry.id for entry in roster.hospitals if envelope.signer_among(keys(entry)) is not None]
    if len(named) != 1:
        raise IntegrityError("the set holds a key that no hospital of the roster signed")
    return named[0]


def _require_one_round(ready: Mapping[str, Signed[MaskReady]], expected: tuple[str, str, int]) -> None:
    said = [signed.document for signed in ready.values()]
    for one in said:
        if (one.study, one.plan, one.round) != expected:
            raise IntegrityError(f"{one.hospital} was ready for another round or study", remedy="a replay is refused")
    if len({(one.adapter_digest, one.layout) for one in said}) != 1:
        raise IntegrityError("the hospitals of the set did not start from one model")
    if len({one.key for one in said}) != len(said):
        raise IntegrityError("two hospitals of the set signed one key")
