"""Journeys in which somebody stops, kills or hangs something while hospitals train and audit."""

import signal
import time
from typing import Any, Final

from benchmarks._live_world import Live, Typed, require, running

HOSPITALS: Final = ("north", "south", "west")
WEST: Final = "west"
ENDS: Final[dict[str, str | signal.Signals]] = {
    "study stop": "typed",
    "study pause": "typed",
    "SIGINT": signal.SIGINT,
    "SIGTERM": signal.SIGTERM,
    "SIGHUP": signal.SIGHUP,
    "SIGKILL": signal.SIGKILL,
}
END_SECONDS: Final = 60.0
"""Of a command that was stopped; on a machine that others use too."""
SHORT_DEADLINE: Final = 60
ASKED_SECONDS: Final = 3.0
"""After the hospitals are online, until they are asked."""


def _until(world: Live, typed: Typed, kind: str, study: str, **fields: object) -> None:
    """Wait until a command's own action says something; the command must not end before."""
    before = len(world.study(study).events())

    def holds() -> bool:
        require(typed.process.poll() is None, f"the command ended: {typed.said()[-800:]}")
        events = world.study(study).events()[before:]
        return any(
            event["kind"] == kind and all(event.get(name) == value for name, value in fields.items())
            for event in events
        )

    world.until(holds, f"{kind} {fields}")


def _stop(world: Live, study: str, typed: Typed, how: str) -> None:
    """Stop a command, and check that it and what it asked for end, and that it says why."""
    end = ENDS[how]
    if isinstance(end, str):
        said = world.at("study", how.split()[1], "--name", study)
        require(said["state"] in {"paused", "trained"}, f"{how}: {said}")
    else:
        typed.process.send_signal(end)
    status = typed.end(END_SECONDS)
    require(status != 0, f"{how}: the command says that it is done")
    world.until(lambda: not world.actions(), f"{how}: the action ends", END_SECONDS)
    require("Traceback" not in typed.said(), f"{how}: {typed.said()[-1500:]}")
    if isinstance(end, str):
        require("was stopped" in typed.said(), f"{how}: {typed.said()[-600:]}")
    state = world.state(study)
    require(state["state"] in {"paused", "trained"}, f"{how}: {state}")


def stops(world: Live) -> dict[str, Any]:
    """``study run`` and ``release create`` are stopped in every way, and given again."""
    rounds = len(ENDS) + 2
    with running(world, *HOSPITALS):
        world.create("s1", HOSPITALS, rounds=rounds, quorum=3, local_steps=8)
        for number, how in enumerate(ENDS, start=2):
            typed = world.begin("study", "run", "--name", "s1")
            _until(world, typed, "waiting", "s1", round=number)
            _stop(world, "s1", typed, how)
        world.at("study", "run", "--name", "s1")
        require(len(world.rounds("s1")) == rounds, f"rounds: {world.rounds('s1')}")
        world.require_charged_once(*HOSPITALS)
        _stop_a_release(world)
        charges = {hospital: sum(world.charges(hospital).values()) for hospital in HOSPITALS}
        require(set(charges.values()) == {rounds + audits(world)}, f"charges: {charges}")
        _given_up(world)
    return {"stopped": list(ENDS), "charges": charges, "rounds": rounds}


def _stop_a_release(world: Live) -> None:
    """In the audits; then, with one hospital hung, in every way."""
    create = ("release", "create", "--study", "s1", "--name", "r1")
    typed = world.begin(*create)
    _until(world, typed, "waiting", "s1")
    _stop(world, "s1", typed, "SIGTERM")
    world.signal(WEST, signal.SIGSTOP)
    for how in ENDS:
        typed = world.begin(*create)
        _until(world, typed, "online", "s1")
        time.sleep(ASKED_SECONDS)
        _stop(world, "s1", typed, how)
    world.signal(WEST, signal.SIGCONT)
    made = world.at(*create)
    require(set(made["verdicts"].values()) == {"PASS"}, f"verdicts: {made['verdicts']}")
    world.require_charged_once(*HOSPITALS)


