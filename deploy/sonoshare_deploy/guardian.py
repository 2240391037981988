"""The parent of one supervised process and of all that it ever starts: when it is to end, the whole tree does.

    role (hospital start, coordinator start, demo, ...)
      └─ guardian        this program; its standard input is the leash, which the role holds open
           └─ leader     what was to be started, in a session of its own
                └─ ...   whatever that starts, detached or not

| what is killed with SIGKILL | what ends the rest |
|---|---|
| the role | the leash closes (or the guardian has another parent): the leader is asked, then the tree is killed |
| the guardian | the kernel kills the leader with it; the role finds the others by their mark (``marks``) |
| the leader | the guardian kills what it has started, and ends with its exit status |
| role and guardian | the kernel kills the leader; the next start of the role ends the others by their mark |

Helpers that detach themselves, as Flower's do, stay below the guardian: it adopts orphans. The leader's output goes to
a log of bounded size, through the guardian.

Not promised: that a process ends that the kernel holds in an uninterruptible wait.

Run as ``python -m sonoshare_deploy.guardian LOG UID:GID|- FOLDER|- -- COMMAND...``.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from sonoshare_shared.durable import append_line, roll
from sonoshare_shared.lifeline import adopt_orphans, end_with_parent

GRACE_SECONDS: Final = 8.0
"""For a leader that was asked to end."""
HELPER_SECONDS: Final = 1.0
"""For what a leader leaves behind, once it has ended."""
KILL_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.5
MOST_LOG_BYTES: Final = 4 << 20
NONE: Final = "-"
_ASKING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_READ_BYTES: Final = 1 << 16
_NOT_STARTED: Final = 127
_COLOURS: Final = re.compile(rb"\x1b\[[0-9;]*m")


class Output:
    """The leader's output, line by line, in a log that is rolled over when it is large.

    Args:
        descriptor: read end of the pipe that the leader and its helpers write to.
        log: the file.
    """

    def __init__(self, descriptor: int, log: Path) -> None:
        self.descriptor, self._log = descriptor, log
        self._rest = b""

    def copy(self) -> bool:
        """Copy what is there; False at its end."""
        data = os.read(self.descriptor, _READ_BYTES)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data or len(self._rest) > _READ_BYTES:
            lines, self._rest = ([*lines, self._rest] if self._rest else lines), b""
        with contextlib.suppress(OSError):  # a full disk must not end what is being logged
            for line in lines:
                roll(self._log, MOST_LOG_BYTES)
                append_line(self._log, _COLOURS.sub(b"", line))
        return bool(data)

    def copy_rest(self, seconds: float) -> None:
        """Copy what is still in the pipe, for at most so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and select.select([self.descriptor], [], [], 0)[0] and self.copy():
            pass


class Guardian:
    """One leader and its tree.

    Args:
        command: the leader's command line.
        log: where its output goes.
        user: user and group id that it runs as; None for this process's own.
        folder: where it starts; None for this process's own.
    """

    def __init__(self, command: list[str], log: Path, user: tuple[int, int] | None, folder: str | None) -> None:
        self._parent, me = os.getppid(), os.getpid()
        adopt_orphans()
        self._wake = _woken_by_signals()

        def before_exec() -> None:
            end_with_parent(me)
            for number in _ASKING:  # a shell may have started all this with Ctrl-C ignored
                signal.signal(number, signal.SIG_DFL)

        leader = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=before_exec,  # noqa: PLW1509 - this process has one thread
            cwd=folder,
            user=None if user is None else user[0],
            group=None if user is None else user[1],
            extra_groups=None if user is None else (),
        )
        if leader.stdout is None:
            raise OSError("no pipe")
        self._leader, self._pipe = leader.pid, leader.stdout
        self._output = Output(leader.stdout.fileno(), log)
        self._status: int | None = None

    def watch(self) -> int:
        """Stay until the leader has ended, and its tree with it; returns the leader's exit status."""
        watched, asked_at = [self._wake, sys.stdin.fileno(), self._output.descriptor], float("inf")
        while self._status is None:
            ready, _, _ = select.select(watched, [], [], POLL_SECONDS)
            if self._output.descriptor in ready and not self._output.copy():
                watched.remove(self._output.descriptor)
            if asked_at == float("inf") and self._is_asked(ready):
                asked_at = time.monotonic()
                watched = [descriptor for descriptor in watched if descriptor != sys.stdin.fileno()]
                os.kill(self._leader, signal.SIGINT)  # not yet reaped: the number is still its own
            if time.monotonic() - asked_at > GRACE_SECONDS:
                self._end_tree()
            self._reap()
        self._end_helpers()
        self._output.copy_rest(HELPER_SECONDS)
        return self._status

    def _is_asked(self, ready: list[int]) -> bool:
        if os.getppid() != self._parent:
            return True
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), _READ_BYTES):
            return True
        return self._wake in ready and not set(os.read(self._wake, _READ_BYTES)).isdisjoint(_ASKING)

    def _reap(self) -> None:
        """Take note of everything that has ended below here: the leader's status counts, orphans are laid to rest."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._leader:
                    self._status = os.waitstatus_to_exitcode(status)

    def _end_helpers(self) -> None:
        """End what the leader has left: ask, wait a moment, kill."""
        helpers = _below()
        for helper in helpers:
            with contextlib.suppress(psutil.Error):
                helper.terminate()
        if helpers:
            self._wait_for_all(HELPER_SECONDS)
        self._end_tree()

    def _end_tree(self) -> None:
        end = time.monotonic() + KILL_SECONDS
        while (alive := _below()) and time.monotonic() < end:
            for process in alive:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self._wait_for_all(POLL_SECONDS)

    def _wait_for_all(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._reap()
            if not _below():
                return
            time.sleep(0.02)


def _below() -> list[psutil.Process]:
    return list(psutil.Process().children(recursive=True))


def _woken_by_signals() -> int:
    """A descriptor that has a byte for each signal that came: its number."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    for number in (*_ASKING, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    return read_end


def main() -> None:
    """Start the leader and stay with it."""
    log, user, folder, separator, *command = sys.argv[1:]
    if separator != "--" or not command:
        sys.exit("usage: guardian LOG UID:GID|- FOLDER|- -- COMMAND...")
    identity = None if user == NONE else (int(user.partition(":")[0]), int(user.partition(":")[2]))
    try:
        guardian = Guardian(command, Path(log), identity, None if folder == NONE else folder)
    except (OSError, subprocess.SubprocessError) as error:
        append_line(Path(log), f"error: {command[0]} could not be started: {error}".encode())
        sys.exit(_NOT_STARTED)
    status = guardian.watch()
    # A leader that a signal has ended shows as a shell shows it.
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
