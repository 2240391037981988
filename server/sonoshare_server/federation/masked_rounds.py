"""A masked round: ask who is ready, fix the set, ask the set for masked numbers, add them up.

The coordinator sees of each hospital a signed key and words that look random, and of all together the weighted mean of
their updates and losses. It cannot check a single update, nor shorten a long one: only a sum that no updates within the
plan's reach can have is refused, whole (docs/masking.md).

One set for a round, whatever is killed: the set is stored, then logged, then asked; a round that is run again asks the
same set, and hospitals give the same bytes. If one of the set does not answer by the deadline, or the sum is refused,
the round is *void*: its model is the one it started from, every charge stands, and the study goes on.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sonoshare_privacy.masking.agreement import require_public_key
from sonoshare_privacy.masking.fixed_point import Words
from sonoshare_privacy.masking.pair_masks import RunningSum, from_bytes
from sonoshare_server.federation.closing import close_round
from sonoshare_server.federation.coordinator import Coordinator, identity_key
from sonoshare_server.federation.exchange import Question, exchange, heard
from sonoshare_server.federation.starting import RoundStart
from sonoshare_server.federation.sum_reading import MeanReader, Stepped, SumReader
from sonoshare_shared.errors import FederationError, IntegrityError, RefusedError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import Roster
from sonoshare_shared.protocol.documents.exchange import Answer, TrainRequest
from sonoshare_shared.protocol.documents.masking import MASKED_PAYLOAD_TYPE, MaskedReply, RevealRequest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import masked_set_entry, model_entry
from sonoshare_shared.protocol.masked_set import MaskedSet, masked_set, verified_ready
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.state import read_state, write_state


class _VoidRoundError(FederationError):
    """The round has no sum, for this reason; the study goes on."""


@dataclass
class Revealed:
    """Masked numbers of one hospital; they are let go of when they are taken, for they are large."""

    _words: Words | None

    def take(self) -> Words:
        """The numbers, once."""
        words, self._words = self._words, None
        if words is None:
            raise RuntimeError("masked numbers are added up once")
        return words


@dataclass(frozen=True)
class MaskedRound:
    """One masked round of an action.

    Attributes:
        coordinator: the action.
        start: what the round starts from.
        reader: what the sum is read as.
    """

    coordinator: Coordinator
    start: RoundStart
    reader: SumReader
    _sum: RunningSum = field(default_factory=RunningSum)

    def run(self) -> None:
        """Run it to its end and close it.

        Raises:
            FederationError: fewer hospitals than the quorum are ready; nothing is fixed yet.
        """
        study, start = self.coordinator.study, self.start
        try:
            members = self._fixed_set() or self._new_set()
            done = self._stepped(members)
        except _VoidRoundError as error:
            close_round(self.coordinator, start.number, self.reader.void(), ())
            study.event("void", round=start.number, reason=str(error))
            return
        close_round(self.coordinator, start.number, done.adapter, members.ready, sum_digest=done.sum_digest)
        left_out = sorted(study.plan.cohorts.keys() - members.ready.keys())
        study.event(
            "aggregated",
            round=start.number,
            hospitals=list(members.ready),
            left_out=left_out,
            masked=True,
            losses=list(done.losses),
        )

    def _fixed_set(self) -> MaskedSet | None:
        """The set that an earlier attempt has fixed, if one has."""
        study, plan, number = self.coordinator.study, self.coordinator.study.plan, self.start.number
        path = study.masked_set_path(number)
        logged = self.coordinator.log.index.place(masked_set_entry(plan.study, number, "")) is not None
        if not path.exists():
            if logged:
                raise _VoidRoundError("its set stands in the log, and is not in the study's folder any more")
            return None
        envelopes = read_state(path, tuple[Envelope, ...], remedy="bring back its newest copy")
        try:
            return self._checked(envelopes)
        except (IntegrityError, RefusedError) as error:
            if logged:
                raise _VoidRoundError(f"its set does not hold any more: {error}") from error
            return None  # nobody was asked yet: whoever is ready now makes another

    def _new_set(self) -> MaskedSet:
        """Ask who is ready, and fix the set: stored first, then logged."""
        coordinator, plan, number = self.coordinator, self.coordinator.study.plan, self.start.number
        ready = exchange(coordinator, self._ready_question())
        envelopes = [ready[hospital][0] for hospital in sorted(ready) if hospital not in self._sharing_a_key(ready)]
        if len(envelopes) < plan.quorum:
            raise FederationError(
                f"round {number} has {len(envelopes)} of {plan.quorum} hospitals with a key of their own",
                remedy="see the study's events, then resume the study",
            )
        write_state(coordinator.study.masked_set_path(number), envelopes)
        return self._checked(envelopes)

    def _checked(self, envelopes: Sequence[Envelope]) -> MaskedSet:
        coordinator, roster = self.coordinator, self.coordinator.home.roster
        index = coordinator.index_for(roster)
        return masked_set(envelopes, roster, coordinator.study.plan, self.start.number, index)

    def _sharing_a_key(self, ready: Mapping[str, tuple[Envelope, str]]) -> set[str]:
        """Hospitals that signed a key that another signed too: nobody can tell whose it is."""
        often = Counter(key for _, key in ready.values())
        return {hospital for hospital, (_, key) in ready.items() if often[key] > 1}

    def _ready_question(self) -> Question[tuple[Envelope, str]]:
        study, plan, start = self.coordinator.study, self.coordinator.study.plan, self.start
        before = self.reader.shown()
        return Question(
            request=lambda shown: TrainRequest(
                plan=study.plan_envelope,
                round=start.number,
                adapter_digest=start.digest,
                shown=shown,
                sum_bytes=len(before) or None,
            ),
            payload=start.adapter + before,
            after=model_entry(plan.study, max(1, start.number - 1), start.digest),  # as in every round
            deadline_seconds=plan.round_deadline_seconds,
            verify=lambda hospital, answer: self.verified_ready(hospital, answer, self.coordinator.home.roster),
            record=lambda hospital, _: study.event("ready", hospital=hospital, round=start.number),
            about={"round": start.number},
            quorum=plan.quorum,
            name=f"round {start.number}",
        )

    def verified_ready(self, hospital: str, answer: Answer, roster: Roster) -> tuple[Envelope, str]:
        """What a hospital signed when it was ready, and its key.

        Raises:
            IntegrityError: it is not signed by this hospital, is for another round, study, adapter or layout, has a
                key that is none, or brings more than that.
        """
        plan, start = self.coordinator.study.plan, self.start
        said = verified_ready(answer.signed, hospital, roster).document
        expected = (plan.study, plan.digest(), start.number, start.digest)
        if (said.study, said.plan, said.round, said.adapter_digest) != expected:
            raise IntegrityError(f"{hospital} answered for another round or study", remedy="a replay is refused")
        if said.layout != self.reader.digest():
            raise IntegrityError(f"{hospital} would add up other numbers", remedy="check its version")
        if answer.payload:
            raise IntegrityError(f"{hospital} sent numbers before it was asked for them")
        require_public_key(said.key)
        return answer.signed, said.key

    def _stepped(self, members: MaskedSet) -> Stepped:
        """Ask the set for its numbers, and read the sum."""
        coordinator, plan = self.coordinator, self.coordinator.study.plan
        coordinator.logged(masked_set_entry(plan.study, self.start.number, members.digest))
        asked = heard(coordinator, self._reveal_question(members))
        if missing := sorted(members.ready.keys() - asked.said.keys()):
            reasons = ", ".join(f"{hospital} ({asked.left[hospital]})" for hospital in missing)
            raise _VoidRoundError(f"without the numbers of {reasons} the masks of the others do not cancel")
        try:
            return self.reader.stepped(members, self._sum.total)
        except IntegrityError as error:
            raise _VoidRoundError(f"{error}: one of {', '.join(members.ready)} sent what no training makes") from error

    def _reveal_question(self, members: MaskedSet) -> Question[Revealed]:
        study, plan, start = self.coordinator.study, self.coordinator.study.plan, self.start

        def record(hospital: str, revealed: Revealed) -> None:
            self._sum.add(revealed.take())
            study.event("revealed", hospital=hospital, round=start.number)

        return Question(
            request=lambda shown: RevealRequest(
                plan=study.plan_envelope, round=start.number, ready=members.envelopes, shown=shown
            ),
            payload=b"",
            after=model_entry(plan.study, start.number, start.digest),
            deadline_seconds=plan.round_deadline_seconds,
            verify=lambda hospital, answer: self.verified_masked(
                hospital, answer, self.coordinator.home.roster, members
            ),
            record=record,
            about={"round": start.number},
            quorum=len(members.ready),  # all of them: nobody is left out of a sum
            name=f"the sum of round {start.number}",
            hospitals=tuple(members.ready),
        )

    def verified_masked(self, hospital: str, answer: Answer, roster: Roster, members: MaskedSet) -> Revealed:
        """The masked numbers of a hospital.

        Raises:
            IntegrityError: they are not signed by this hospital for this set, or not as many as they must be.
        """
        reply = Signed.opened(MaskedReply, answer.signed, identity_key(roster, hospital), MASKED_PAYLOAD_TYPE).document
        expected = (hospital, self.start.study, self.start.number, members.digest, sha256_hex(answer.payload))
        if (reply.hospital, reply.study, reply.round, reply.members, reply.masked_digest) != expected:
            raise IntegrityError(f"{hospital} answered for another set, round or study", remedy="a replay is refused")
        return Revealed(from_bytes(answer.payload, self.reader.words))


def run_masked_round(coordinator: Coordinator, start: RoundStart) -> None:
    """Run a round of a plan that is masked, and close it.

    Raises:
        FederationError: fewer hospitals than the quorum are ready.
    """
    plan = coordinator.study.plan
    reader = _pooled_reader(coordinator, start) if plan.pools else MeanReader.of(plan, start)
    MaskedRound(coordinator, start, reader).run()


def _pooled_reader(coordinator: Coordinator, start: RoundStart) -> SumReader:
    """Loads torch, which no other study's run needs."""
    from sonoshare_server.federation.pooled_rounds import PooledReader  # noqa: PLC0415 - see above

    return PooledReader.of(coordinator, start)
