"""What one file may cost before it is set aside, and what one child process may use."""

from dataclasses import dataclass

from sonoshare_shared.science.pictures.bounds import MIB, Bounds


@dataclass(frozen=True)
class Limits(Bounds):
    """Bounds of a file, and of the process that reads it.

    Attributes:
        memory_bytes: address space of a child (RLIMIT_AS); an interpreter with its codecs takes about 500 MiB of it,
            the networks that read text as much again.
        cpu_seconds: processor time of one picture (RLIMIT_CPU), and of opening a file. The largest pictures are read
            for text three times, at some 3 s each.
        wall_seconds: time of one file on the wall, after which the child is killed.
        open_files: descriptors of a child (RLIMIT_NOFILE).
    """

    memory_bytes: int = 2048 * MIB
    cpu_seconds: int = 40
    wall_seconds: float = 120.0
    open_files: int = 64


DEFAULT_LIMITS = Limits()
