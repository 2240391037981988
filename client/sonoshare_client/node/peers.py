"""Which views of the other hospitals count, before this hospital does anything that is charged.

A view counts if

1. it is another hospital's of the roster that this one has pinned, and signed by that hospital's key;
2. it answers the challenge that this hospital's agent made when it started: it is no older than that, so whoever
   restored this hospital's folder, or hides what happened since, cannot use views of before;
3. its log head fits this hospital's own copy of the log, and reaches the entry that must have been seen.

So a view that counts says: another hospital holds *this very log* up to there, and held it after this agent started.
What does not count is passed over, for a roster may be older than the coordinator's, or a hospital away; what proves
misconduct, or says that the other hospital holds such evidence, stops everything.

At least half of the consortium, this hospital among it, must hold the log and one hospital more: two groups that act
on two logs would share a hospital, which holds one. With fewer, a server could split four hospitals two by two, and
neither pair would ever notice.

Not promised: that the hospitals that count are honest. One that two groups share can lie to both.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sonoshare_client.node.log_copy import LogCopy
from sonoshare_shared.errors import IntegrityError, MisconductError, RefusedError, WitnessError
from sonoshare_shared.protocol.documents import Roster
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.views import SeenView, verified_view


@dataclass(frozen=True)
class Asker:
    """The hospital that wants to know.

    Attributes:
        hospital: its id.
        challenge: what its agent made when it started.
        roster: what it has pinned.
        log: its own copy of the log.
    """

    hospital: str
    challenge: str
    roster: Roster
    log: LogCopy


def require_peers(asker: Asker, views: Mapping[str, Envelope], *, needed: int, reach: int) -> None:
    """Check that enough other hospitals hold the same log.

    Args:
        asker: this hospital.
        views: what the coordinator passed on, by hospital.
        needed: how many the hospital's policy asks for; see `views_needed`.
        reach: index of the log entry that each must hold.

    Raises:
        WitnessError: too few count; names each that does not and why.
        MisconductError: a view holds a head of the coordinator that is of another log.
        RefusedError: another hospital says that it holds evidence of misconduct.
    """
    counted, reasons = 0, []
    for hospital in sorted(views):
        try:
            _require_counts(asker, hospital, views[hospital], reach)
            counted += 1
        except MisconductError:
            raise
        except (IntegrityError, WitnessError) as error:
            reasons.append(error.message)
    needed = views_needed(needed, len(asker.roster.hospitals))
    if counted < needed:
        said = "; ".join(reasons) or "no view of another hospital was sent"
        raise WitnessError(
            f"{counted} of {needed} other hospitals are known to hold the same log ({said})",
            remedy="ask for this hospital's keys and then the others', with the challenge in its view",
        )


def views_needed(peers: int, hospitals: int) -> int:
    """How many other hospitals must count, so that any two groups that act have a hospital in common.

    Args:
        peers: the least that the policy asks for; 0 asks for none.
        hospitals: of the consortium, this one among them.
    """
    return min(max(peers, hospitals // 2), hospitals - 1) if peers else 0


def _require_counts(asker: Asker, hospital: str, envelope: Envelope, reach: int) -> None:
    if hospital == asker.hospital:
        raise WitnessError("a hospital's own view is none of another")
    seen = verified_view(envelope, hospital, asker.roster)
    _require_same_log(asker, seen)
    if seen.view.evidence is not None:
        raise RefusedError(
            f"{hospital} says that it holds evidence of misconduct ({seen.view.evidence[:12]})",
            remedy=f"talk to {hospital} by another way before anything goes on: see docs/witness.md",
        )
    if not seen.answers(asker.hospital, asker.challenge):
        raise WitnessError(f"the view of {hospital} may be older than this hospital's agent")
    if seen.log_size > asker.log.size:
        raise WitnessError(f"{hospital} was shown a longer log than this hospital")
    if seen.log_size <= reach:
        raise WitnessError(f"{hospital} has seen {seen.log_size} entries of the log, and must have seen {reach + 1}")


def _require_same_log(asker: Asker, seen: SeenView) -> None:
    if seen.view.log is not None and seen.log_size <= asker.log.size:
        asker.log.require_same(seen.view.log, PublicKey.from_hex(asker.roster.coordinator_key))
