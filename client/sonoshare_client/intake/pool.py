"""Parent: child processes that take files in, watched, killed and restarted.

One child handles many files. When it dies, answers nonsense or takes too long, it is killed with its process group,
the file in hand gets a reason, and the next file gets a fresh child. Answers come in the order of the questions,
whatever the number of children; a bounded number of pictures is in memory.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from sonoshare_client.intake.channel import (
    ChannelClosedError,
    ChannelError,
    Question,
    Taken,
    receive_answer,
    receive_identity,
    receive_message,
    send_message,
)
from sonoshare_client.intake.limits import Limits
from sonoshare_client.intake.opening import open_checked
from sonoshare_client.intake.reasons import Cause, SetAside
from sonoshare_shared.errors import InputError
from sonoshare_shared.science.pictures.bounds import MIB
from sonoshare_shared.science.pictures.identity import Identity
from sonoshare_shared.science.pictures.reasons import Refused

CHILD: Final = (sys.executable, "-P", "-m", "sonoshare_client.intake.worker")
_START_SECONDS: Final = 60.0
_STARTS: Final = 3  # a child that somebody kills while it starts says nothing about any file
_IN_FLIGHT: Final = 4  # files asked about for each child, beyond the one it is at
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")
_OF_A_CHILD: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    # The networks that read text take and give back tens of megabytes at every layer. glibc would ask the kernel for
    # each, which is a sixth of the time of reading; so much is kept for the next layer instead.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(128 * MIB),
    "MALLOC_TRIM_THRESHOLD_": str(128 * MIB),
}

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class FileTask:
    """One picture to take in.

    Attributes:
        image: path below ``folder``.
        masks: paths of its masks below ``folder``.
        question: what the child is asked.
        identity: what a file is called is asked instead: ``keys``, or ``patient`` for the patient, too.
        content: gives the bytes that are asked about, where they are no file of the folder. They pass through memory
            without a name, never through a disk.
    """

    image: str
    masks: tuple[str, ...]
    question: Question
    identity: str = ""
    content: Callable[[], bytes] | None = None


@dataclass
class Child:
    """One child process and its socket; made on first use, remade after a failure."""

    limits: Limits
    devices: Sequence[str]
    command: Sequence[str] = CHILD
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _channel: socket.socket | None = field(default=None, init=False)

    def ask(self, question: Question, descriptors: list[int]) -> Taken | Cause:
        """Ask about one file; a child that fails is gone afterwards.

        After a crash the file gets a second try by a fresh child, so that it is not blamed for what an earlier file,
        or the operating system, did to the first one.
        """
        return self._twice(_message(question), descriptors, receive_answer)

    def identify(self, task: FileTask, descriptors: list[int]) -> Identity | Cause:
        """Ask what a file is called; as ``ask`` otherwise."""
        return self._twice(_message(task.question) | {"identity": task.identity}, descriptors, receive_identity)

    def _twice(
        self, message: dict[str, Any], descriptors: list[int], receive: Callable[[socket.socket, Limits], _Answer]
    ) -> _Answer | SetAside:
        answer = self._ask_once(message, descriptors, receive)
        return self._ask_once(message, descriptors, receive) if answer is SetAside.CRASHED else answer

    def _ask_once(
        self, message: dict[str, Any], descriptors: list[int], receive: Callable[[socket.socket, Limits], _Answer]
    ) -> _Answer | SetAside:
        channel = self._channel or self._start()
        for descriptor in descriptors:
            os.lseek(descriptor, 0, os.SEEK_SET)  # the child shares the offset
        try:
            channel.settimeout(self.limits.wall_seconds)
            send_message(channel, message, descriptors)
            return receive(channel, self.limits)
        except TimeoutError:
            reason = SetAside.TIMED_OUT
        except (ChannelClosedError, OSError):
            reason = self._cause_of_death()
        except ChannelError:
            reason = SetAside.BAD_ANSWER
        self.stop()
        return reason

    def _cause_of_death(self) -> SetAside:
        process = self._process
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            if process.returncode == -signal.SIGXCPU:
                return SetAside.TIMED_OUT
        return SetAside.CRASHED

    def kill(self) -> None:
        """Kill the child; whoever waits for its answer learns that it is gone."""
        process = self._process
        # Not yet reaped, so the number is still this child's; it leads a group of its own.
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Kill the child and reap it."""
        self.kill()
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if channel is not None:
            channel.close()
        if process is not None:
            process.wait()

    def _start(self) -> socket.socket:
        """Start a process and hear that it is ready; `InputError` if none gets that far."""
        for _ in range(_STARTS):
            channel = self._channel = self._launch()
            channel.settimeout(_START_SECONDS)
            try:
                ready = receive_message(channel)
            except (ChannelError, OSError, ValueError):
                ready = None
            if ready is not None:
                return channel
            self.stop()
        raise InputError("the intake process does not start", remedy="check that the client extra is installed")

    def _launch(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment |= _OF_A_CHILD
        arguments = [str(theirs.fileno()), json.dumps(asdict(self.limits)), json.dumps(list(self.devices))]
        try:
            self._process = subprocess.Popen(
                [*self.command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        finally:
            theirs.close()
        return ours


class Pool:
    """Several children. Use it in a ``with`` block: none outlives it.

    Args:
        jobs: number of children.
        folder: the source folder; no file outside it is opened.
        limits: bounds.
        devices: approved device texts.
        command: what starts a child.
    """

    def __init__(
        self, jobs: int, folder: str, limits: Limits, devices: Sequence[str], command: Sequence[str] = CHILD
    ) -> None:
        self._folder = os.path.realpath(folder)
        self._limits = limits
        self._jobs = jobs
        self._children = [Child(limits, devices, command) for _ in range(jobs)]
        self._idle: SimpleQueue[Child] = SimpleQueue()
        for child in self._children:
            self._idle.put(child)
        self._closing = threading.Event()
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="intake")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.kill()  # ends the reads that the threads wait in
        self._threads.shutdown(wait=True)
        for child in self._children:
            child.stop()

    def answers(self, tasks: Iterable[FileTask]) -> Iterator[Taken | Cause]:
        """Answers in the order of the tasks."""
        return self._in_order(tasks, lambda child, task, files: child.ask(task.question, files))

    def identities(self, tasks: Iterable[FileTask]) -> Iterator[Identity | Cause]:
        """What the files are called, in the order of the tasks."""
        return self._in_order(tasks, lambda child, task, files: child.identify(task, files))

    def _in_order(
        self, tasks: Iterable[FileTask], ask: Callable[[Child, FileTask, list[int]], _Answer]
    ) -> Iterator[_Answer | Cause]:
        waiting: deque[Future[_Answer | Cause]] = deque()
        for task in tasks:
            waiting.append(self._threads.submit(self._answer, task, ask))
            if len(waiting) >= self._jobs * (1 + _IN_FLIGHT):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _answer(self, task: FileTask, ask: Callable[[Child, FileTask, list[int]], _Answer]) -> _Answer | Cause:
        descriptors: list[int] = []
        child = self._idle.get()
        try:
            if self._closing.is_set():
                return SetAside.CRASHED  # nobody reads it
            if task.content is None:
                descriptors.append(open_checked(self._folder, task.image, self._limits.clip_bytes))
            else:
                descriptors.append(_in_memory(task.content()))
            for mask in task.masks:
                descriptors.append(open_checked(self._folder, mask, self._limits.file_bytes))  # noqa: PERF401 - closed if one fails
            return ask(child, task, descriptors)
        except Refused as refusal:
            return refusal.reason
        finally:
            self._idle.put(child)
            for descriptor in descriptors:
                os.close(descriptor)


def _in_memory(content: bytes) -> int:
    descriptor = os.memfd_create("picture", os.MFD_CLOEXEC)
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return descriptor


def _message(question: Question) -> dict[str, Any]:
    box = list(question.box) if question.box else None
    region = list(question.region) if question.region else None
    said = {"suffix": question.suffix, "box": box, "frame": question.frame, "region": region}
    return said | {"accepted": list(question.accepted), "shown": question.shown}
