"""Coordinator, hospital and researcher as operating-system users of their own: nobody reads another's home."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks._separate_users import REPOSITORY, Person, faults, free_numbers, mailed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as other users")
SYSTEM_PYTHON = "/usr/bin/python3"  # the tests' own may lie in root's home, where no other user may go


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Person]]:
    """Two users with a key each; pytest's folders, which are root's alone, can be passed meanwhile."""
    monkeypatch.setattr(sys, "executable", SYSTEM_PYTHON)
    closed = [folder for folder in tmp_path.parents if not folder.stat().st_mode & stat.S_IXOTH]
    modes = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in (tmp_path, *closed)}
    for folder, mode in modes.items():
        folder.chmod(mode | stat.S_IXOTH)
    made = [Person.made(name, number, tmp_path) for name, number in zip("ab", free_numbers(2), strict=True)]
    for person in made:
        key = person.home / "node" / "identity.key"
        assert person.run("mkdir", "-m", "700", "node").returncode == 0
        assert person.run("sh", "-c", f"umask 077; echo secret > {key}").returncode == 0
    yield made
    for folder, mode in modes.items():
        folder.chmod(mode)


def seen(people: list[Person]) -> str:
    return "\n".join(faults(people, [person.home / "node" for person in people])[0])


def test_separate_users_set_up_a_consortium_by_mail_and_read_nothing_of_each_other() -> None:
    line = [sys.executable, "-m", "benchmarks.users", "--small", "--json"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["users"], result["mails"], result["faults"], result["left"]) == (3, 2, 0, 0)
    assert result["private_keys"] >= 7
    assert result["tries"] >= 2 * result["paths"] > 60


def test_closed_homes_have_no_fault(people: list[Person]) -> None:
    assert seen(people) == ""


def test_a_home_that_another_can_read_is_seen(people: list[Person]) -> None:
    a, b = people
    a.home.chmod(0o755)
    (a.home / "node").chmod(0o755)
    (a.home / "node" / "identity.key").chmod(0o644)
    said = seen(people)
    assert f"b reads {a.home / 'node' / 'identity.key'}" in said
    assert f"{a.home / 'node' / 'identity.key'}: 644, not 600" in said
    assert f"{a.home / 'node'}: 755, not 700" in said
    assert f"a reads {b.home}" not in said


def test_a_file_of_root_in_a_home_is_seen(people: list[Person]) -> None:
    (people[0].home / "log").write_text("from root")
    assert seen(people) == f"{people[0].home / 'log'} belongs to 0"


def test_what_is_left_outside_of_the_homes_is_seen(people: list[Person]) -> None:
    place = Path(people[0].run("mktemp", "--tmpdir=/tmp").stdout.decode().strip())
    try:
        assert seen(people) == f"{place} was left outside of the homes"
    finally:
        place.unlink()


def test_mail_belongs_to_its_receiver_alone(people: list[Person]) -> None:
    received = mailed(people[0].home / "node" / "identity.key", people[1])
    assert received.stat().st_uid == people[1].number
    assert stat.S_IMODE(received.stat().st_mode) == 0o600
