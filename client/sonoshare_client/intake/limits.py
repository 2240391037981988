"""What one file may cost before it is set aside, and what one child process may use."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of intake; every one is checked before the thing it bounds is allocated or done.

    Attributes:
        file_bytes: largest file that is opened.
        side: longest side of a picture, pixels.
        pixels: most pixels of a picture.
        region_side: shortest side of an ultrasound region that is worth keeping, pixels.
        memory_bytes: address space of a child (RLIMIT_AS); an interpreter with its codecs takes about 500 MiB of it.
        cpu_seconds: processor time of one file (RLIMIT_CPU).
        wall_seconds: time of one file on the wall, after which the child is killed.
        open_files: descriptors of a child (RLIMIT_NOFILE).
    """

    file_bytes: int = 256 * MIB
    side: int = 4096
    pixels: int = 4096 * 4096
    region_side: int = 32
    memory_bytes: int = 2048 * MIB
    cpu_seconds: int = 20
    wall_seconds: float = 30.0
    open_files: int = 64


DEFAULT_LIMITS = Limits()
