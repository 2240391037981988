"""A hospital takes a release back: by its own signature, whatever the coordinator or an action does at that moment.

The release is named by the digest of its manifest, as this hospital's own copy of the log has it: of what the
coordinator logged before it asked for signatures. What is signed says the day and the reason, which are for the public,
and nothing of patients: the person who writes the reason sees to that.

Promise: nothing is written in the node's folder and no lock is taken, so that a running node neither waits nor is
disturbed. Not promised: that the coordinator logs it. Hospitals and researchers who hold the file can.
"""

from dataclasses import dataclass
from datetime import datetime

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.log_copy import LogCopy
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.documents.base import public_day
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import MANIFEST_ENTRY, read_entry
from sonoshare_shared.protocol.release.evidence import MOST_REASON, Revocation, sign_revocation


@dataclass(frozen=True)
class SignedRevocation:
    """A revocation and its envelope.

    Attributes:
        revocation: what was signed.
        envelope: for the coordinator.
        logged: by whom the log says that the release was revoked, as far as this hospital's copy goes.
    """

    revocation: Revocation
    envelope: Envelope
    logged: tuple[str, ...]


def revocation_by(
    home: NodeHome, release: str, reason: str, *, now: datetime, manifest_digest: str | None = None
) -> SignedRevocation:
    """Sign that this hospital takes a release back.

    Args:
        home: the node's folder.
        release: identifier.
        reason: in words, for the public.
        now: the present; the day of it is signed.
        manifest_digest: sha256 of the release's manifest, where this hospital's copy of the log does not show it.

    Raises:
        InputError: the copy names no such release, or more than one; or there is no reason.
    """
    entries = [read_entry(line) for line in LogCopy.open(home.state_path).entries]
    about = [entry for entry in entries if entry.get("release") == release]
    named = {str(entry.get("digest")) for entry in about if entry.get("kind") in {MANIFEST_ENTRY, "release"}}
    if manifest_digest is not None:
        named = {manifest_digest}
    if len(named) != 1:
        raise InputError(
            f"this hospital's copy of the log shows {'no' if not named else 'more than one'} release {release}",
            remedy="give the sha256 of its manifest.json: --manifest-digest",
        )
    if not 0 < len(reason.strip()) <= MOST_REASON:
        raise InputError(
            f"a revocation has a reason of 1 to {MOST_REASON} characters", remedy="say why, for the public"
        )
    digest = named.pop()
    revocation = Revocation(
        release=release, manifest_digest=digest, by=home.hospital, reason=reason.strip(), time=public_day(now)
    )
    logged = tuple(str(e.get("by")) for e in about if e.get("kind") == "revocation" and e.get("digest") == digest)
    return SignedRevocation(revocation, sign_revocation(revocation, home.identity()), logged)
