"""Who is let in: wrong keys are corrected, who has left is taken off, and the root key may lie on a stick."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.deploy.command import sonoshare
from tests.deploy.in_process import STUDY, World, copied
from tests.deploy.members import node_key
from tests.deploy.registry import Registry

from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.admission import admit, expel
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium, read_members
from sonoshare_server.consortium.registration import register_nodes
from sonoshare_server.federation.introduction import settle
from sonoshare_server.federation.registered import read_retired
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.keys import SigningKey


def keys() -> tuple[str, str]:
    return SigningKey.generate().public.hex, node_key()


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    return create_coordinator(tmp_path / "c", Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001)), ("localhost",))


def test_the_first_hospital_with_the_second_ones_keys_is_corrected_and_blocks_nobody(home: CoordinatorHome) -> None:
    north, south, registry = keys(), keys(), Registry()
    admit(home, "north", *south)
    register_nodes(home, registry)
    with pytest.raises(InputError, match=r"north is admitted with one of these keys.*correct north first"):
        admit(home, "south", *south)
    with pytest.raises(InputError, match="north is admitted with one of these keys"):  # a comment makes no other key
        admit(home, "south", SigningKey.generate().public.hex, f"{south[1].strip()} of-south")
    assert admit(home, "north", *north) == 2
    register_nodes(home, registry)
    assert admit(home, "south", SigningKey.generate().public.hex, south[1]) == 3  # the other key is mistyped this time
    assert admit(home, "south", *south) == 4
    register_nodes(home, registry)
    assert home.nodes == {"north": 101, "south": 100}
    assert [entry.identity_key for entry in home.roster.hospitals] == [north[0], south[0]]
    assert read_retired(home) == []


def test_a_wrong_node_key_is_taken_off_after_a_day_and_one_of_an_expelled_hospital_at_once(
    home: CoordinatorHome,
) -> None:
    wrong, right, south, registry = keys(), keys(), keys(), Registry()
    admit(home, "north", *wrong)
    admit(home, "south", *south)
    register_nodes(home, registry)
    admit(home, "north", *right)
    register_nodes(home, registry)
    assert registry.let_in() == {wrong[1], right[1], south[1]}
    register_nodes(home, registry, lambda: datetime.now(UTC) + timedelta(days=2))
    assert registry.let_in() == {right[1], south[1]}
    expel(home, "south")
    register_nodes(home, registry)
    assert registry.let_in() == {right[1]}
    with pytest.raises(InputError, match=r"taken off before.*hospital keys rotate --node"):
        admit(home, "south", *south)
    register_nodes(home, registry)  # nothing is taken off twice
    assert home.nodes == {"north": home.nodes["north"]}


def test_a_folder_that_lost_its_members_locks_nobody_out(home: CoordinatorHome) -> None:
    registry, north = Registry(), keys()
    admit(home, "north", *north)
    register_nodes(home, registry)
    home.members_path.unlink()
    register_nodes(home, registry)
    assert registry.let_in() == {north[1]}


def test_the_only_hospital_is_expelled_as_long_as_no_study_is_of_it(home: CoordinatorHome) -> None:
    north = keys()
    admit(home, "nroth", *north)
    expel(home, "nroth")
    assert read_members(home) == {}
    assert admit(home, "north", *north) == 2
    assert [entry.id for entry in home.roster.hospitals] == ["north"]


def test_keys_that_have_signed_a_ledger_head_are_not_replaced_in_passing(pristine: World, tmp_path: Path) -> None:
    """The new key would have an empty ledger: what was spent under the old one would be forgotten."""
    world = copied(pristine, tmp_path / "world")
    coordinator = world.coordinator()
    index = coordinator.logged({"kind": "plan", "study": STUDY, "digest": world.study.plan.digest()})
    settle(coordinator, index)
    with pytest.raises(InputError, match=r"north is admitted with other keys, and has signed with them"):
        admit(world.home, "north", *keys())


@pytest.mark.parametrize("command", ["admit", "expel"])
def test_a_root_key_that_is_kept_elsewhere_is_asked_for_and_taken_from_a_stick(
    home: CoordinatorHome, tmp_path: Path, command: str
) -> None:
    identity, node = keys()
    admit(home, "south", *keys())
    admit(home, "north", identity, node)
    stick = tmp_path / "stick.key"
    shutil.move(home.root_key_path, stick)
    asked = ["coordinator", command, "--home", home.path, "--id", "north"]
    if command == "admit":
        asked += ["--identity-key", identity, "--node-key", node]
    (line,) = sonoshare(*asked).errors
    assert f"the root key is not at {home.root_key_path} (bring it back from where it is kept" in line
    assert "init" not in line
    other = tmp_path / "other.key"
    SigningKey.generate().save(other)
    (line,) = sonoshare(*asked, "--root-key", other).errors
    assert "other.key is not the root key of this consortium" in line
    assert sonoshare(*asked, "--root-key", stick).returncode == 0
    assert home.roster.version == 3
