"""What a lost node is taken to have spent is never less than what left it, whatever its ledger and log still show."""

from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.deploy.in_process import policy
from tests.log_parts import Keys
from tests.shared.consortium import make_plan

from sonoshare_client.node.declaring import Declaration, declaration, declare
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.ledger import open_ledger
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_client.node.plan_check import STAND_ALONE, check_plan, study_events
from sonoshare_privacy.accounting import Event, PureDP, SampledGaussian, less, merged
from sonoshare_privacy.budget import ChargeRequest
from sonoshare_shared.errors import InputError, MisconductError, PolicyError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.log_index import plan_entry

PLAN = make_plan().model_copy(update={"cohorts": {"west": 100, "south": 100}})
LATER = PLAN.model_copy(update={"study": "later"})
STEPS = SampledGaussian(0.25, 1.5, 3)


@pytest.fixture
def keys() -> Keys:
    return Keys()


def made(folder: Path, hospital: str, keys: Keys, *logged: StudyPlan) -> NodeHome:
    home = NodeHome.create(folder, hospital, policy=policy(study_epsilon=90.0, lifetime_epsilon=90.0, delta=1e-4))
    if logged:
        shown(home, keys, *logged)
    return home


def shown(home: NodeHome, keys: Keys, *logged: StudyPlan) -> None:
    """Extend a node's copy of the log; a fault of it is taken in."""
    lines = [canonical_bytes(plan_entry(plan.study, plan.digest())) for plan in logged]
    with suppress(MisconductError):
        LogCopy.open(home.state_path).extend(keys.part(lines), keys.coordinator.public)


def charged(
    home: NodeHome,
    study: str,
    *events: Event,
    purpose: str = "training round 1",
    delta: float = 1e-4,
    nominal: int = 100,
) -> None:
    with closing(open_ledger(home, lambda: datetime.now(UTC))) as ledger:
        ledger.reserve(ChargeRequest(study, purpose, events, delta, nominal))


def declared(home: NodeHome, said: Declaration) -> tuple[Event, ...]:
    """Charge it, and give everything that the ledger then holds."""
    with closing(open_ledger(home, lambda: datetime.now(UTC))) as ledger:
        declare(ledger, said)
        return merged([event for signed in ledger.entries() for event in signed.charge.events])


def covers(bound: Sequence[Event], spent: Sequence[Event]) -> bool:
    return not less(spent, bound)


def same(one: Sequence[Event], other: Sequence[Event]) -> bool:
    return covers(one, other) and covers(other, one)


def test_what_the_old_ledger_has_beside_the_plan_counts_too(tmp_path: Path, keys: Keys) -> None:
    """The plan may cost more at one delta and less once it is composed: the bound holds every mechanism of both."""
    lost, new = made(tmp_path / "west", "west", keys, PLAN), made(tmp_path / "west-2", "west-2", keys)
    charged(lost, PLAN.study, STEPS, PureDP(0.01))
    bound = declared(new, declaration(lost, [PLAN]))
    assert same(bound, [*study_events(PLAN), PureDP(0.01)])


def test_a_second_lost_node_brings_on_what_it_had_declared_itself(tmp_path: Path, keys: Keys) -> None:
    both = PLAN.model_copy(update={"cohorts": {"west": 100, "west-2": 100, "south": 100}})
    first = made(tmp_path / "west", "west", keys, both)
    second, third = made(tmp_path / "west-2", "west-2", keys, both), made(tmp_path / "west-3", "west-3", keys)
    declared(second, declaration(first, [both]))
    charged(second, both.study, STEPS)
    bound = declared(third, declaration(second, [both]))
    assert same(bound, study_events(both) * 2)


def test_a_log_with_two_plans_of_a_study_counts_the_first_which_alone_was_acted_on(tmp_path: Path, keys: Keys) -> None:
    small = PLAN.model_copy(update={"rounds": 1})
    lost, new = made(tmp_path / "west", "west", keys, PLAN, small), made(tmp_path / "west-2", "west-2", keys)
    assert same(declared(new, declaration(lost, [PLAN, small])), study_events(PLAN))


