"""Where a study stands, worked out from its files whenever somebody asks: nothing here is stored, so nothing is stale.

| state | when |
|---|---|
| ``created`` | nobody has been asked |
| ``asked`` | some hospitals have not answered the proposal |
| ``accepted`` | enough hospitals take part; no round has been run |
| ``refused`` | so many refused that no round can reach its quorum; the reasons are in ``why`` |
| ``waiting`` | for its turn, for hospitals to connect, or for a person at a hospital |
| ``training``, ``releasing`` | a command runs it now |
| ``paused`` | begun, and nobody runs it: it was stopped, or it failed (``why``) |
| ``trained`` | all rounds are done |
| ``done`` | a release of it is sealed |
| ``cancelled``, ``retired`` | for good (``wanted``) |

What hospitals answered is read as stored: it was verified before it was stored (``federation.proposing``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.queue.actions import Action, running
from sonoshare_server.queue.wanted import FINAL, wanted
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.documents.proposal import ANSWER_PAYLOAD_TYPE, PlanAnswer
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.signed import Signed

ENDS: Final = ("done", "failed", "stopped")


@dataclass(frozen=True)
class Standing:
    """Where a study stands.

    Attributes:
        study: its name.
        state: one word, see the module.
        why: what it waits for, who runs it, or why it stopped; in words.
        rounds_done: rounds that are closed.
        rounds: rounds of the plan.
        priority: of two studies the one of the higher number goes first.
        answers: what each hospital of the plan said to the proposal; ``not asked`` where it has not answered.
        reasons: why hospitals refused, in their words.
        releases: sealed releases of the study.
    """

    study: str
    state: str
    why: str
    rounds_done: int
    rounds: int
    priority: int
    answers: Mapping[str, str]
    reasons: Mapping[str, str]
    releases: tuple[str, ...]


def standings(home: CoordinatorHome) -> list[Standing]:
    """Where every study stands, by name."""
    return [standing(home, study) for study in home.studies()]


def standing(home: CoordinatorHome, study: Study) -> Standing:
    """Where a study stands now."""
    said, wish, done = answers(home, study), wanted(study), study.state.rounds_done
    releases = released(home, study)
    state, why = _state(study, done, said, releases)
    return Standing(
        study=study.plan.study,
        state=state,
        why=why,
        rounds_done=done,
        rounds=study.plan.rounds,
        priority=wish.priority,
        answers={h: said[h].answer if h in said else "not asked" for h in sorted(study.plan.cohorts)},
        reasons={h: answer.reason for h, answer in said.items() if answer.answer == "refused"},
        releases=releases,
    )


def answers(home: CoordinatorHome, study: Study) -> dict[str, PlanAnswer]:
    """What hospitals answered to this very plan, by hospital."""
    roster, digest, found = home.roster, study.plan.digest(), {}
    for hospital in study.plan.cohorts:
        entry, path = roster.hospital(hospital), study.answers_path / f"{hospital}{layout.ENVELOPE_SUFFIX}"
        if entry is None or not path.exists():
            continue
        try:
            envelope = Envelope.load(path)
            key = envelope.signer_among(roster.keys_of(entry)) or entry.key
            answer = Signed.opened(PlanAnswer, envelope, key, ANSWER_PAYLOAD_TYPE).document
        except IntegrityError:
            continue  # of a key that it has no more
        if answer.plan_digest == digest:
            found[hospital] = answer
    return found


def released(home: CoordinatorHome, study: Study) -> tuple[str, ...]:
    """Names of the sealed releases of a study."""
    found = []
    for path in sorted(study.candidates_path.glob("[!.]*")):
        manifest = home.releases / path.name / layout.MANIFEST
        if manifest.exists() and ReleaseManifest.from_bytes(manifest.read_bytes()).study == study.plan.study:
            found.append(path.name)
    return tuple(found)


def too_few(study: Study, said: Mapping[str, PlanAnswer], *kinds: str) -> bool:
    """Whether so many hospitals gave answers of these kinds that no round can reach its quorum."""
    out = sum(answer.answer in kinds for answer in said.values())
    return len(study.plan.cohorts) - out < study.plan.quorum


def _state(study: Study, done: int, said: Mapping[str, PlanAnswer], releases: tuple[str, ...]) -> tuple[str, str]:
    wish, events = wanted(study).state, study.events()
    if wish in FINAL:
        return wish, "for good"
    if now := running(study):
        return _running(now[-1], [event for event in events if event.get("run") == now[-1].run])
    last = next((event for event in reversed(events) if event["kind"] in ENDS), None)
    ended = f"{last['action']} {last['kind']}: {last['reason']}" if last and last["kind"] != "done" else ""
    if releases:
        return "done", f"released as {', '.join(releases)}"
    if done == study.plan.rounds:
        return "trained", ended
    if wish == "paused":
        return "paused", "go on with: sonoshare coordinator study run"
    return _not_running(study, said, begun=any(event["kind"] == "round" for event in events), ended=ended)


def _not_running(study: Study, said: Mapping[str, PlanAnswer], *, begun: bool, ended: str) -> tuple[str, str]:
    if too_few(study, said, "refused"):
        return "refused", "; ".join(f"{h}: {a.reason}" for h, a in sorted(said.items()) if a.answer == "refused")
    if too_few(study, said, "refused", "waiting"):
        people = [hospital for hospital, answer in sorted(said.items()) if answer.answer == "waiting"]
        return "waiting", f"for a person at {', '.join(people)}"
    if begun:
        return "paused", ended or "the command that ran it ended"
    if said:
        silent = sorted(study.plan.cohorts.keys() - said.keys())
        return ("asked", f"no answer yet of {', '.join(silent)}") if silent else ("accepted", ended)
    return "created", ended


def _running(action: Action, events: list[dict[str, Any]]) -> tuple[str, str]:
    """State of an action whose command lives, by its own last event."""
    last: dict[str, Any] = events[-1] if events else {"kind": "started"}
    if last["kind"] == "started":
        return "waiting", f"for hospitals to connect ({action.words})"
    if last["kind"] == "queued":
        first = ", ".join(f"{other['study']} ({other['what']})" for other in last["ahead"])
        return "waiting", f"for its turn after {first}" if first else f"about to {action.words}"
    number = next((f"round {event['round']}" for event in reversed(events) if "round" in event), action.words)
    awaited = (
        f", awaits {', '.join(last['awaited'])} until {str(last['until'])[11:16]} UTC" if "awaited" in last else ""
    )
    return ("training" if action.action == "train" else "releasing"), f"{number}{awaited}"
