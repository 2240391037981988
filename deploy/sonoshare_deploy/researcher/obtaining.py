"""Getting a release: whether it was revoked is asked first, then it is downloaded, verified, and shown.

    log of today ── forked ──▶ refused          listing ──▶ files ──▶ verified under a log of then ──▶ OUT
                 ── revoked ─▶ refused, before a byte of the release is downloaded

The log that a catalogue shows is held against the one it showed before; an older one is told as such, since it may hide
a revocation. What is learnt (log, roster) is remembered only after the release was verified.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from httpx import Client

from sonoshare_deploy.researcher.places import Place, read_known, write_known
from sonoshare_deploy.researcher.trust import How, Trust, trust_of
from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.evidence import LogView, revoked_by, revoked_error
from sonoshare_shared.protocol.release.fetch import CONNECTIONS, Progress, fetch_release
from sonoshare_shared.protocol.release.freshness import KnownHead, course_of
from sonoshare_shared.protocol.release.remote import HttpSource, connected, get_log, get_roster
from sonoshare_shared.protocol.release.sources import FileListing, FolderSource, ReleaseSource
from sonoshare_shared.protocol.release.verify import Verified, verify_release

Told = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What somebody wants to have.

    Attributes:
        release: identifier.
        server: address of a catalogue, or a folder of releases.
        out: folder to make.
        token: the one to use; None: the one that is remembered.
        roster_file: signed roster to trust; None: see ``trust``.
        root: root key (hex) to trust.
        log: a log to hold the release against where it comes from a folder.
        jobs: files that are downloaded at the same time.
        revoked_too: also what was revoked.
        manifest_digest: sha256 of the one manifest that is wanted; None: any.
    """

    release: str
    server: str
    out: Path
    token: str | None = field(default=None, repr=False)
    roster_file: Path | None = None
    root: str | None = None
    log: LogView | Envelope | None = None
    jobs: int = CONNECTIONS
    revoked_too: bool = False
    manifest_digest: str | None = None


@dataclass(frozen=True)
class Obtained:
    """A release that was verified.

    Attributes:
        verified: what was checked.
        how: whose word that rests on.
        revoked: by whom and why it was revoked, where that was no reason to refuse.
    """

    verified: Verified
    how: How
    revoked: str | None = None


@dataclass
class _Catalogue:
    """A place that releases come from, and what it shows.

    Attributes:
        source: its files.
        place: what is remembered of it.
        client: connection to it; None: it is a folder.
    """

    source: ReleaseSource
    place: Place
    client: Client | None

    def log(self) -> LogView | None:
        """The log that it shows now."""
        return None if self.client is None else get_log(self.client)

    def roster(self) -> Envelope | None:
        """The roster that it shows now; asked for only where one is pinned."""
        return None if self.client is None or self.place.pin is None else get_roster(self.client)


def obtain(wanted: Wanted, *, progress: Progress | None = None, told: Told = lambda _words: None) -> Obtained:
    """Get and verify a release.

    Args:
        wanted: what.
        progress: see `fetch_release`.
        told: is told in words what a person should know.

    Raises:
        SonoShareError: as `fetch_release`; cause ``revoked``, ``log-proof`` or ``roster`` of `VerificationError` too.
    """
    with _catalogue(wanted) as catalogue:
        trust = trust_of(catalogue.place, roster_file=wanted.roster_file, root=wanted.root, shown=catalogue.roster())
        revoked: list[str] = []

        def before(listing: FileListing) -> None:
            digest = next((file.sha256 for file in listing.files if file.path == layout.MANIFEST), "")
            if wanted.manifest_digest not in {None, digest}:
                raise VerificationError("manifest", "the release has another manifest than the one that is wanted")
            _require_wanted(wanted, catalogue, digest, revoked, told)

        def check(folder: Path) -> tuple[Verified, LogView | None]:
            log = catalogue.log()  # again: it may have been revoked while it was on its way
            roster = trust.roster or Envelope.load(folder / layout.ROSTER)
            verified = verify_release(
                folder,
                roster,
                now=datetime.now(UTC),
                root=trust.root,
                log=log or wanted.log,
                revoked_too=wanted.revoked_too,
            )
            return verified, log

        verified, log = fetch_release(
            catalogue.source, wanted.release, wanted.out, check, before=before, jobs=wanted.jobs, progress=progress,
            told=told,
        )  # fmt: skip
        if catalogue.client is not None:
            _remember(wanted.server, trust, log, told)
    return Obtained(verified, trust.how, revoked[0] if revoked else None)


@contextmanager
def _catalogue(wanted: Wanted) -> Iterator[_Catalogue]:
    if Path(wanted.server).is_dir():
        yield _Catalogue(FolderSource(Path(wanted.server)), Place(), None)
        return
    place = read_known().at(wanted.server)
    with connected(wanted.server, wanted.token or place.token(wanted.release)) as client:
        yield _Catalogue(HttpSource(client), place, client)


def _require_wanted(wanted: Wanted, catalogue: _Catalogue, digest: str, revoked: list[str], told: Told) -> None:
    """Refuse a release that was revoked, and a log that was forked, before anything is downloaded."""
    log = catalogue.log()
    if log is None:
        if catalogue.client is not None:
            told("this catalogue shows no log: whether the release was revoked is not known")
        log = wanted.log if isinstance(wanted.log, LogView) else None
    elif course_of(log, catalogue.place.head) == "older":
        told(
            "the catalogue shows an older log than it showed before: a revocation may be hidden. Ask the consortium, "
            "and verify again with a log that a hospital gives you"
        )
    by = None if log is None else revoked_by((entry.encode() for entry in log.entries), digest)
    if by is None:
        return
    if not wanted.revoked_too:
        raise revoked_error(by)
    revoked.append(by)
    told(f"this release was revoked by {by}")


def _remember(server: str, trust: Trust, log: LogView | None, told: Told) -> None:
    known = read_known()
    place = known.at(server)
    head = None if log is None else KnownHead.of(log)
    if head is not None and (place.head is None or head.size >= place.head.size):
        place = replace(place, head=head)
    if place.pin is not None and trust.how == place.pin.by and trust.roster is not None:
        place = replace(place, roster=trust.roster)
    if place == known.at(server):
        return
    try:
        write_known(known.having(server, place))
    except OSError as error:
        told(f"what the catalogue showed cannot be remembered: {error.strerror}")
