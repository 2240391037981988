"""The server's storage in memory: behind the real protocols, and held to the same behaviour as files and database."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sonoshare_server.catalogue.listing import PAGE, Choices, Found, Wanted, labels_of, words_of
from sonoshare_server.catalogue.storage import Storage
from sonoshare_server.catalogue.store import (
    StoredFile,
    StoredRelease,
    no_such_manifest,
    not_published,
    require_showable,
    require_verified,
)
from sonoshare_server.catalogue.tokens import Grant, fresh_token
from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.release.paths import files_in, read_regular
from sonoshare_shared.protocol.release.verify import Verified


@dataclass
class MemoryLeases:
    """One worker's view of a table of leases; it beats for as long as ``silent_since`` is None.

    Args:
        table: who holds what; shared by the workers.
        clock: seconds.
        seconds: how long a lease holds without a heartbeat.
    """

    table: dict[str, "MemoryLeases"] = field(default_factory=dict)
    clock: Callable[[], float] = lambda: 0.0
    seconds: float = 60.0
    silent_since: float | None = None

    def claim(self, work: str) -> bool:
        holder = self.table.get(work)
        if holder is not None and not holder.lost:
            return False
        self.table[work] = self
        return True

    @property
    def lost(self) -> bool:
        """Whether others take this worker for dead."""
        return self.silent_since is not None and self.clock() - self.silent_since > self.seconds

    @contextmanager
    def kept(self, work: str) -> Iterator[None]:
        try:
            yield
        finally:
            if self.table.get(work) is self:
                del self.table[work]


class MemoryReleases:
    """Releases of a catalogue."""

    def __init__(self) -> None:
        self._known: dict[str, StoredRelease] = {}
        self._changes = 0

    def releases(self) -> Mapping[str, StoredRelease]:
        seen = [stored for stored in self._known.values() if stored.state != "unpublished"]
        return {stored.release: stored for stored in sorted(seen, key=lambda s: (-s.sequence, s.release))}

    def standing(self) -> int:
        return self._changes

    def listed(self, behind: tuple[int, str] | None, limit: int) -> list[dict[str, Any]]:
        seen = list(self.releases().values())
        if behind is not None:
            seen = [stored for stored in seen if (-stored.sequence, stored.release) > (-behind[0], behind[1])]
        return [stored.as_seen() for stored in seen[:limit]]

    def public(self, release: str) -> StoredRelease | None:
        return self.releases().get(release)

    def search(self, wanted: Wanted) -> Found:
        seen = [stored for stored in self.releases().values() if _wanted(stored, wanted)]
        first = (wanted.page - 1) * PAGE
        ordered = sorted(sorted(seen, key=lambda s: s.release), key=_ORDERS[wanted.order])
        return Found(len(seen), tuple(stored.as_seen() for stored in ordered[first : first + PAGE]))

    def choices(self) -> Choices:
        said = [stored.summary for stored in self.releases().values()]
        return Choices(
            tuple(sorted({one["task"] for one in said})),
            tuple(sorted({label for one in said for label in labels_of(one)})),
            tuple(sorted({one["image_size"] for one in said if "image_size" in one})),
        )

    def find(self, release: str) -> StoredRelease | None:
        return self._known.get(release)

    def show(self, verified: Verified, stored: StoredRelease, *, now: datetime) -> None:
        require_verified(verified, stored)
        known = self._known.get(stored.release)
        if known is not None:
            require_showable(stored, known.state, known.manifest_digest)
        self._changes += 1
        self._known[stored.release] = replace(stored, state="published", reason="")

    def hide(self, release: str, *, now: datetime) -> None:
        known = self._known.get(release)
        if known is None or known.state != "published":
            raise not_published(release)
        self._changes += 1
        self._known[release] = replace(known, state="unpublished")

    def withdraw(self, release: str, manifest_digest: str, *, reason: str, now: datetime) -> None:
        known = self._known.get(release)
        if known is None or known.manifest_digest != manifest_digest:
            raise no_such_manifest(release)
        self._changes += 1
        self._known[release] = replace(known, state="revoked", reason=reason)


_ORDERS: dict[str, Callable[[StoredRelease], float]] = {
    "newest": lambda stored: -stored.sequence,
    "oldest": lambda stored: stored.sequence,
    "epsilon": lambda stored: stored.summary["privacy"]["epsilon"],
    "images": lambda stored: -stored.summary["images"],
    "name": lambda _: 0,
}


def _wanted(stored: StoredRelease, wanted: Wanted) -> bool:
    said = stored.summary
    return (
        all(word in words_of(stored.release, said) for word in wanted.words.casefold().split())
        and wanted.task in {"", said["task"]}
        and wanted.label in {"", *labels_of(said)}
        and wanted.size in {None, said.get("image_size")}
        and (wanted.epsilon is None or said["privacy"]["epsilon"] <= wanted.epsilon)
        and wanted.state in {"", stored.state}
    )


class MemoryBlobs:
    """Files of releases, by place and path."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}

    def keep(self, bundle: Path, files: Mapping[str, StoredFile]) -> str:
        self.files[bundle.name] = {path: read_regular(bundle, path, size) for path, size in files_in(bundle).items()}
        return bundle.name

    def read(self, place: str, path: str, start: int, end: int) -> bytes:
        if path not in self.files.get(place, {}):
            raise VerificationError("file-missing", f"{path} is missing")
        return self.files[place][path][start:end]

    def opened(self, place: str, path: str) -> None:
        return None

    def require_reachable(self) -> None:
        pass


class MemoryTokens:
    """Tokens of a catalogue."""

    def __init__(self) -> None:
        self._granted: dict[str, Grant] = {}
        self._times: list[datetime] = []

    def grant(
        self, release: str, *, name: str, email: str, purpose: str, agreement: str, now: datetime, lifetime: timedelta
    ) -> Grant:
        grant = Grant(fresh_token(), release, now + lifetime)
        self._granted[grant.token] = grant
        self._times.append(now)
        return grant

    def granted_since(self, moment: datetime) -> int:
        return sum(time > moment for time in self._times)

    def allows(self, token: str, release: str, *, now: datetime) -> bool:
        grant = self._granted.get(token)
        return grant is not None and grant.release == release and now < grant.expires

    def expired(self, token: str, release: str, *, now: datetime) -> bool:
        grant = self._granted.get(token)
        return grant is not None and grant.release == release and now >= grant.expires

    def revoke(self, token: str, *, now: datetime) -> bool:
        return self._granted.pop(token, None) is not None


def memory_storage() -> Storage:
    """All that a catalogue keeps."""
    return Storage(MemoryReleases(), MemoryBlobs(), MemoryTokens())
