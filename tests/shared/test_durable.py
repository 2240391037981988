"""Files and folders are there whole or not at all: killed at every operation, on a full disk, and by nobody else."""

import ast
import errno
import fcntl
import json
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.shared.killed import full_disk_after, killed_at

import sonoshare_client
import sonoshare_deploy
import sonoshare_privacy
import sonoshare_server
import sonoshare_shared
from sonoshare_shared import durable
from sonoshare_shared.durable import (
    appearing,
    append_at,
    append_line,
    create,
    put,
    write_atomically,
    write_parts_atomically,
)
from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.events import EventLog
from sonoshare_shared.state import read_state, write_state

OLD, NEW = b"old" * 3, b"new" * 50_000
MOST_OPERATIONS = 40


def folder_of(path: Path) -> None:
    with appearing(path, durable=True) as building:
        put(building, "a/one", OLD)
        put(building, "two", NEW)


def tree(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@dataclass(frozen=True)
class Write:
    """A write, and every state in which a kill may leave what it writes."""

    act: Callable[[Path], object]
    states: tuple[dict[str, bytes], ...]


WRITES = {
    "write_atomically": Write(lambda f: write_atomically(f / "x", NEW), ({"x": OLD}, {"x": NEW})),
    "write_parts_atomically": Write(
        lambda f: write_parts_atomically(f / "x", (NEW[:9], NEW[9:])), ({"x": OLD}, {"x": NEW})
    ),
    "create": Write(lambda f: create(f / "y", NEW), ({"x": OLD}, {"x": OLD, "y": NEW})),
    "append_line": Write(lambda f: append_line(f / "x", b"z"), ({"x": OLD}, {"x": OLD + b"\nz\n"})),
    "append_at": Write(lambda f: append_at(f / "x", 3, b"z"), ({"x": OLD}, {"x": OLD[:3]}, {"x": OLD[:3] + b"z"})),
    "appearing": Write(lambda f: folder_of(f / "d"), ({"x": OLD}, {"x": OLD, "d/a/one": OLD, "d/two": NEW})),
}


def settled(folder: Path) -> dict[str, bytes]:
    """What a reader sees: the parts of a write that did not end have names of their own."""
    return {name: data for name, data in tree(folder).items() if ".part" not in name and ".building" not in name}


@pytest.mark.parametrize("name", WRITES)
def test_killed_at_any_operation_a_reader_sees_the_old_or_the_new(name: str, tmp_path: Path) -> None:
    write, seen = WRITES[name], list[dict[str, bytes]]()
    for step in range(MOST_OPERATIONS):
        folder = tmp_path / str(step)
        folder.mkdir()
        (folder / "x").write_bytes(OLD)
        killed = killed_at(step, lambda folder=folder: write.act(folder), folder)  # type: ignore[misc]
        assert settled(folder) in write.states, step
        seen.append(settled(folder))
        if not killed:
            break
        # The same again goes on from whatever was left.
        if seen[-1] != write.states[-1]:
            write.act(folder)
            assert settled(folder) == write.states[-1]
    assert not killed
    assert seen[0] == write.states[0]
    assert seen[-1] == write.states[-1]


@pytest.mark.parametrize("name", sorted(WRITES.keys() - {"append_line", "append_at"}))
def test_on_a_full_disk_the_old_stands_and_no_part_keeps_the_room(name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(OLD)
    with full_disk_after(0), pytest.raises(OSError, match="No space") as caught:
        WRITES[name].act(tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert tree(tmp_path) == {"x": OLD}


def test_of_two_makers_of_a_file_one_wins(tmp_path: Path) -> None:
    create(tmp_path / "x", OLD, mode=0o600)
    with pytest.raises(FileExistsError):
        create(tmp_path / "x", NEW)
    assert tree(tmp_path) == {"x": OLD}
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_a_maker_that_comes_between_the_look_and_the_link_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def late(source: Path, target: Path) -> None:
        target.write_bytes(OLD)
        link(source, target)

    monkeypatch.setattr(durable.os, "link", late)  # type: ignore[attr-defined]
    with pytest.raises(FileExistsError):
        create(tmp_path / "x", NEW)
    assert tree(tmp_path) == {"x": OLD}


Save = Callable[[Path, bytes], None]


@pytest.mark.parametrize(("save", "winners"), [(create, 1), (write_atomically, 4)])
def test_writers_of_one_file_at_once_do_not_meet_in_one_part(
    save: Save, winners: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are as far as the flush of their part at the same time."""
    flush, meet = os.fsync, threading.Barrier(4, timeout=20)
    mine = threading.local()

    def together(descriptor: int) -> None:
        if not hasattr(mine, "met"):
            mine.met = True
            meet.wait()
        flush(descriptor)

    def written(data: bytes) -> bool:
        try:
            save(tmp_path / "x", data)
        except FileExistsError:
            return False
        return True

    monkeypatch.setattr(durable.os, "fsync", together)  # type: ignore[attr-defined]
    contents = [bytes([number]) * 70_000 for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        won = [data for data, ended in zip(contents, pool.map(written, contents), strict=True) if ended]
    assert len(won) == winners
    assert list(tree(tmp_path)) == ["x"]
    assert tree(tmp_path)["x"] in won


def test_a_part_that_is_taken_for_left_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer has opened and locked it, and removes it a moment later: its maker waits for that, and looks."""
    lock, others = fcntl.flock, list[threading.Timer]()

    def late(descriptor: int, operation: int) -> None:
        if not others:
            other = os.open(tmp_path / "x.part", os.O_RDONLY)
            lock(other, fcntl.LOCK_EX)

            def removed() -> None:
                (tmp_path / "x.part").unlink()
                os.close(other)

            others.append(threading.Timer(0.2, removed))
            others[0].start()
        lock(descriptor, operation)

    monkeypatch.setattr(durable.fcntl, "flock", late)  # type: ignore[attr-defined]
    write_atomically(tmp_path / "x", NEW)
    others[0].join()
    assert tree(tmp_path) == {"x": NEW}


def test_a_part_whose_writer_lives_stays_and_what_a_kill_has_left_goes(tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(OLD)
    with (tmp_path / "x.1.part").open("wb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        (tmp_path / "x.part").chmod(0o444)
        write_atomically(tmp_path / "x", NEW, mode=0o600)
        with (tmp_path / "x.part").open("wb") as too:
            fcntl.flock(too, fcntl.LOCK_EX)
            write_atomically(tmp_path / "x", OLD, mode=0o600)
        assert tree(tmp_path) == {"x": OLD, "x.part": b"", "x.1.part": b""}
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600, "not what was left has given it its permissions"


def test_a_part_that_is_a_second_name_of_the_file_is_not_written_into(tmp_path: Path) -> None:
    """So a maker leaves it that is killed between the two names: whoever writes it would tear the file itself."""
    (tmp_path / "x").write_bytes(OLD)
    (tmp_path / "x.part").hardlink_to(tmp_path / "x")
    with full_disk_after(0), pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "x", NEW)
    assert tree(tmp_path) == {"x": OLD}


def test_where_there_are_no_locks_a_part_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(durable.fcntl, "flock", without)  # type: ignore[attr-defined]
    (tmp_path / "x.part").write_bytes(b"")
    write_atomically(tmp_path / "x", NEW)
    assert tree(tmp_path) == {"x": NEW, "x.part": b""}


def test_a_file_system_without_hard_links_takes_new_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(_source: Path, _target: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(durable.os, "link", without)  # type: ignore[attr-defined]
    create(tmp_path / "x", NEW)
    assert tree(tmp_path) == {"x": NEW}


@dataclass(frozen=True)
class Seen:
    size: int
    head: str | None = None


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"a": {"size": ', b"[]", b'{"a": {}}', b'{"a": {"size": "x"}}', b"\xff\xfe", b"null"]
)
def test_a_torn_or_foreign_state_file_is_one_line_with_a_remedy(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    path.write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        read_state(path, dict[str, Seen], remedy="put back its newest copy")
    assert str(caught.value) == "seen.json is damaged, or another program's (put back its newest copy)"


def test_state_comes_back_as_it_was_and_newer_fields_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    write_state(path, {"a": Seen(3, "f"), "b": Seen(4)})
    assert read_state(path, dict[str, Seen], remedy="") == {"a": Seen(3, "f"), "b": Seen(4)}
    path.write_text(json.dumps({"a": {"size": 3, "of a later version": True}}))
    assert read_state(path, dict[str, Seen], remedy="") == {"a": Seen(3)}
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "none.json", dict[str, Seen], remedy="")


def test_figures_come_back_bit_for_bit_and_what_is_no_number_stays_none(tmp_path: Path) -> None:
    figures = {"auc": 0.1 + 0.2, "missing": math.nan, "bound": math.inf, "counts": [1, 2]}
    write_state(tmp_path / "unit.json", figures)
    again = read_state(tmp_path / "unit.json", dict[str, Any], remedy="")
    assert math.isnan(again.pop("missing"))
    assert again == {name: value for name, value in figures.items() if name != "missing"}


def test_an_event_that_was_cut_keeps_its_own_line_and_is_left_out(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    assert log.events() == []
    log.record("one", hospital="north")
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"time": "2026-')
    log.record("two")
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'\n[1]\n{"other": "program"}\n\xff\n')
    log.record("three")
    assert [event["kind"] for event in log.events()] == ["one", "two", "three"]
    assert log.events()[0]["hospital"] == "north"


# Writes outside `durable`, each with its reason. A picture or page for people is made again by the same command.
ALLOWED = {
    "sonoshare_shared/durable.py": "the one place",
    "sonoshare_shared/protocol/release/fetch.py": "parts that grow; each is checked by its digest when it is whole",
    "sonoshare_shared/science/evaluation/scaling.py": "a picture for people",
    "sonoshare_shared/science/imaging.py": "a picture for people",
    "sonoshare_privacy/plots.py": "pictures for people",
    "sonoshare_client/own_eyes/view.py": "pictures for people, in a folder that appears whole",
    "sonoshare_client/intake/twins.py": "a picture for people",
    "sonoshare_client/vault/blobs.py": "blobs: new names, flushed together, named by the index only then",
}
ROOMS = (sonoshare_shared, sonoshare_privacy, sonoshare_client, sonoshare_server, sonoshare_deploy)
WRITING_METHODS = {"write_text", "write_bytes", "touch", "rename", "link_to", "hardlink_to", "savefig", "copyfile"}
WRITING_FUNCTIONS = {
    "os.replace",
    "os.rename",
    "os.link",
    "os.truncate",
    "shutil.move",
    "shutil.copy",
    "shutil.copytree",
}
WRITING_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT"}


def writes_of(source: str) -> list[int]:
    """Lines of a module that write to a file by themselves."""
    return [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and _writes(node)]


def _writes(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return isinstance(call.func, ast.Name) and call.func.id == "open" and _writing_mode(call, 1)
    name, whole = call.func.attr, ast.unparse(call.func)
    if whole == "os.open":
        return any(flag in ast.unparse(call) for flag in WRITING_FLAGS)
    if name == "open":
        return _writing_mode(call, 0)
    if name == "replace" and whole not in WRITING_FUNCTIONS:  # of a path; a text's takes two
        return len(call.args) == 1 and not call.keywords
    if name == "save":  # of a picture
        return any(word.arg == "format" for word in call.keywords) and "buffer" not in ast.unparse(call)
    return name in WRITING_METHODS or whole in WRITING_FUNCTIONS


def _writing_mode(call: ast.Call, place: int) -> bool:
    given = [word.value for word in call.keywords if word.arg == "mode"] + call.args[place : place + 1]
    return any(isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wax+") for mode in given)


def test_every_write_goes_through_durable() -> None:
    found: dict[str, list[int]] = {}
    for room in ROOMS:
        place = Path(str(room.__file__)).parent
        for path in place.rglob("*.py"):
            if lines := writes_of(path.read_text(encoding="utf-8")):
                found[str(path.relative_to(place.parent))] = lines
    assert {name: lines for name, lines in found.items() if name not in ALLOWED} == {}
    assert sorted(ALLOWED) == sorted(found), "an exception that nothing needs any more"


@pytest.mark.parametrize(
    "line",
    [
        "p.write_text('x')",
        "(a / 'b').write_bytes(x)",
        "p.open('w')",
        "p.open(mode='ab')",
        "open(p, 'x')",
        "open(p, mode='r+')",
        "os.open(p, os.O_WRONLY | os.O_CREAT, 0o600)",
        "part.replace(path)",
        "part.rename(path)",
        "os.replace(a, b)",
        "os.link(a, b)",
        "p.touch()",
        "figure.savefig(p, dpi=1)",
        "Image.fromarray(a).save(p, format='PNG')",
    ],
)
def test_a_write_is_noticed(line: str) -> None:
    assert writes_of(line) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "p.open()",
        "open(p, 'rb')",
        "p.open('r', encoding='utf-8')",
        "t.replace('a', 'b')",
        "now.replace(microsecond=0)",
        "dataclasses.replace(x, a=1)",
        "os.open(p, os.O_RDONLY)",
        "write_atomically(p, b'')",
        "home.open(path)",
    ],
)
def test_what_is_no_write_is_let_through(line: str) -> None:
    assert writes_of(line) == []
