"""A release's number is taken once and never twice: by commands at once, after kills, and in folders of before."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.shared.killed import killed_at

from sonoshare_deploy.provision import create_coordinator
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_server.home import CoordinatorHome
from sonoshare_server.release.sequence import Taken, take_sequence
from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.state import read_state

OLD_MANIFEST = next(Path(__file__).parents[1].glob(f"golden/v1/**/{layout.MANIFEST}"))
MOST_OPERATIONS = 40


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    return create_coordinator(tmp_path / "c", Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001)), ("localhost",))


def numbers(home: CoordinatorHome) -> list[int]:
    return sorted(taken.number for taken in read_state(home.sequences_path, dict[str, Taken], remedy="").values())


def test_releases_that_are_built_at_once_have_each_a_number_and_keep_it(home: CoordinatorHome) -> None:
    together, names = threading.Barrier(6), [f"r{number}" for number in range(6)]

    def take(name: str) -> int:
        together.wait(10)
        return take_sequence(home, "study", name)

    with ThreadPoolExecutor(6) as pool:
        taken = dict(zip(names, pool.map(take, names), strict=True))
    assert sorted(taken.values()) == [1, 2, 3, 4, 5, 6]
    assert {name: take_sequence(home, "study", name) for name in names} == taken


def test_processes_at_once_take_different_numbers(home: CoordinatorHome) -> None:
    children = [in_child(lambda name=name: take_sequence(home, "study", name)) for name in ("r1", "r2", "r3")]  # type: ignore[misc]
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert numbers(home) == [1, 2, 3]


def in_child(act: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        failed = 1
        try:
            act()
            failed = 0
        finally:
            os._exit(failed)
    return child


def test_a_taking_that_is_killed_anywhere_gives_no_number_to_two(home: CoordinatorHome) -> None:
    take_sequence(home, "study", "r1")
    for step in range(MOST_OPERATIONS):
        name = f"killed-{step}"
        killed = killed_at(step, lambda name=name: take_sequence(home, "study", name), home.path)  # type: ignore[misc]
        taken = take_sequence(home, "study", name)
        assert take_sequence(home, "study", f"next-{step}") > taken > 2 * step
        if not killed:
            break
    assert not killed
    assert numbers(home) == list(range(1, 2 * step + 4))


def test_a_release_of_another_study_keeps_its_name(home: CoordinatorHome) -> None:
    take_sequence(home, "one", "r1")
    with pytest.raises(InputError, match="release r1 is of study one"):
        take_sequence(home, "two", "r1")
    assert numbers(home) == [1]


def test_a_folder_of_before_goes_on_from_what_its_manifests_hold(home: CoordinatorHome) -> None:
    old = ReleaseManifest.from_bytes(OLD_MANIFEST.read_bytes())
    for name, number in (("seventh", 7), ("third", 3)):
        folder = home.releases / name
        folder.mkdir(parents=True)
        manifest = old.model_copy(update={"release": name, "sequence": number, "study": "old"})
        (folder / layout.MANIFEST).write_bytes(manifest.canonical())
    assert take_sequence(home, "old", "third") == 3
    assert take_sequence(home, "study", "new") == 8


def test_a_damaged_file_gives_no_number(home: CoordinatorHome) -> None:
    home.sequences_path.write_bytes(b"{")
    with pytest.raises(IntegrityError, match="put back its newest copy"):
        take_sequence(home, "study", "r1")
