"""The agent's memory does not grow with its requests: all threads of its process take from one arena.

Each request has a thread (``server``), and glibc gives threads arenas of their own: areas that fragment a little more
with each training, and are never given back whole. One arena for all is the main one, whose free end goes back.

Promises: after ``use_one_arena`` no further arena is made in this process. Measured by ``benchmarks.soak``. Where the C
library is not glibc, nothing is done: others (musl) have no arenas.

Source: ``M_ARENA_MAX`` of mallopt(3), the same as the environment's ``MALLOC_ARENA_MAX``, which must be there before a
process starts.
"""

import ctypes
import logging
from typing import Final

_M_ARENA_MAX: Final = -8
_log = logging.getLogger(__name__)


def use_one_arena() -> bool:
    """Let this process make no further arena; says whether it could be asked for.

    To be called before work starts: an arena that a thread has already is kept.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    done = bool(mallopt(_M_ARENA_MAX, 1))
    if not done:
        _log.warning("the agent's memory may grow with its requests: the C library keeps an arena for each thread")
    return done
