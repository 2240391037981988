"""Proposing a study: every hospital is asked whether it would take part, before anything is charged.

    studies/<study>/answers/<hospital>.dsse.json

What a hospital answers is signed, verified, and stored; ``queue.standing`` says what follows. Where so many refuse, or
wait for a person, that no round could reach its quorum, no round is begun: those who would have taken part are not
charged for nothing.

A hospital without a line out is asked by a bundle like any other, which takes a walk. So it is asked once: not again
after it has accepted this plan, nor once a round was run, whose request asks the same. What it answers is taken from
its box when it is stored: somebody who waits for a person there hears the person's answer by the next walk.
"""

from typing import Final

from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.file_fleet import Boxes
from sonoshare_server.federation.introduction import keep, unrefused, verified_answer
from sonoshare_server.federation.statements import store_envelope
from sonoshare_server.queue.standing import answers, too_few
from sonoshare_shared.errors import FederationError, IntegrityError, SonoShareError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents.exchange import Answer, answer_in, encode_frame
from sonoshare_shared.protocol.documents.proposal import ANSWER_PAYLOAD_TYPE, PlanAnswer, ProposeRequest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.signed import Signed

PROPOSE_DEADLINE_SECONDS: Final = 60.0


def propose(coordinator: Coordinator) -> None:
    """Ask every hospital of the plan that is still in the roster, and store what they answer."""
    roster, spared = coordinator.home.roster, coordinator.barred | _spared_a_walk(coordinator)
    asked = [h for h in coordinator.hospitals if roster.hospital(h) is not None and h not in spared]
    frame = encode_frame(ProposeRequest(plan=coordinator.study.plan_envelope))
    with coordinator.turn():
        for arrived in coordinator.fleet.ask(dict.fromkeys(asked, frame), PROPOSE_DEADLINE_SECONDS):
            coordinator.require_wanted()
            for hospital, reply in arrived.items():
                _take(coordinator, hospital, reply)
                if hospital in coordinator.by_files:
                    Boxes(coordinator.home).clear(hospital, sha256_hex(frame))


def _spared_a_walk(coordinator: Coordinator) -> frozenset[str]:
    """Hospitals without a line out that need not be asked."""
    if coordinator.study.state.rounds_done > 0:
        return coordinator.by_files
    said = answers(coordinator.home, coordinator.study)
    accepted = (hospital for hospital, answer in said.items() if answer.answer == "accepted")
    return coordinator.by_files.intersection(accepted)


def require_enough(coordinator: Coordinator) -> None:
    """Ask who has not accepted yet, and check that a round can reach its quorum.

    Raises:
        FederationError: too many refused, or wait for a person; nothing was charged.
    """
    study = coordinator.study
    said = answers(coordinator.home, study)
    if {hospital for hospital, answer in said.items() if answer.answer == "accepted"} != set(study.plan.cohorts):
        propose(coordinator)
        said = answers(coordinator.home, study)
    if too_few(study, said, "refused"):
        why = "; ".join(f"{h}: {a.reason}" for h, a in sorted(said.items()) if a.answer == "refused")
        raise FederationError(f"refused: {why}", remedy="change the plan, and create it under another name")
    if too_few(study, said, "refused", "waiting"):
        people = ", ".join(hospital for hospital, answer in sorted(said.items()) if answer.answer == "waiting")
        raise FederationError(
            f"it waits for a person at {people}",
            remedy="they decide with: sonoshare hospital approve; then run it again",
        )


def verified_plan_answer(hospital: str, answer: Answer, key: PublicKey, plan_digest: str) -> Envelope:
    """Check what a hospital says to a plan, with the key of its view.

    Raises:
        IntegrityError: it is not signed by this hospital, or about another plan.
    """
    said = Signed.opened(PlanAnswer, answer.signed, key, ANSWER_PAYLOAD_TYPE).document
    if (said.hospital, said.plan_digest) != (hospital, plan_digest):
        raise IntegrityError(f"{hospital} answered about another plan")
    return answer.signed


def _take(coordinator: Coordinator, hospital: str, frame: bytes | None) -> None:
    study, roster = coordinator.study, coordinator.home.roster
    if frame is None:
        return  # silent: it is asked by the rounds, or the next time
    try:
        answer = unrefused(answer_in(frame, hospital), hospital)
        seen = verified_answer(answer, hospital, roster, coordinator.index_for(roster))
        envelope = verified_plan_answer(hospital, answer, seen.key, study.plan.digest())
    except SonoShareError as error:
        study.event("refused", hospital=hospital, reason=str(error))  # among them versions that know no proposals
        return
    if keep(coordinator, seen):
        store_envelope(study.answers_path, hospital, envelope)
        said = answers(coordinator.home, study)[hospital]
        study.event("answered", hospital=hospital, answer=said.answer, reason=said.reason)
