"""A candidate goes to the hospitals in batches, which they hold until its audit.

Each batch is one question to every hospital that is as far, so that Flower cuts and sends it once, and one batch at a
time is in memory here, whatever the candidate's size. A hospital says how much it holds: what was lost is sent again,
and an action that is run again, or a hospital that was started again, goes on from there.

A hospital that does not answer one batch is sent no more in this attempt. What one says costs no more than twice the
batches that a candidate has.

Hospitals that are asked by files get the same requests on the stick, in front of the request for the audit.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sonoshare_server.federation.asking import Question
from sonoshare_server.federation.coordinator import Coordinator, identity_key
from sonoshare_server.federation.exchange import heard
from sonoshare_server.home import Study
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.documents import Roster
from sonoshare_shared.protocol.documents.exchange import Answer, AuditRequest, decode_frame, encode_frame
from sonoshare_shared.protocol.documents.holding import HELD_PAYLOAD_TYPE, Held, HoldRequest
from sonoshare_shared.protocol.documents.view import Shown
from sonoshare_shared.protocol.log_index import candidate_entry
from sonoshare_shared.protocol.release.transfer import Outgoing
from sonoshare_shared.protocol.signed import Signed

BATCH_BYTES: Final = 8 << 20
"""Flower makes two pieces of it."""
_SPARE_BATCHES: Final = 4
_TOLD_PERCENT: Final = 5
"""So seldom is it said how much has been sent."""


def outgoing(study: Study, release: str) -> Outgoing:
    """The stream of a candidate that was drawn from the study's newest adapter."""
    place = study.candidate(release)
    return Outgoing(place.listing_path, study.adapter_path, place.path)


@dataclass(frozen=True)
class Holding:
    """One candidate on its way.

    Attributes:
        coordinator: the action; the log shows the candidate.
        release: identifier the candidate would have.
        source: its stream.
        deadline_seconds: for the answers to one batch.
    """

    coordinator: Coordinator
    release: str
    source: Outgoing
    deadline_seconds: float

    def send(self, hospitals: Iterable[str]) -> set[str]:
        """Send the candidate; returns the hospitals that hold all of it."""
        held, holders = dict.fromkeys(hospitals, 0), set[str]()
        left = dict.fromkeys(held, 2 * (self.source.size // BATCH_BYTES) + _SPARE_BATCHES)
        told = 0
        while held:
            offset = min(held.values())
            if (percent := 100 * offset // self.source.size) >= told + _TOLD_PERCENT:
                told = percent
                self.coordinator.study.event("sending", release=self.release, percent=percent)
            asked = tuple(sorted(hospital for hospital, at in held.items() if at == offset))
            said = heard(self.coordinator, self._question(offset, asked)).said
            for hospital in asked:
                left[hospital] -= 1
                answer = said.get(hospital)
                if answer is None or answer.whole or left[hospital] <= 0:
                    del held[hospital]
                else:
                    held[hospital] = answer.held
                if answer is not None and answer.whole:
                    holders.add(hospital)
        if told:
            self.coordinator.study.event("sending", release=self.release, percent=100)
        return holders

    def _question(self, offset: int, hospitals: tuple[str, ...]) -> Question[Held]:
        study, digest, home = self.coordinator.study, self.source.digest, self.coordinator.home

        def request(shown: Shown) -> HoldRequest:
            return HoldRequest(
                plan=study.plan_envelope,
                release=self.release,
                candidate_digest=digest,
                offset=offset,
                log=shown.log,
            )

        return Question(
            request=request,
            payload=self.source.read(offset, BATCH_BYTES),
            after=candidate_entry(study.plan.study, self.release, digest),
            deadline_seconds=self.deadline_seconds,
            verify=lambda hospital, answer: verified_held(hospital, answer, home.roster, self.source),
            record=lambda _hospital, _said: None,
            about={"release": self.release},
            hospitals=hospitals,
        )


def verified_held(hospital: str, answer: Answer, roster: Roster, source: Outgoing) -> Held:
    """Check what a hospital says that it holds.

    Raises:
        IntegrityError: it is not signed by this hospital, about another candidate, or more than there is.
    """
    said = Signed.opened(Held, answer.signed, identity_key(roster, hospital), HELD_PAYLOAD_TYPE).document
    if (said.hospital, said.candidate) != (hospital, source.digest):
        raise IntegrityError(f"{hospital} spoke about another candidate")
    if not said.whole and said.held >= source.size:
        raise IntegrityError(f"{hospital} holds all of the candidate and asks for more", remedy="check its version")
    return said


def frames_ahead(study: Study, frame: bytes) -> Callable[[], Iterator[bytes]]:
    """What a hospital that is asked by files is given in front of a request: of an audit, the candidate.

    Args:
        study: the study that the request is about.
        frame: the request.

    Returns:
        Gives the frames, each time it is called; one is in memory at a time.
    """
    header, _ = decode_frame(frame)
    try:
        request = AuditRequest.from_bytes(header)
    except IntegrityError:
        return lambda: iter(())
    source = outgoing(study, request.release)

    def frames() -> Iterator[bytes]:
        for offset in range(0, source.size, BATCH_BYTES):
            hold = HoldRequest(
                plan=request.plan,
                release=request.release,
                candidate_digest=request.candidate_digest,
                offset=offset,
                log=request.shown.log,
            )
            yield encode_frame(hold, source.read(offset, BATCH_BYTES))

    return frames
