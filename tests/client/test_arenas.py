"""All threads of an agent's process take memory from one arena of the C library."""

import subprocess
import sys
from typing import Final

import pytest

PROGRAM: Final = """
import ctypes, sys, threading
from sonoshare_client.agent.arenas import use_one_arena

if "one" in sys.argv:
    assert use_one_arena()
together = threading.Barrier(6)
libc = ctypes.CDLL(None)

def take():
    together.wait()
    kept = [bytes(1000) for _ in range(1000)]
    libc.free(ctypes.c_void_p(libc.malloc(100)))
    together.wait()

libc.malloc.restype = ctypes.c_void_p
threads = [threading.Thread(target=take) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.stdout.flush()
libc.fdopen.restype = ctypes.c_void_p
stream = libc.fdopen(1, b"w")
libc.malloc_info(0, ctypes.c_void_p(stream))
libc.fflush(ctypes.c_void_p(stream))
"""


def arenas(*words: str) -> int:
    """How many arenas a process has after six threads have allocated at one time."""
    told = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, *words], capture_output=True, text=True, timeout=60, check=True
    )
    return told.stdout.count("<heap nr=")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="arenas are glibc's")
def test_threads_share_one_arena() -> None:
    """Without the call each of them has its own."""
    assert arenas() > 1
    assert arenas("one") == 1
