"""People who share a machine and nothing else: each an operating-system user with a home and a temporary folder.

Only root can make them. They are numbers without a line in /etc/passwd and without groups, and no program that they
start can gain rights. What travels between them is copied by ``mailed``, one file at a time, and belongs to its
receiver. Not promised: anything against root, nor that a number is used by nobody else on the machine; ``free_numbers``
takes numbers that no process has.
"""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

FIRST_NUMBER: Final = 20001
BLOCK: Final = 10
USUAL_UMASK: Final = 0o022
REPOSITORY: Final = Path(__file__).resolve().parents[1]
OWN_MOUNTS: Final = "SONOSHARE_BENCH_OWN_MOUNTS"
PRIVATE_KEY: Final = b"PRIVATE KEY"
WALK: Final = """
import os, sys
for path in sys.stdin.buffer.read().split(b"\\0"):
    try:
        os.listdir(path) if os.path.isdir(path) else os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        continue
    sys.stdout.buffer.write(path + b"\\0")
"""


@dataclass(frozen=True)
class Person:
    """An operating-system user.

    Attributes:
        name: what the script calls them.
        number: user and group.
        home: their HOME, mode 0700; TMPDIR is ``tmp`` in it.
    """

    name: str
    number: int
    home: Path

    @classmethod
    def made(cls, name: str, number: int, homes: Path) -> "Person":
        """Make the two folders. Needs root."""
        this = cls(name, number, homes / name)
        for folder in (this.home, this.temporary):
            folder.mkdir(mode=0o700)
            os.chown(folder, number, number)
        return this

    @property
    def temporary(self) -> Path:
        """TMPDIR."""
        return self.home / "tmp"

    @property
    def variables(self) -> dict[str, str]:
        """Environment after a login: nothing of root's."""
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def line(self, *words: object) -> tuple[str, ...]:
        """A command line that runs as this user."""
        number = str(self.number)
        given = ("setpriv", "--reuid", number, "--regid", number, "--clear-groups", "--no-new-privs", "--")
        return (*given, *map(str, words))

    def run(self, *words: object, typed: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run a command in the home to its end, with ``typed`` as its input."""
        return subprocess.run(
            self.line(*words),
            cwd=self.home,
            env=self.variables,
            input=typed,
            capture_output=True,
            check=False,
            umask=USUAL_UMASK,
        )

    def start(self, log: str, *words: object) -> "subprocess.Popen[bytes]":
        """Start a command that goes on, in a session of its own, with a log in the home."""
        place = self.home / log
        with place.open("wb") as output:
            os.chown(place, self.number, self.number)
            return subprocess.Popen(
                self.line(*words),
                cwd=self.home,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=USUAL_UMASK,
            )


def mailed(sent: Path, to: Person) -> Path:
    """Copy a file into a person's home, as a mail program would save it: theirs, for them alone."""
    received = to.home / sent.name
    shutil.copyfile(sent, received)
    received.chmod(0o600)
    os.chown(received, to.number, to.number)
    return received


def free_numbers(count: int) -> list[int]:
    """Numbers of users that no process has."""
    taken = set[int]()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            taken.update(process.uids())
    first = FIRST_NUMBER
    while taken.intersection(range(first, first + count)):
        first += BLOCK
    return list(range(first, first + count))


def everything(folder: Path) -> list[Path]:
    """A folder and all that is in it; links are not followed."""
    return [folder, *folder.rglob("*")]


def readable_by(person: Person, paths: Iterable[Path]) -> set[Path]:
    """Which of these files and folders that person can open, tried as that person.

    Raises:
        RuntimeError: it could not be tried.
    """
    asked = b"\0".join(os.fsencode(path) for path in paths)
    done = person.run(sys.executable, "-I", "-S", "-c", WALK, typed=asked)
    if done.returncode:
        raise RuntimeError(f"{person.name} cannot walk: {done.stderr.decode()[-600:]}")
    return {Path(os.fsdecode(path)) for path in done.stdout.split(b"\0") if path}


def _is_private_key(path: Path) -> bool:
    return path.suffix == ".key" or PRIVATE_KEY in path.read_bytes()[:200]


def faults(people: Sequence[Person], roles: Iterable[Path]) -> tuple[list[str], dict[str, int]]:
    """Walk all homes when all is done: what is not as it must be, in words, and what was looked at.

    Args:
        people: all of them.
        roles: folders of coordinator and hospitals, in which every folder is for its owner alone.

    Returns:
        Faults, and counts: ``paths`` in all homes, ``tries`` to open another's, ``private_keys``, ``closed_folders``.
    """
    found = list[str]()
    counts = dict.fromkeys(("paths", "tries", "private_keys", "closed_folders"), 0)
    for owner in people:
        paths = everything(owner.home)
        counts["paths"] += len(paths)
        found += [f"{path} belongs to {path.lstat().st_uid}" for path in paths if path.lstat().st_uid != owner.number]
        if owner.home not in readable_by(owner, paths):
            found.append(f"{owner.name} cannot read {owner.home}: the walk proves nothing")
        for other in people:
            if other != owner:
                counts["tries"] += len(paths)
                found += [f"{other.name} reads {path}" for path in sorted(readable_by(other, paths))]
        keys = [path for path in paths if stat.S_ISREG(path.lstat().st_mode) and _is_private_key(path)]
        counts["private_keys"] += len(keys)
        found += [f"{path}: {_mode(path):o}, not 600" for path in keys if _mode(path) != 0o600]
        found += [f"{path}: {_mode(path):o}, not 700" for path in (owner.home, owner.temporary) if _mode(path) != 0o700]
    for role in roles:
        folders = [path for path in everything(role) if path.is_dir() and not path.is_symlink()]
        counts["closed_folders"] += len(folders)
        found += [f"{path}: {_mode(path):o}, not 700" for path in folders if _mode(path) != 0o700]
    return found + _strewn(people), counts


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def _strewn(people: Sequence[Person]) -> list[str]:
    """What these users left in the folders that everybody may write."""
    numbers = {person.number for person in people}
    found = list[str]()
    for folder in (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")):  # noqa: S108 - looked at, not written
        for entry in os.scandir(folder) if folder.is_dir() else ():
            with suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_uid in numbers:
                    found.append(f"{entry.path} was left outside of the homes")
    return found


def processes(people: Sequence[Person]) -> list[psutil.Process]:
    """Processes that run as one of these users."""
    numbers = {person.number for person in people}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real in numbers and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _hidden_above(folder: Path) -> Path | None:
    """The outermost folder above that other users may not pass."""
    for above in reversed(folder.parents):
        if not above.stat().st_mode & stat.S_IXOTH:
            return above
    return None


def show_programs(module: str, arguments: Sequence[str]) -> None:
    """Let other users run this Python and this code, where they lie in root's own home.

    Starts this module again in a mount namespace of its own, in which nothing of the hidden folder is left but these
    programs. Outside of it nothing changes, and the namespace ends with its processes. Returns at once where nothing
    is hidden.
    """
    needed = [Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), REPOSITORY]
    hidden = {folder: above for folder in needed if (above := _hidden_above(folder))}
    if not hidden:
        return
    if os.environ.get(OWN_MOUNTS) != "1":
        os.environ[OWN_MOUNTS] = "1"
        own = ("unshare", "--mount", "--propagation", "private", "--")
        os.execvp(own[0], [*own, sys.executable, "-m", module, *arguments])  # noqa: S606 - no shell is wanted
    held = {folder: Path(tempfile.mkdtemp()) for folder in hidden}
    for folder, place in held.items():
        _mount("--bind", folder, place)
    for above in set(hidden.values()):
        _mount("-t", "tmpfs", "-o", "mode=0755", "shown", above)
    for folder, place in held.items():
        folder.mkdir(parents=True, exist_ok=True)
        _mount("--bind", place, folder)
        subprocess.run(["/usr/bin/env", "umount", str(place)], check=True)
        place.rmdir()


def _mount(*words: object) -> None:
    subprocess.run(["/usr/bin/env", "mount", *map(str, words)], check=True)
