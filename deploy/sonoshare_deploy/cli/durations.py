"""How long something has lasted, and when it is, in words for people."""

from datetime import UTC, datetime


def ago(then: datetime | str, now: datetime) -> str:
    """How long ago; a text that is no time is given back as it is."""
    if isinstance(then, datetime):
        return f"{lasting(then, now)} ago"
    try:
        return f"{lasting(datetime.fromisoformat(then), now)} ago"
    except ValueError:
        return then


def moment(then: str) -> str:
    """A moment to the minute, in UTC; a text that is no time is given back as it is."""
    try:
        return f"{datetime.fromisoformat(then).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return then


def lasting(since: datetime, now: datetime) -> str:
    """How long something has lasted."""
    seconds = max(0, round((now - since).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
