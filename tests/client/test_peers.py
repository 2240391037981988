"""Which views of other hospitals count, each attack on them alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.log_parts import STUDY, Keys, lines

from sonoshare_client.node.log_copy import LogCopy
from sonoshare_client.node.peers import Asker, require_peers, views_needed
from sonoshare_shared.errors import MisconductError, RefusedError, WitnessError
from sonoshare_shared.protocol.keys import SigningKey
from sonoshare_shared.protocol.log_index import plan_entry
from sonoshare_shared.protocol.misconduct import verify_evidence

CHALLENGE = "a" * 64
FRESH = {"a": CHALLENGE}


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def asker(tmp_path: Path, keys: Keys) -> Asker:
    log = LogCopy.open(tmp_path)
    log.extend(keys.part(STUDY), keys.coordinator.public)
    return Asker("a", CHALLENGE, keys.roster, log)


def require(asker: Asker, views: dict[Any, Any] | dict[str, Any], needed: int = 1, reach: int = 1) -> None:
    require_peers(asker, views, needed=needed, reach=reach)


def good(keys: Any, hospital: str = "b", size: int = 3, **changes: Any) -> Any:
    return keys.view(hospital, keys.head(STUDY[:size]), answers=FRESH, **changes)


def test_a_fresh_view_of_the_same_log_counts(asker: Asker, keys: Keys) -> None:
    require(asker, {"b": good(keys)})
    require(asker, {"b": good(keys, size=2), "c": good(keys, "c")}, needed=2)
    # All others, where the policy asks for more than there are.
    require(asker, {"b": good(keys), "c": good(keys, "c")}, needed=99)


def test_no_views_or_too_few_are_not_enough(asker: Asker, keys: Keys) -> None:
    with pytest.raises(WitnessError, match="0 of 1"):
        require(asker, {})
    with pytest.raises(WitnessError, match="1 of 2"):
        require(asker, {"b": good(keys)}, needed=2)
    require(asker, {}, needed=0)


def test_a_consortium_that_is_split_in_halves_does_not_go_on(tmp_path: Path) -> None:
    """Four honest hospitals, two logs: each pair would have seen its own from both of its members."""
    keys = Keys(hospitals={name: SigningKey.generate() for name in "abcd"})
    log = LogCopy.open(tmp_path)
    log.extend(keys.part(STUDY), keys.coordinator.public)
    asker = Asker("a", CHALLENGE, keys.roster, log)
    with pytest.raises(WitnessError, match="1 of 2"):
        require(asker, {"b": good(keys)})
    require(asker, {"b": good(keys), "c": good(keys, "c")})


@pytest.mark.parametrize("hospitals", range(1, 12))
def test_two_groups_that_act_have_a_hospital_in_common(hospitals: int) -> None:
    group = 1 + views_needed(1, hospitals)
    assert hospitals < 2 * group <= 2 * hospitals
    # No more than that: one of three, or of four and five, may be away.
    assert 2 * (group - 1) <= hospitals
    assert [views_needed(0, hospitals), views_needed(99, hospitals)] == [0, hospitals - 1]


def test_a_hospital_alone_in_its_consortium_needs_nobody(tmp_path: Path, keys: Keys) -> None:
    alone = keys.roster.model_copy(update={"hospitals": keys.roster.hospitals[:1]})
    require(Asker("a", CHALLENGE, alone, LogCopy.open(tmp_path)), {})


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        (lambda k: {"b": k.view("b", k.head(STUDY))}, "may be older"),
        (lambda k: {"b": k.view("b", k.head(STUDY), answers={"a": "0" * 64})}, "may be older"),
        (lambda k: {"b": k.view("b", k.head(STUDY), answers={"c": CHALLENGE})}, "may be older"),
        (lambda k: {"b": good(k, size=1)}, "must have seen 2"),
        (lambda k: {"b": k.view("b", None, answers=FRESH)}, "must have seen 2"),
        (lambda k: {"d": good(k, "d", key=SigningKey.generate())}, "d is not in the roster"),
        (lambda k: {"b": good(k, key=SigningKey.generate())}, "signature"),
        (lambda k: {"b": good(k, "c")}, "signature"),
        (lambda k: {"b": k.view("c", k.head(STUDY), answers=FRESH, key=k.hospitals["b"])}, "another hospital"),
        (lambda k: {"a": good(k, "a")}, "none of another"),
        (lambda k: {"b": good(k, ledger=k.ledger_head("c")[1])}, "signature"),
        (lambda k: {"b": k.view("b", k.head([*STUDY, b"{}"]), answers=FRESH)}, "longer log"),
    ],
)
def test_a_view_that_is_old_foreign_forged_or_behind_does_not_count(
    asker: Asker, keys: Keys, attack: Callable[..., dict[str, Any]], why: str
) -> None:
    with pytest.raises(WitnessError, match=why):
        require(asker, attack(keys))


def test_one_view_under_two_names_counts_once(asker: Asker, keys: Keys) -> None:
    view = good(keys)
    with pytest.raises(WitnessError, match="1 of 2"):
        require(asker, {"b": view, "c": view}, needed=2)


def test_a_view_of_another_log_is_evidence_against_whoever_signed_that_log(asker: Asker, keys: Keys) -> None:
    forked = lines(plan_entry("s", "f" * 64))
    # Even an old view proves it, and however many others count.
    views = {"b": good(keys), "c": keys.view("c", keys.head(forked))}
    with pytest.raises(MisconductError) as refused:
        require(asker, views)
    assert verify_evidence(refused.value.evidence, keys.roster)[0] == "coordinator"


def test_a_hospital_that_makes_up_a_log_head_makes_its_own_view_worthless_and_frames_nobody(
    asker: Asker, keys: Keys
) -> None:
    false = keys.head(STUDY, key=keys.hospitals["b"], root="0" * 64)
    with pytest.raises(WitnessError, match="signature"):
        require(asker, {"b": keys.view("b", false, answers=FRESH)})
    # The others' views count as before.
    require(asker, {"b": keys.view("b", false, answers=FRESH), "c": good(keys, "c")})


def test_a_hospital_that_holds_evidence_stops_the_others(asker: Asker, keys: Keys) -> None:
    with pytest.raises(RefusedError, match="b says that it holds evidence"):
        require(asker, {"b": good(keys, evidence="e" * 64), "c": good(keys, "c")})
