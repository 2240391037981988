"""Worker processes of the demonstration: one a core, ended at once when their block is left."""

import multiprocessing
import os
import signal
from multiprocessing.pool import Pool


def worker_pool(jobs: int) -> Pool:
    """A pool for so many jobs; use it in a ``with`` block.

    Leaving the block ends its processes, also on Ctrl-C, which they leave to this process.
    """
    workers = max(1, min(jobs, os.cpu_count() or 1))
    return multiprocessing.get_context("spawn").Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN))
