"""What coordinator and hospital keep, killed at every file operation: old or new, and the same again goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.deploy.members import node_key
from tests.shared.consortium import make_plan
from tests.shared.killed import full_disk_after, killed_at

from sonoshare_client.agent.replies import ReplyStore, Result
from sonoshare_client.node import witness
from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.addresses import Addresses
from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.admission import admit, expel
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium, read_members
from sonoshare_server.consortium.registration import register_nodes
from sonoshare_server.federation.registered import RegisteredNode
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import SigningKey

ADAPTERS = (b"zero", b"one" * 1000)
KEYS = {name: (SigningKey.generate().public.hex, node_key()) for name in ("north", "south")}
RESULT = Result(Envelope.sign("text/plain", b"update", SigningKey.generate()), b"payload" * 1000)
CONSORTIUM = Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001))
MOST_OPERATIONS = 200


class Registry:
    def register(self, hospital: str, _public_key: str) -> int:
        return len(hospital)

    def nodes(self) -> list[RegisteredNode]:
        return []

    def unregister(self, _node_id: int) -> None:
        raise AssertionError("nobody has left")


def coordinator(folder: Path) -> CoordinatorHome:
    home = create_coordinator(folder / "coordinator", CONSORTIUM, ("localhost",))
    admit(home, "north", *KEYS["north"])
    return home


def opened(folder: Path) -> CoordinatorHome:
    return CoordinatorHome(folder / "coordinator")


def with_study(folder: Path) -> None:
    coordinator(folder).create_study(make_plan(), ADAPTERS[0], sha256_hex(ADAPTERS[0]))


def study(folder: Path) -> Study:
    return opened(folder).study(make_plan().study)


def rounds_of(folder: Path) -> int:
    state = study(folder).state
    assert sha256_hex(study(folder).adapter()) == state.adapter_digest
    return state.rounds_done


def members_of(folder: Path) -> list[str]:
    """Who is in the roster; whoever is recorded as a member without being in it would be left out unseen."""
    roster = [entry.id for entry in opened(folder).roster.hospitals]
    assert len(set(roster) ^ set(read_members(opened(folder)))) <= 1
    return sorted(roster)


def created(folder: Path) -> bool:
    try:
        home = opened(folder)
    except InputError:
        assert not (folder / "coordinator").exists()
        return False
    assert Consortium.read(home) == CONSORTIUM
    assert home.root.hex == SigningKey.load(home.root_key_path).public.hex
    assert home.authority_key_path.stat().st_mode & 0o777 == 0o600
    return bool(home.nodes == {})


def node_made(folder: Path) -> bool:
    if not (folder / "node").exists():
        return False
    home = NodeHome.open(folder / "node")
    assert home.identity().public.hex
    assert home.policy().budget.lifetime_epsilon > 0
    return True


def enrolled(folder: Path) -> bool:
    try:
        witness.pinned_roster(folder / "state")
    except InputError:
        return False
    return True


def enrol(folder: Path) -> None:
    home = opened(folder)
    witness.enrol(folder / "state", home.roster_envelope, home.root)


@dataclass(frozen=True)
class Kept:
    """Something that is kept: how it begins, what changes it, and what may be read of it on the way."""

    begin: Callable[[Path], object]
    act: Callable[[Path], object]
    read: Callable[[Path], object]
    old: object
    new: object


KEPT = {
    "a coordinator's folder": Kept(
        lambda f: None,
        lambda f: create_coordinator(f / "coordinator", CONSORTIUM, ("localhost",)),
        created,
        False,
        True,
    ),
    "a round of a study": Kept(
        with_study, lambda f: study(f).commit_round(1, ADAPTERS[1], sha256_hex(ADAPTERS[1])), rounds_of, 0, 1
    ),
    "the roster": Kept(
        coordinator, lambda f: admit(opened(f), "south", *KEYS["south"]), members_of, ["north"], ["north", "south"]
    ),
    "node ids": Kept(
        coordinator, lambda f: register_nodes(opened(f), Registry()), lambda f: opened(f).nodes, {}, {"north": 5}
    ),
    "addresses": Kept(
        coordinator,
        lambda f: Addresses("a:1", "b:2", "c").write(opened(f)),
        lambda f: Addresses.running(opened(f)) and Addresses.read(opened(f)),
        False,
        Addresses("a:1", "b:2", "c"),
    ),
    "the log": Kept(
        coordinator,
        lambda f: opened(f).log().append({"kind": "plan"}) if len(opened(f).log()) == 0 else None,
        lambda f: len(opened(f).log()),
        0,
        1,
    ),
    "a stored reply": Kept(
        lambda f: None,
        lambda f: ReplyStore(f / "replies").store("train/s/1", "x", RESULT),
        lambda f: ReplyStore(f / "replies").find("train/s/1", "x"),
        None,
        RESULT,
    ),
    "the pinned roster": Kept(coordinator, enrol, enrolled, False, True),
    "a hospital's folder": Kept(lambda f: None, lambda f: NodeHome.create(f / "node", "north"), node_made, False, True),
}


@pytest.mark.parametrize("name", KEPT)
def test_killed_at_any_operation_what_is_kept_is_old_or_new(name: str, tmp_path: Path) -> None:
    kept, step, seen = KEPT[name], 0, set[str]()
    killed = True
    while killed:
        assert step < MOST_OPERATIONS
        folder = tmp_path / str(step)
        folder.mkdir()
        kept.begin(folder)
        killed = killed_at(step, lambda folder=folder: kept.act(folder), folder)  # type: ignore[misc]
        found = kept.read(folder)
        assert found in (kept.old, kept.new), step
        seen.add(repr(found))
        if found != kept.new:
            kept.act(folder)
            assert kept.read(folder) == kept.new
        # Close together where it is short, and every few operations where a whole folder is made.
        step += 1 if step < 12 else 7
    assert seen == {repr(kept.old), repr(kept.new)}


@pytest.mark.parametrize("name", sorted(KEPT.keys() - {"a hospital's folder"}))
@pytest.mark.parametrize("flushes", [0, 1, 2])
def test_on_a_full_disk_what_is_kept_is_old_or_new(name: str, flushes: int, tmp_path: Path) -> None:
    kept = KEPT[name]
    kept.begin(tmp_path)
    with full_disk_after(flushes) as struck:
        try:
            kept.act(tmp_path)
        except OSError:
            assert struck
    assert kept.read(tmp_path) in (kept.old, kept.new)
    if kept.read(tmp_path) == kept.old:
        kept.act(tmp_path)
    assert kept.read(tmp_path) == kept.new


def test_one_who_is_expelled_midway_is_expelled_by_the_same_command_again(tmp_path: Path) -> None:
    for step in range(40):
        folder = tmp_path / str(step)
        folder.mkdir()
        home = coordinator(folder)
        admit(home, "south", *KEYS["south"])
        killed = killed_at(step, lambda folder=folder: expel(opened(folder), "south"), folder)  # type: ignore[misc]
        if "south" in read_members(opened(folder)):
            expel(opened(folder), "south")
        assert members_of(folder) == ["north"]
        if not killed:
            return
    raise AssertionError("expelling takes no end")
