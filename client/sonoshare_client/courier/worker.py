"""The courier's one process beside the SuperNode: it has Flower loaded, and answers messages in forked children.

    worker (leader) ── network_side              Flower's own SuperNode, which starts nothing (``network_side``)
                    └─ one child a message       forked, so that nothing is imported; ends with its message

The worker asks the SuperNode for messages on loopback, by a secret that only the two know. A child passes its frame to
the agent and the answer back, reads neither, and ends; what goes wrong in it ends with it.

- When the worker ends, however it ends, the SuperNode and the children are ended by the kernel.
- When the SuperNode ends, the worker does. Whoever supervises the worker starts both again.
- While a message is answered the SuperNode has no other, and is not asked. Each look costs the two 2 ms.
- A worker whose loop does not turn for ``TURN_SECONDS`` is ended by its own alarm.

Not promised: that a message whose child was killed is answered soon. The SuperNode reports it once its time runs out.
"""

import contextlib
import gc
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sonoshare_client.courier import flower
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.lifeline import end_with_parent

TURN_SECONDS: Final = 180
"""The SuperNode takes seconds to start, and tens of them on a busy machine."""
END_SECONDS: Final = 4.0
LOOK_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 1.0
LATE_SHARE: Final = 0.2
"""A message is noticed late by so much of the time since the one before it, at most: an action sends several."""
SHARED_FILE: Final = "superexec.key"


class Children:
    """The children that answer messages, one each.

    Args:
        answer: passes a frame on.
    """

    def __init__(self, answer: flower.Answer) -> None:
        self._answer = answer
        self._pids: set[int] = set()
        self._last = time.monotonic()

    def start(self, task: flower.Task) -> None:
        """Answer a message in a child."""
        worker = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            pid = os.fork()
            if pid == 0:
                _be_child(worker, lambda: flower.answer_task(task, self._answer))
            self._pids.add(pid)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})

    def pause(self) -> None:
        """Wait as long as there can be no other message, and the longer the longer there was none."""
        while self._pids:
            signal.alarm(TURN_SECONDS)
            time.sleep(LOOK_SECONDS)
            self._last = time.monotonic()
        signal.alarm(TURN_SECONDS)
        time.sleep(min(LONGEST_PAUSE_SECONDS, LATE_SHARE * (time.monotonic() - self._last)))

    def reap(self) -> None:
        """Take note of children that have ended."""
        for pid in list(self._pids):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            self._pids.discard(pid)


def _be_child(worker: int, work: Callable[[], None]) -> None:
    """Do the work of a child and end; nothing of the worker's own ending is done in it."""
    code = 1
    try:
        end_with_parent(worker)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)  # Flower sets its own
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        work()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(arguments: Sequence[str], runtime: str, answer: flower.Answer) -> None:
    """Start a SuperNode and answer its messages until one of the two ends.

    Args:
        arguments: of ``flower-supernode``.
        runtime: ``host:port`` where it serves its runtime routes.
        answer: passes a frame to the agent.

    Raises:
        SystemExit: the SuperNode ended, or this process was told to end.
    """
    secret = secrets.token_bytes(32)
    place = Path(os.environ["FLWR_HOME"]) / SHARED_FILE
    write_atomically(place, secret, mode=0o600)
    children = Children(answer)
    flower.load_all()
    gc.collect()
    gc.freeze()  # what is loaded now stays shared with every child
    with _supernode([*arguments, "--isolation", "process", "--superexec-auth-secret-file", str(place)], children):
        flower.take_tasks(runtime, secret, flower.TaskTaker(children.start, children.pause))


@contextmanager
def _supernode(arguments: Sequence[str], children: Children) -> Iterator[None]:
    """Flower's SuperNode beside this process, which ends when that does."""
    worker = os.getpid()
    supernode = subprocess.Popen(
        [sys.executable, "-P", "-m", "sonoshare_client.courier.network_side", *arguments],
        preexec_fn=lambda: end_with_parent(worker),  # noqa: PLW1509 - no thread runs yet
    )

    def ended(*_signal: object) -> None:
        children.reap()
        if supernode.poll() is not None:
            sys.exit(1)  # in silence: the SuperNode's last line says why

    signal.signal(signal.SIGCHLD, ended)
    ended()
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.alarm(0)
        supernode.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            supernode.wait(END_SECONDS)
        supernode.kill()
