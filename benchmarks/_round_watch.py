"""What ``benchmarks.round`` reads from outside: processor time and memory of processes, and bytes on the wire."""

import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psutil

_BLOCK_BYTES: Final = 1 << 18


def used(roots: Iterable[psutil.Process]) -> tuple[float, int]:
    """Processor seconds so far and resident bytes now, of processes and all that they have started.

    What has ended is counted in whoever waited for it; what nobody has waited for is still there to be read.
    """
    seconds, resident = 0.0, 0
    for root in roots:
        for process in _members(root):
            with suppress(psutil.Error), process.oneshot():
                times, memory = process.cpu_times(), process.memory_info().rss
                seconds += times.user + times.system + times.children_user + times.children_system
                resident += memory
    return seconds, resident


def _members(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


@dataclass
class Relay:
    """A listener that passes bytes on to a server and counts them, both ways; what is encrypted stays so.

    Attributes:
        port: where it listens.
        up: bytes towards the server.
        down: bytes from the server.
    """

    target: tuple[str, int]
    port: int = 0
    up: int = 0
    down: int = 0
    _listener: socket.socket = field(default_factory=socket.socket)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(256)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self.target)
            except OSError:
                return
            for source, sink, upward in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pass, args=(source, sink), kwargs={"upward": upward}, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, *, upward: bool) -> None:
        try:
            while block := source.recv(_BLOCK_BYTES):
                with self._lock:
                    self.up += len(block) if upward else 0
                    self.down += 0 if upward else len(block)
                sink.sendall(block)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()
