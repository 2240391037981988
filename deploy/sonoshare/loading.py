"""``sonoshare.load``: from an address, a name or a folder to pictures that were verified."""

import os
import re
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sonoshare.pictures import Pictures
from sonoshare_deploy.researcher.obtaining import Obtained, Wanted, obtain
from sonoshare_deploy.researcher.places import Known, Place, config_folder, read_known
from sonoshare_deploy.researcher.trust import How, trust_of
from sonoshare_shared.errors import InputError, VerificationError
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.sources import require_release_id
from sonoshare_shared.protocol.release.verify import Verified, verify_release

CACHE_VARIABLE: Final = "SONOSHARE_CACHE"
_PAGE: Final = re.compile(r"(?:/api/v1)?/releases/([^/]+)/?\Z")


class UnpinnedWarning(UserWarning):
    """A release was verified by what came with it or from the catalogue alone, or something is to be known of it."""


def load(
    where: str | os.PathLike[str],
    *,
    split: str | None = None,
    digest: str | None = None,
    token: str | None = None,
    roster: str | os.PathLike[str] | None = None,
    root: str | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Pictures:
    """Verify a release, after fetching it where it is not here, and give its pictures.

    Args:
        where: address of a release's page in a catalogue; a folder; or a release's name, after ``sonoshare login``.
        split: of a release that names splits, the one to give; None: all pictures.
        digest: sha256 (hex) of the one ``manifest.json`` that is wanted: with it a script gets the same bytes for ever.
        token: of the data-use agreement; None: the one of the login.
        roster: file of the signed roster to trust; None: root key and roster of the login.
        root: root key (hex) to trust.
        cache: folder for releases that are fetched; None: ``SONOSHARE_CACHE``, or ``~/.cache/sonoshare``.

    Returns:
        A sequence of samples, which is also a data set for torch's DataLoader.

    Raises:
        VerificationError: it is not verified, was revoked, or is another than ``digest`` names.
        RefusedError: no valid token.
        InputError: there is no such release or split.
        FederationError: the catalogue cannot be reached.
    """
    known = read_known()
    given = None if roster is None else Path(roster)
    if os.fspath(where) and Path(where).is_dir():
        verified, how = _checked(Path(where), _home(known), given, root, digest)
        _warn(how)
        return Pictures(Path(where), verified, split)
    server, release = _named(os.fspath(where), known)
    place = Path(cache or os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "sonoshare")
    out = place / re.sub(r"[^A-Za-z0-9.-]+", "-", server.partition("://")[2]) / release
    out.parent.mkdir(parents=True, exist_ok=True)
    obtained: Obtained = obtain(
        Wanted(release, server, out, token=token, roster_file=given, root=root, manifest_digest=digest),
        told=lambda words: warnings.warn(words, UnpinnedWarning, stacklevel=2),
    )
    _warn(obtained.how)
    return Pictures(out, obtained.verified, split)


def _named(where: str, known: Known) -> tuple[str, str]:
    """Catalogue and release that an address or a name means.

    Raises:
        InputError: it means none.
    """
    parts = urlsplit(where)
    if parts.scheme not in {"http", "https"}:
        if known.server is None or "/" in where or where.startswith("."):
            raise InputError(
                f"{where[:120]!r} is no folder and no address of a release",
                remedy="give a folder, https://CATALOGUE/releases/NAME, or log in: sonoshare login URL",
            )
        return known.server, require_release_id(where)
    page = _PAGE.search(parts.path)
    if page is None:
        raise InputError("the address names no release", remedy="give https://CATALOGUE/releases/NAME")
    before = parts.path[: page.start()]
    return f"{parts.scheme}://{parts.netloc}{before}", require_release_id(page.group(1))


def _home(known: Known) -> Place:
    """What is pinned where one is logged in."""
    return Place() if known.server is None else known.at(known.server)


def _checked(
    folder: Path, place: Place, roster: Path | None, root: str | None, digest: str | None
) -> tuple[Verified, How]:
    trust = trust_of(place, roster_file=roster, root=root)
    signed = trust.roster or Envelope.load(folder / layout.ROSTER)
    verified = verify_release(folder, signed, now=datetime.now(UTC), root=trust.root)
    if digest not in {None, verified.manifest_digest}:
        raise VerificationError("manifest", "the release has another manifest than the one that is wanted")
    return verified, trust.how


def _warn(how: How) -> None:
    words = {
        "release-only": "verified by the roster in the release alone: log in (sonoshare login URL), or give roster=",
        "first-use": "the consortium's root key is the one of your first login: compare it with a hospital's",
    }.get(how)
    if words is not None:
        warnings.warn(f"{words} (what is remembered: {config_folder()})", UnpinnedWarning, stacklevel=3)
