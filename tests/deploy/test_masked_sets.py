"""The set of a masked sum: what a hospital checks before it gives its numbers, and what a hostile server tries."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.deploy.hostile import bloated
from tests.deploy.hostile_server import HostileLog
from tests.deploy.in_process import STUDY, World
from tests.deploy.masked_world import (
    MEMBERS,
    NOMINALS,
    ask_for_set,
    changed_ready,
    copy_of,
    digest_of,
    payload_in,
    payload_of,
    ready_envelopes,
    reply_of,
    reveal_frame,
    revealed_by,
    signed_in,
)

from sonoshare_server.federation.coordinator import Coordinator
from sonoshare_server.federation.introduction import introduce
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.documents.masking import READY_PAYLOAD_TYPE, MaskReady
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import LogIndex, masked_set_entry
from sonoshare_shared.protocol.masked_set import masked_set
from sonoshare_shared.protocol.misconduct import verify_evidence


@pytest.fixture
def world(masked_ready: World, tmp_path: Path) -> World:
    return copy_of(masked_ready, tmp_path / "world")


def test_a_server_that_plays_two_sets_of_survivors_gets_numbers_for_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = ready_envelopes(world)
    fewer = everybody[:3]  # west is said to be lost
    first = ask_for_set(world, "north", everybody)
    numbers = payload_of(first)
    assert len(numbers) > 0
    # The same request gets the same bytes; the key is gone.
    again = ask_for_set(world, "north", everybody)
    assert (payload_of(again), signed_in(reply_of(again))) == (numbers, signed_in(reply_of(first)))
    assert world.nodes["north"].masks.find(STUDY, 1) is None
    # An honest log has one set for a round.
    with pytest.raises(InputError, match="another masked-set"):
        world.coordinator().logged(masked_set_entry(STUDY, 1, digest_of(fewer)))
    refused = reply_of(world.fleet.agents["north"].answer(reveal_frame(world, "north", fewer))).refusal
    assert refused.error == "IntegrityError"
    # A hospital that believed whatever it is shown would still give nothing more.
    with monkeypatch.context() as patch:
        patch.setattr("sonoshare_client.agent.service.require_shown", lambda *_args, **_kwargs: None)
        refused = reply_of(world.fleet.agents["north"].answer(reveal_frame(world, "north", fewer))).refusal
    assert refused.error == "RefusedError"
    assert "already answered for another request" in refused.message
    assert revealed_by(world, "north") == numbers
    # A log with two sets proves what the server did.
    log = HostileLog(world, world.home.log().entries)
    log.append(masked_set_entry(STUDY, 1, digest_of(fewer)))
    hostile = Coordinator(world.home, world.study, world.fleet, log)
    refused = reply_of(world.fleet.agents["south"].answer(reveal_frame(world, "south", fewer, hostile))).refusal
    assert refused.error == "MisconductError"
    (evidence,) = world.nodes["south"].home.state.evidence_path.glob("*.json")
    assert "two-entries" in evidence.read_text()
    verify_evidence(evidence.read_bytes(), world.home.roster)
    assert revealed_by(world, "south") is None


def unsigned(world: World, good: list[Envelope]) -> list[Envelope]:
    said = MaskReady.from_bytes(payload_in(good[3]))
    return [*good[:3], Envelope.sign(READY_PAYLOAD_TYPE, said.canonical(), SigningKey.generate())]


def other_names(world: World, good: list[Envelope]) -> list[Envelope]:
    """West signs as if it were a hospital that the roster does not know, and as if it were south."""
    return [*good[:2], changed_ready(world, good[2], signer="west"), good[3]]


BAD_SETS: dict[str, tuple[Callable[[World, list[Envelope]], list[Envelope]], str]] = {
    "a key of an older round": (lambda w, s: [*s[:3], changed_ready(w, s[3], round=2)], "another round or study"),
    "of another study": (lambda w, s: [*s[:3], changed_ready(w, s[3], study="other")], "another round or study"),
    "of another plan": (lambda w, s: [*s[:3], changed_ready(w, s[3], plan="0" * 64)], "another round or study"),
    "from another model": (
        lambda w, s: [*s[:3], changed_ready(w, s[3], adapter_digest="0" * 64)],
        "did not start from one model",
    ),
    "in another layout": (lambda w, s: [*s[:3], changed_ready(w, s[3], layout="0" * 64)], "did not start from one"),
    "a key that nobody of the roster signed": (unsigned, "no hospital of the roster"),
    "a key that another hospital signed": (other_names, "twice in the set, or out of order|for another hospital"),
    "a key of another hospital": (
        lambda w, s: [*s[:3], changed_ready(w, s[3], key=MaskReady.from_bytes(payload_in(s[2])).key)],
        "signed one key",
    ),
    "a double": (lambda w, s: [s[0], s[1], s[2], s[2], s[3]], "stands twice"),
    "a double with another key": (
        lambda w, s: [s[0], s[1], s[2], changed_ready(w, s[2], key="1" * 64), s[3]],
        "stands twice",
    ),
    "beside another signature": (lambda w, s: [*s[:3], bloated(s[3])], "more than the one signature"),
    "out of order": (lambda w, s: [s[1], s[0], s[2], s[3]], "out of order"),
    "fewer than the quorum": (lambda w, s: s[:2], "a masked sum of 2 hospitals"),
    "alone": (lambda w, s: [s[1]], "a masked sum of 1 hospitals"),
}


def test_a_hospital_of_the_roster_that_is_not_of_the_plan_is_in_no_set(masked_ready: World) -> None:
    plan = masked_ready.study.plan
    smaller = plan.model_copy(update={"cohorts": {hospital: NOMINALS[hospital] for hospital in MEMBERS[:3]}})
    with pytest.raises(IntegrityError, match="west is not part of the study"):
        masked_set(ready_envelopes(masked_ready), masked_ready.home.roster, smaller, 1, LogIndex())
    assert (
        tuple(masked_set(ready_envelopes(masked_ready), masked_ready.home.roster, plan, 1, LogIndex()).ready) == MEMBERS
    )


@pytest.mark.parametrize("what", BAD_SETS)
def test_a_hospital_gives_no_numbers_for_a_set_that_is_not_right(masked_ready: World, what: str) -> None:
    change, reason = BAD_SETS[what]
    refusal = reply_of(
        masked_ready.fleet.agents["north"].answer(
            reveal_frame(masked_ready, "north", change(masked_ready, ready_envelopes(masked_ready)))
        )
    ).refusal
    assert refusal.error in {"IntegrityError", "VerificationError", "RefusedError"}
    assert any(part in refusal.message for part in reason.split("|"))
    assert revealed_by(masked_ready, "north") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w, s: [s[0], s[2], s[3]], "north is not in the set"),
        (lambda w, s: [*s[:3], changed_ready(w, s[3], key="0" * 64)], "no key"),
        (lambda w, s: [s[0], changed_ready(w, s[1], key="1" * 64), *s[2:]], "another key of this hospital"),
    ],
    ids=["itself missing", "a colluder's point of small order", "another key of its own"],
)
def test_a_set_that_the_log_shows_is_checked_against_what_the_hospital_knows_itself(
    world: World, change: Callable[[World, list[Envelope]], list[Envelope]], reason: str
) -> None:
    refusal = reply_of(ask_for_set(world, "north", change(world, ready_envelopes(world)))).refusal
    assert reason in refusal.message
    assert revealed_by(world, "north") is None


def test_a_set_that_the_log_does_not_show_is_refused(masked_ready: World) -> None:
    coordinator = masked_ready.coordinator()
    for _ in range(2):
        introduce(coordinator, MEMBERS)
    answer = masked_ready.fleet.agents["north"].answer(
        reveal_frame(masked_ready, "north", ready_envelopes(masked_ready), coordinator)
    )
    assert reply_of(answer).refusal.error == "IntegrityError"
    assert revealed_by(masked_ready, "north") is None
