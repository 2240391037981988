"""One line of a preflight: what was looked at, what was found, and what helps.

    ok    disk      212.4 GiB free
    warn  quarantine 3 files wait for a person: sonoshare hospital quarantine list --home H
    fail  clock     this machine's clock is 60 min ahead: set this machine's clock (NTP)

Promises: a finding is made by a function of plain values, so that each can be made to fail without a machine that is
broken so; whoever reads the machine does nothing else. What is ``ok`` needs no remedy; what is not has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sonoshare_shared.errors import SonoShareError

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        check: what was looked at, one or two words.
        level: ``ok``; ``warn``: it works, and a person should see to it; ``fail``: something will not work.
        found: what was found, one line.
        remedy: what helps; empty where all is well.
    """

    check: str
    level: Level
    found: str
    remedy: str = ""

    @classmethod
    def ok(cls, check: str, found: str) -> "Finding":
        """All is well."""
        return cls(check, "ok", found)

    @classmethod
    def of(cls, check: str, error: SonoShareError) -> "Finding":
        """A failure, from the error that says it."""
        return cls(check, "fail", error.message, error.remedy or "see docs/operating.md")


def first_bad(findings: Sequence[Finding], *, strict: bool) -> Finding | None:
    """The finding that decides the exit status: the first failure; where there is none and ``strict``, warning."""
    levels = ("fail", "warn") if strict else ("fail",)
    return next((one for level in levels for one in findings if one.level == level), None)
