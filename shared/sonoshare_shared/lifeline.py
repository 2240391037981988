"""What ties the life of a process to that of another, by the kernel: nothing that is asked politely, or can be missed.

Linux only. Elsewhere ``end_with_parent`` looks once and ``adopt_orphans`` does nothing: a process that is killed there
may leave others behind until the next start ends them.
"""

import ctypes
import os
import signal
import sys
from typing import Final

_SET_PARENT_DEATH_SIGNAL: Final = 1
_SET_CHILD_SUBREAPER: Final = 36
"""From linux/prctl.h."""
_library = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends.

    It lasts over ``exec``, and is lost by a change of user: call it after that. It follows the *thread* that started
    this process, so the parent should start it from a thread that lasts.

    Args:
        parent: the parent's process id, taken before this process was made; if it has ended by now, so does this.
    """
    if _library is not None:
        _library.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none can leave this process's tree."""
    if _library is not None:
        _library.prctl(_SET_CHILD_SUBREAPER, 1)