def test_a_plan_that_is_logged_in_other_words_first_stands_for_no_plan(tmp_path: Path, keys: Keys) -> None:
    """Agents read `2026` and `"2026"` as two studies, and act on the plan of the second."""
    plan = PLAN.model_copy(update={"study": "2026"})
    decoy = plan.model_copy(update={"cohorts": {"south": 100}})
    lost, new = made(tmp_path / "west", "west", keys), made(tmp_path / "west-2", "west-2", keys)
    lines = [
        canonical_bytes({"kind": "plan", "study": 2026, "digest": decoy.digest()}),
        canonical_bytes(plan_entry(plan.study, plan.digest())),
    ]
    log = LogCopy.open(lost.state_path)
    log.extend(keys.part(lines), keys.coordinator.public)
    assert log.require_entry(plan_entry(plan.study, plan.digest())) == 1
    assert same(declared(new, declaration(lost, [plan, decoy])), study_events(plan))


def test_a_longer_log_is_declared_for_what_is_new_in_it(tmp_path: Path, keys: Keys) -> None:
    lost, new = made(tmp_path / "west", "west", keys, PLAN), made(tmp_path / "west-2", "west-2", keys)
    once = declared(new, declaration(lost, [PLAN]))
    shown(lost, keys, PLAN, LATER)
    twice = declared(new, declaration(lost, [PLAN, LATER]))
    assert same(twice, [*once, *study_events(LATER)])
    with closing(open_ledger(new, lambda: datetime.now(UTC))) as ledger, pytest.raises(InputError, match="before"):
        declare(ledger, declaration(lost, [PLAN, LATER]))


def test_audits_of_lists_of_several_lengths_are_declared_as_they_were_charged(tmp_path: Path, keys: Keys) -> None:
    lost, new = made(tmp_path / "west", "west", keys), made(tmp_path / "west-2", "west-2", keys)
    for delta, nominal in ((3e-3, 50), (1e-4, 5000)):
        charged(lost, STAND_ALONE, PureDP(0.5), purpose="audit of candidate x", delta=delta, nominal=nominal)
    assert same(declared(new, declaration(lost)), [PureDP(0.5), PureDP(0.5)])


def test_what_the_new_node_was_shown_of_the_log_counts_too(tmp_path: Path, keys: Keys) -> None:
    lost, new = made(tmp_path / "west", "west", keys, PLAN), made(tmp_path / "west-2", "west-2", keys, PLAN, LATER)
    said = declaration(lost, [PLAN, LATER], new=new)
    assert (said.whole, said.log_entries, said.behind) == ((PLAN.study, LATER.study), 2, False)


def test_a_log_that_ends_before_the_ledger_is_no_base_for_a_bound(tmp_path: Path, keys: Keys) -> None:
    lost = made(tmp_path / "west", "west", keys)
    charged(lost, PLAN.study, STEPS)
    with pytest.raises(InputError, match="does not show: lesions"):
        declaration(lost, [PLAN])


def test_exchanged_folders_and_an_older_copy_of_the_node_itself_are_refused(tmp_path: Path, keys: Keys) -> None:
    lost, new = made(tmp_path / "west", "west", keys, PLAN), made(tmp_path / "west-2", "west-2", keys)
    with pytest.raises(InputError, match="nothing was spent"):
        declared(lost, declaration(new, [PLAN], new=lost))
    older = declaration(lost, [PLAN])
    charged(lost, PLAN.study, STEPS)
    with pytest.raises(InputError, match="same ledger"):
        declared(lost, older)


def test_audits_outside_of_studies_count_and_no_study_hides_among_them(tmp_path: Path, keys: Keys) -> None:
    hidden = PLAN.model_copy(update={"study": STAND_ALONE})
    lost, new = made(tmp_path / "west", "west", keys, hidden), made(tmp_path / "west-2", "west-2", keys)
    charged(lost, STAND_ALONE, PureDP(0.5), purpose="audit of candidate x")
    bound = declared(new, declaration(lost, [hidden], audits=(0.7, 0.7)))
    assert covers(bound, [*study_events(hidden), PureDP(0.5), PureDP(0.7), PureDP(0.7)])
    with pytest.raises(PolicyError, match="no study may be called"):
        check_plan(hidden, lost.policy(), "west")
