"""What a coordinator needs: ports, certificates, keys, members, the log and the database.

Functions of plain values; ``coordinator_facts`` reads them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sonoshare_deploy.certificates import WARNED_DAYS, Expiry
from sonoshare_deploy.preflight.finding import Finding
from sonoshare_deploy.preflight.machine import ending


@dataclass(frozen=True)
class Port:
    """A port of the coordinator.

    Attributes:
        name: what listens there: ``fleet``, ``control`` or ``catalogue``.
        place: ``host:port``.
        taken: whether somebody listens there now.
    """

    name: str
    place: str
    taken: bool


def port(one: Port, *, running: bool) -> Finding:
    """A port: it answers where the coordinator runs, and is free where it does not."""
    name = f"port: {one.name}"
    if running and not one.taken:
        return Finding(name, "fail", f"nothing answers at {one.place}", "see the coordinator's log, or start it again")
    if not running and one.taken:
        remedy = f"end what listens there, or start with --{one.name} HOST:PORT"
        return Finding(name, "fail", f"{one.place} is busy, and this coordinator does not run", remedy)
    return Finding.ok(name, f"{one.place} {'answers' if running else 'is free'}")


def endings(found: Sequence[Expiry], now: datetime) -> list[Finding]:
    """Certificates and the roster, with what is left of each."""
    return [
        ending(one.name.replace("-", " "), one.until.date(), one.days_left(now), WARNED_DAYS[one.name], one.remedy)
        for one in found
    ]


def certificate(*, matches: bool, names: Sequence[str], here_alone: bool, renew: str) -> Finding:
    """Whether the server's certificate is of its key, and for a name that hospitals elsewhere can use."""
    if not matches:
        return Finding("TLS", "fail", "the server's certificate is not of the key beside it", renew)
    if here_alone:
        found = "the server's certificate is for this machine alone"
        return Finding("TLS", "warn", found, f"{renew} --host NAME")
    return Finding.ok("TLS", f"for {', '.join(names)}")


def root_key(*, here: bool, members: int) -> Finding:
    """Whether the root's private key lies on a server that is at work."""
    if here and members:
        found = "the root's private key lies on this machine"
        return Finding("root key", "warn", found, "move root/root.key to a place off line: docs/keys.md")
    return Finding.ok("root key", "here until hospitals are admitted" if here else "kept elsewhere")


def members(admitted: Sequence[str], registered: Sequence[str], online: Sequence[str] | None, admit: str) -> Finding:
    """Who belongs to the consortium, and who is connected; None where that is not known."""
    if not admitted:
        return Finding("hospitals", "warn", "none is admitted yet", admit)
    missing = sorted(set(admitted) - set(registered))
    if missing and online is not None:
        remedy = "see the coordinator's log: a running one registers them within seconds"
        return Finding("hospitals", "fail", f"{', '.join(missing)}: admitted, and not let in", remedy)
    away = [] if online is None else sorted(set(admitted) - set(online))
    if away:
        return Finding("hospitals", "warn", f"{', '.join(away)} not online", "there: sonoshare hospital check")
    return Finding.ok("hospitals", f"{len(admitted)} admitted" + ("" if online is None else ", all online"))


def invitations(waiting: Mapping[str, datetime], now: datetime, invite: str) -> Finding:
    """Invitations that nobody has answered."""
    late = sorted(name for name, until in waiting.items() if until <= now)
    if late:
        return Finding("invitations", "warn", f"{', '.join(late)}: too late", f"{invite} --id {late[0]}")
    return Finding.ok("invitations", f"{', '.join(sorted(waiting))} may still answer" if waiting else "none waits")
