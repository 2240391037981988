"""Looks one after another: one that fails is a finding, and hides no other."""

from collections.abc import Callable, Iterable

from sonoshare_deploy.preflight.finding import Finding
from sonoshare_shared.errors import SonoShareError

Look = tuple[str, Callable[[], Finding]]
"""What is looked at, and the look."""


def looked(looks: Iterable[Look]) -> list[Finding]:
    """What each found, or why it failed."""
    return [_one(name, look) for name, look in looks]


def looked_many(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What a look found, or why it failed."""
    try:
        return look()
    except SonoShareError as error:
        return [Finding.of(name, error)]
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return [Finding(name, "fail", f"{where}{error.strerror or error}", "check the path and its permissions")]


def _one(name: str, look: Callable[[], Finding]) -> Finding:
    return looked_many(name, lambda: [look()])[0]