def audits(world: Live) -> int:
    """Charges of one audit."""
    return sum("round" not in purpose for _, purpose in world.charges(WEST))


def _given_up(world: Live) -> None:
    """``retire`` after a release and ``cancel`` in a round are for good, and say so in one line."""
    world.at("study", "retire", "--name", "s1")
    require("retired" in world.refused_at("study", "run", "--name", "s1"), "a retired study says so")
    require("retired" in world.refused_at("release", "create", "--study", "s1", "--name", "r2"), "and for releases")
    world.create("s2", HOSPITALS, rounds=3, quorum=3, local_steps=8)
    typed = world.begin("study", "run", "--name", "s2")
    _until(world, typed, "waiting", "s2", round=1)
    said = world.at("study", "cancel", "--name", "s2")
    require(said["state"] == "cancelled" and said["epsilon_spent_at_most"] > 0, f"cancel: {said}")
    require(typed.end(END_SECONDS) == 1 and "cancelled" in typed.said(), f"cancel: {typed.said()[-600:]}")
    require("cancelled" in world.refused_at("study", "run", "--name", "s2"), "a cancelled study says so")


def hung(world: Live) -> dict[str, Any]:
    """An agent hangs for longer than a round's deadline, and goes on."""
    with running(world, *HOSPITALS):
        world.create("s1", HOSPITALS, rounds=8, quorum=2, round_deadline=SHORT_DEADLINE)
        typed = world.begin("study", "run", "--name", "s1")
        world.until(lambda: world.rounds("s1"), "round 1 is closed")
        world.signal(WEST, signal.SIGSTOP)
        at = len(world.rounds("s1"))
        world.until(lambda: world.events("s1", "waiting", awaited=[WEST]), "the coordinator names who is awaited")
        agent = world.of(WEST, "status")["agent"]
        require(agent["state"] == "hung", f"hospital status of a hung agent: {agent}")
        world.until(lambda: world.events("s1", "missing", hospital=WEST), "the round closes without it")
        world.signal(WEST, signal.SIGCONT)
        status = typed.end()
        require(status == 0, f"study run: {typed.said()[-600:]}")
        present = [WEST in hospitals for hospitals in world.rounds("s1")]
        require(len(present) == 8, f"rounds: {present}")
        require(not all(present[at:]), "it was in every round: it did not hang")
        if not present[-1]:
            # It came back too late for this study's last round: the next study has it.
            world.create("s2", HOSPITALS, rounds=1, quorum=3)
            world.at("study", "run", "--name", "s2")
        world.require_charged_once(*HOSPITALS)
    return {"rounds": present, "missing": world.events("s1", "missing")[0]["reason"]}


def restarts(world: Live) -> dict[str, Any]:
    """Agent and courier are two services: each is stopped, killed and started again alone, while a study runs."""
    with world:
        world.start("north", "south")
        for part in ("agent", "courier"):
            world.start(WEST, only=part)
        busy = {part: world.refused_of(WEST, *_start(world, part)) for part in ("agent", "courier")}
        require(all("runs already" in words for words in busy.values()), f"a second one: {busy}")
        world.create("s1", HOSPITALS, rounds=9, quorum=2, local_steps=6)
        typed = world.begin("study", "run", "--name", "s1")
        for part, how in (("agent", signal.SIGTERM), ("courier", signal.SIGTERM), ("agent", signal.SIGKILL)):
            _until(world, typed, "aggregated", "s1")
            world.signal(f"{WEST}-{part}", how)
            world.start(WEST, only=part)
        require(typed.end() == 0, f"study run: {typed.said()[-600:]}")
        present = [WEST in hospitals for hospitals in world.rounds("s1")]
        world.create("s2", HOSPITALS, rounds=1, quorum=3)
        world.at("study", "run", "--name", "s2")
        world.require_charged_once(*HOSPITALS)
    world.require_nothing_left()
    return {"rounds": present, "second": busy}


def _start(world: Live, part: str) -> tuple[str, ...]:
    line = ("--superlink", world.ports["fleet"], "--root-certificate", str(world.home.authority_path))
    return ("start", "--only", part, *(() if part == "agent" else line))
