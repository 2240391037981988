"""Journeys in which people decide: a hospital's person, and who is let in and who leaves."""

import shutil
import signal
from datetime import UTC, datetime
from typing import Any, Final

from benchmarks._live_stops import HOSPITALS, WEST
from benchmarks._live_world import Live, Typed, require, rules, running
from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release.verify import verify_release

REASON: Final = "our board has not met"
NORTH_SOUTH: Final = ("north", "south")
EAST: Final = "east"


def approval(world: Live) -> dict[str, Any]:
    """West's person decides: not yet, yes, no; and a plan that was changed after the approval waits again."""
    asks = rules()
    asks = asks.model_copy(update={"federation": asks.federation.model_copy(update={"approve": "person"})})
    world.set_rules(WEST, asks)
    with running(world, *HOSPITALS):
        seen = _approved_while_it_runs(world)
        seen["reason"] = _refused_in_words(world)
        _changed_plan(world)
    return seen


def _approved_while_it_runs(world: Live) -> dict[str, Any]:
    world.create("all", HOSPITALS, rounds=1, quorum=3)
    waits = world.refused_at("study", "run", "--name", "all")
    require("it waits for a person at west" in waits, waits)
    require(world.state("all")["state"] == "waiting", "the study waits")
    (shown,) = world.of(WEST, "studies")["studies"]
    require((shown["study"], shown["state"]) == ("all", "waiting"), f"hospital studies: {shown}")
    wrong = world.refused_of(WEST, "approve", "all", "--plan", shown["plan"][:12] + "0" * 52)
    require(shown["plan"] in wrong, wrong)
    world.of(WEST, "approve", "all", "--plan", shown["plan"])
    world.at("study", "run", "--name", "all")
    # With a quorum of two the others train meanwhile, and west comes in as soon as its person has looked.
    world.create("two", HOSPITALS, rounds=8, quorum=2)
    typed = world.begin("study", "run", "--name", "two")
    world.until(lambda: world.rounds("two") or typed.process.poll() is not None, "a round without west")
    plan = next(one["plan"] for one in world.of(WEST, "studies")["studies"] if one["study"] == "two")
    world.of(WEST, "approve", "two", "--plan", plan)
    require(typed.end() == 0, f"study run: {typed.said()[-600:]}")
    present = [WEST in hospitals for hospitals in world.rounds("two")]
    require(not present[0] and present[-1], f"rounds with west: {present}")
    return {"waits": waits, "rounds_with_west": present}


def _refused_in_words(world: Live) -> str:
    world.create("no", HOSPITALS, rounds=1, quorum=3)
    asked = world.at("study", "propose", "--name", "no")
    require(asked["answers"][WEST] == "waiting", f"propose: {asked}")
    before = sum(world.charges("north").values())
    world.of(WEST, "refuse", "no", "--reason", REASON)
    said = world.refused_at("study", "run", "--name", "no")
    require(f"refused: west: {REASON}" in said, said)
    require(world.state("no")["state"] == "refused", "the study is refused")
    require(sum(world.charges("north").values()) == before, "nobody was charged for a study that was refused")
    return said


def _changed_plan(world: Live) -> None:
    """A coordinator that makes another plan under the name that was approved gets no training."""
    world.create("same", HOSPITALS, rounds=1, quorum=3)
    world.at("study", "propose", "--name", "same")
    plan = next(one["plan"] for one in world.of(WEST, "studies")["studies"] if one["study"] == "same")
    world.of(WEST, "approve", "same", "--plan", plan)
    shutil.rmtree(world.home.path / "studies" / "same")
    world.create("same", HOSPITALS, rounds=2, quorum=3)
    said = world.refused_at("study", "run", "--name", "same")
    require("it waits for a person at west" in said, said)
    require(not any(study == "same" for study, _ in world.charges(WEST)), "west was charged for what nobody approved")


def members(world: Live) -> dict[str, Any]:
    """East is admitted while a study runs, and west, which took part in it, is expelled."""
    with running(world, *HOSPITALS):
        world.create("s1", HOSPITALS, rounds=8, quorum=2)
        typed = world.begin("study", "run", "--name", "s1")
        world.until(lambda: world.rounds("s1"), "round 1 is closed")
        world.join(EAST)
        for hospital in (*HOSPITALS, EAST):
            world.enrol(hospital)
        world.start(EAST)
        at = len(world.rounds("s1"))
        world.at("expel", "--id", WEST)
        for hospital in (*NORTH_SOUTH, EAST):
            world.enrol(hospital)
        require(typed.end() == 0, f"study run: {typed.said()[-600:]}")
        if len(world.rounds("s1")) == at:
            require(at == 8, f"rounds: {at}")
        present = [WEST in hospitals for hospitals in world.rounds("s1")]
        require(present[0], "west took part")
        stopped = world.refused_at("release", "create", "--study", "s1", "--name", "r1")
        require("west took part in study s1 and is not in the roster any more" in stopped, stopped)
        seen = {"rounds_with_west": present, "release_after_expel": stopped}
        _without_west(world)
        _back(world)
    return seen


