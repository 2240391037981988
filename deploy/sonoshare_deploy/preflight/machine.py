"""What any role needs of its machine: versions, memory, disk, permissions, where it computes, its clock, the proxy.

Functions of plain values alone; ``machine_facts`` reads them. Sizes are in bytes, and printed in GiB.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sonoshare_deploy.preflight.finding import Finding

GIB: Final = 1 << 30
LEAST_MEMORY: Final = 1 * GIB
GOOD_MEMORY: Final = 4 * GIB
"""Torch, a model and a vault in memory; docs/measurements say what each part took."""
LEAST_DISK: Final = 1 * GIB
GOOD_DISK: Final = 10 * GIB
GOOD_GPU_MEMORY: Final = 4 * GIB
_TOLD: Final = ("torch", "flwr")
_OTHERS: Final = 0o007
_GROUP: Final = 0o070
_MOST_NAMED: Final = 3


def versions(python: str, asked: str, requirements: Sequence[str], installed: Mapping[str, str | None]) -> Finding:
    """Whether what is installed is what this version of SonoShare was tested with.

    Args:
        python: version that runs.
        asked: versions of Python that are good, as packages write it.
        requirements: of the role, as packages write them.
        installed: version of each package that they name; None for one that is not there.
    """
    wrong = [] if SpecifierSet(asked).contains(python) else [f"Python {python} is not {asked}"]
    for each in map(Requirement, requirements):
        have = installed.get(each.name)
        if have is None:
            wrong.append(f"{each.name} is not installed")
        elif not each.specifier.contains(have, prereleases=True):
            wrong.append(f"{each.name} {have} is not {each.specifier}")
    if wrong:
        return Finding(
            "versions", "fail", _some(wrong), "install SonoShare anew into a fresh environment of Python 3.11"
        )
    told = ", ".join(f"{name} {installed[name]}" for name in _TOLD if installed.get(name))
    return Finding.ok("versions", f"Python {python}, {told}, and {len(requirements)} packages as they should be")


def memory(free: int, total: int) -> Finding:
    """Memory that a process can have now."""
    found = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if free < LEAST_MEMORY:
        return Finding("memory", "fail", found, f"free at least {GOOD_MEMORY // GIB} GiB: end what else runs here")
    if free < GOOD_MEMORY:
        return Finding("memory", "warn", found, f"{GOOD_MEMORY // GIB} GiB are enough for training and audits")
    return Finding.ok("memory", found)


def disk(free: int, folder: Path) -> Finding:
    """Room where the folder lies."""
    found = f"{free / GIB:.1f} GiB free"
    if free < LEAST_DISK:
        return Finding("disk", "fail", found, f"make room where {folder} lies: what cannot be written is not answered")
    if free < GOOD_DISK:
        return Finding("disk", "warn", found, f"make room where {folder} lies, before pictures come in")
    return Finding.ok("disk", found)


def device(words: str, gpu_free: int | None) -> Finding:
    """Where the role computes, and how much of a GPU's memory is free; None for the CPU."""
    if gpu_free is None:
        return Finding.ok("device", words)
    found = f"{words}, {gpu_free / GIB:.1f} GiB of it free"
    if gpu_free < GOOD_GPU_MEMORY:
        return Finding("device", "warn", found, "end what else computes on it (nvidia-smi shows what), or --device cpu")
    return Finding.ok("device", found)


@dataclass(frozen=True)
class Mode:
    """Permissions of one path.

    Attributes:
        path: the path.
        bits: its permission bits.
        secret: whether it is a private key: nobody but its owner may do anything with it.
        writable: whether this user can read and write it.
    """

    path: Path
    bits: int
    secret: bool
    writable: bool = True


def permissions(modes: Sequence[Mode]) -> Finding:
    """Who else can read the role's folder and its keys."""
    for mode in modes:
        if not mode.writable:
            return Finding(
                "permissions", "fail", f"this user cannot read and write {mode.path}", "run this as the folder's owner"
            )
    for mode in modes:
        wrong = mode.bits & ((_GROUP | _OTHERS) if mode.secret else _OTHERS)
        if wrong:
            return Finding("permissions", "fail", f"{mode.path} is open to others ({mode.bits:03o})", _close(mode))
    for mode in modes:
        if mode.bits & _GROUP:
            return Finding("permissions", "warn", f"{mode.path} is open to its group ({mode.bits:03o})", _close(mode))
    return Finding.ok("permissions", f"{len(modes)} folders and keys are for their owner alone")


def _close(mode: Mode) -> str:
    return f"chmod {'600' if mode.secret else '700'} {shlex.quote(str(mode.path))}"


def umask(mask: int) -> Finding:
    """What new files are open to."""
    if mask & _OTHERS != _OTHERS:
        return Finding("umask", "warn", f"new files can be read by others ({mask:03o})", "umask 077")
    return Finding.ok("umask", f"new files are not for others ({mask:03o})")


def clock(now: datetime, known: date | None, known_by: str) -> Finding:
    """This machine's clock against a day that has been: of the log's newest head, or of a certificate's making."""
    said = f"{now:%Y-%m-%d %H:%M} UTC"
    if known is None:
        return Finding.ok("clock", f"{said}; there is nothing yet to hold it against")
    if now.date() < known - timedelta(days=1):
        return Finding(
            "clock", "fail", f"{said}, and {known_by} is of {known} already", "set this machine's clock (NTP)"
        )
    return Finding.ok("clock", f"{said}, after {known_by} of {known}")


def proxy(place: str | None, *, bypassed: bool) -> Finding:
    """The way out of the site."""
    if place is None:
        return Finding.ok("proxy", "none: HTTPS_PROXY is not set")
    if bypassed:
        return Finding.ok("proxy", f"{place} is set, and not used for the coordinator (NO_PROXY)")
    return Finding.ok("proxy", f"{place} (CONNECT; TLS passes unopened)")


def ending(check: str, until: date, days: int, warned: int, remedy: str) -> Finding:
    """Something that ends."""
    if days < 0:
        return Finding(check, "fail", f"ended on {until}", remedy)
    found = f"until {until}, {days} days left"
    return Finding(check, "warn", found, remedy) if days < warned else Finding.ok(check, found)


def _some(wrong: Sequence[str]) -> str:
    more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
    return ", ".join(wrong[:_MOST_NAMED]) + more