def _without_west(world: Live) -> None:
    """A study of the three that are left is released; so is one that named west, which took no part."""
    world.create("s2", (*NORTH_SOUTH, EAST), rounds=2, quorum=3)
    world.at("study", "run", "--name", "s2")
    require(world.rounds("s2") == [sorted((*NORTH_SOUTH, EAST))] * 2, f"rounds: {world.rounds('s2')}")
    released(world, "s2", "r2", {*NORTH_SOUTH, EAST})


def _back(world: Live) -> None:
    """Admitted again, by a node key that was not taken off before, west audits and signs what it took part in."""
    old = {key["key"]: key["public"] for key in world.of(WEST, "keys")["keys"]}
    words = ("--identity-key", old["identity"], "--node-key", old["node"])
    require("hospital keys rotate --node" in world.refused_at("admit", "--id", WEST, *words), "the way back is named")
    world.of(WEST, "keys", "rotate", "--node", "--out", str(world.folder / "change.json"))
    shown = {key["key"]: key["public"] for key in world.of(WEST, "keys")["keys"]}
    words = ("--identity-key", shown["identity"], "--node-key", shown["next node"])
    world.at("admit", "--id", WEST, *words)
    for hospital in (*HOSPITALS, EAST):
        world.enrol(hospital)
    world.signal(WEST, signal.SIGTERM)
    world.start(WEST)
    released(world, "s1", "r1", set(HOSPITALS))


def released(world: Live, study: str, release: str, hospitals: set[str]) -> None:
    """Create a release, publish it and verify it; all of these hospitals pass it, and nobody else is asked."""
    made = world.at("release", "create", "--study", study, "--name", release)
    require(made["verdicts"] == dict.fromkeys(sorted(hospitals), "PASS"), f"verdicts: {made['verdicts']}")
    world.at("release", "publish", "--name", release)
    roster = Envelope.load(world.home.roster_path)
    try:
        verify_release(world.home.releases / release, roster, now=datetime.now(UTC))
    except VerificationError as error:
        require(False, f"{release} does not verify: {error}")


def withdrawal(world: Live) -> dict[str, Any]:
    """West takes part, and then no more: its reason is heard, and without its PASS there is no release."""
    with running(world, *HOSPITALS):
        world.create("first", HOSPITALS, rounds=1, quorum=3)
        world.at("study", "run", "--name", "first")
        released(world, "first", "r1", set(HOSPITALS))
        world.create("s1", HOSPITALS, rounds=6, quorum=2, local_steps=6)
        typed = world.begin("study", "run", "--name", "s1")
        world.until(lambda: world.rounds("s1"), "round 1 is closed")
        world.of(WEST, "refuse", "s1", "--reason", REASON)
        world.at("release", "revoke", "--name", "r1", "--reason", "tried")
        require(typed.process.poll() is None, "the study ended before the release was revoked: nothing was tried")
        require(typed.end() == 0, f"study run: {typed.said()[-600:]}")
        return _after_withdrawal(world, typed)


def _after_withdrawal(world: Live, typed: Typed) -> dict[str, Any]:
    present = [WEST in hospitals for hospitals in world.rounds("s1")]
    require(present[0] and not present[-1], f"rounds with west: {present}")
    heard = [event["reason"] for event in world.events("s1", "refused", hospital=WEST)]
    require(heard and all(REASON in reason for reason in heard), f"reasons: {heard}")
    spent = world.charges(WEST)
    stopped = world.refused_at("release", "create", "--study", "s1", "--name", "r2")
    require("west" in stopped and REASON in stopped, stopped)
    require(world.charges(WEST) == spent, "west was charged after it had withdrawn")
    plan = next(one["plan"] for one in world.of(WEST, "studies")["studies"] if one["study"] == "s1")
    world.of(WEST, "approve", "s1", "--plan", plan)
    released(world, "s1", "r2", set(HOSPITALS))
    world.require_charged_once(*HOSPITALS)
    require("Traceback" not in typed.said(), typed.said()[-800:])
    return {"rounds_with_west": present, "reasons": sorted(set(heard)), "release_after_it": stopped}
