"""Evidence from the transparency log: that a release is in it, and that nobody has revoked it.

A release stands in the log as ``{"kind": "release", "release": id, "digest": sha256 of manifest.json}``; a revocation
as ``{"kind": "revocation", "release": id, "digest": ..., "by": who, "revocation": envelope}``. ``LogProof`` travels
inside the release and shows that it was in the log when it was published. ``LogView`` is a fresh copy of the whole
log, fetched apart from the release: only a whole log can show that no revocation is in it. A revocation
that the log holds always counts, whoever signed it: it can only make a release invalid.
"""

import base64
import binascii
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from sonoshare_shared.errors import IntegrityError, NewerVersionError, VerificationError
from sonoshare_shared.protocol import merkle
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, public_day
from sonoshare_shared.protocol.documents.release import LOG_HEAD_PAYLOAD_TYPE, LogHead
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey
from sonoshare_shared.protocol.signed import Signed
from sonoshare_shared.protocol.translog import TransparencyLog

REVOCATION_PAYLOAD_TYPE = "application/vnd.sonoshare.revocation+json"
MOST_REASON = 2000
"""Characters of why a release was taken back."""


class LogProof(Document):
    """Inclusion of a release in the log.

    Attributes:
        index: index of the release's entry.
        proof: hashes from the leaf upwards (hex), RFC 9162 section 2.1.3.
        head: the coordinator's signed head that the proof leads to.
    """

    schema_: Literal["sonoshare/log-proof/v1"] = Field(default="sonoshare/log-proof/v1", alias="schema")
    index: Annotated[int, Field(ge=0)]
    proof: tuple[HexDigest, ...]
    head: Envelope


class LogView(Document):
    """A whole log under its signed head; entries are canonical JSON, oldest first."""

    schema_: Literal["sonoshare/log/v1"] = Field(default="sonoshare/log/v1", alias="schema")
    head: Envelope
    entries: tuple[str, ...]


class Revocation(Document):
    """A hospital or the coordinator takes a release back.

    Attributes:
        release: the release.
        manifest_digest: sha256 of its manifest.
        by: hospital id, or ``coordinator``.
        reason: in words, for the public.
        time: when; signed to the day.
    """

    schema_: Literal["sonoshare/revocation/v1"] = Field(default="sonoshare/revocation/v1", alias="schema")
    release: Identifier
    manifest_digest: HexDigest
    by: Identifier
    reason: Annotated[str, Field(min_length=1, max_length=MOST_REASON)]
    time: AwareDatetime


def release_entry(release: str, manifest_digest: str) -> dict[str, object]:
    """The log entry of a release."""
    return {"kind": "release", "release": release, "digest": manifest_digest}


def revocation_entry(revocation: Revocation, signed: Envelope) -> dict[str, object]:
    """The log entry of a revocation and its signed envelope."""
    return {
        "kind": "revocation",
        "release": revocation.release,
        "digest": revocation.manifest_digest,
        "by": revocation.by,
        "revocation": signed.model_dump(mode="json"),
    }


def sign_revocation(revocation: Revocation, key: SigningKey) -> Envelope:
    """Sign a revocation with the key of the hospital (or coordinator) that takes the release back.

    What is signed says the day only: when exactly somebody withdrew consent is nobody's business.
    """
    public = revocation.model_copy(update={"time": public_day(revocation.time)})
    return Envelope.sign(REVOCATION_PAYLOAD_TYPE, public.canonical(), key)


def append_release(log: TransparencyLog, release: str, manifest_digest: str) -> LogProof:
    """Append a release to the log, unless it is in it, and prove its inclusion under a fresh head."""
    entry = release_entry(release, manifest_digest)
    index = log.index_of(entry)
    if index is None:
        index = log.append(entry)
    return LogProof(index=index, proof=tuple(log.inclusion_proof(index)), head=log.head())


def view(log: TransparencyLog) -> LogView:
    """A copy of the whole log under a fresh head, to be given to researchers."""
    return LogView(head=log.head(), entries=tuple(entry.decode() for entry in log.entries))


def require_logged(proof: LogProof, release: str, manifest_digest: str, coordinator: PublicKey) -> LogHead:
    """Check that the release is in the log, and return the head that says so.

    Raises:
        VerificationError: cause ``log-proof``.
    """
    head = _head(proof.head, coordinator)
    leaf = canonical_bytes(release_entry(release, manifest_digest))
    path = [bytes.fromhex(node) for node in proof.proof]
    if not merkle.verify_inclusion(leaf, proof.index, head.size, path, bytes.fromhex(head.root)):
        raise VerificationError(
            "log-proof", "the manifest is not in the transparency log", remedy="do not use this release"
        )
    return head


def require_not_revoked(
    fresh: LogView | Envelope,
    then: LogHead,
    manifest_digest: str,
    coordinator: PublicKey,
    *,
    revoked_too: bool = False,
) -> datetime:
    """Check a fresh log against the release's own proof, and that it holds no revocation.

    A bare head says nothing about revocations, and is accepted only when it is the very head of the proof.

    Args:
        fresh: a whole log, or a signed head alone.
        then: the verified head of the release's own proof.
        manifest_digest: digest of the release's manifest.
        coordinator: key that signs heads.
        revoked_too: a revocation is no reason to refuse; everything else is.

    Returns:
        The time up to which revocations are known.

    Raises:
        VerificationError: cause ``log-proof`` (older, forked or incomplete log) or ``revoked``.
    """
    head = _head(fresh if isinstance(fresh, Envelope) else fresh.head, coordinator)
    if head.size < then.size:
        raise VerificationError("log-proof", "the log given is older than the release", remedy="fetch a fresh log")
    if isinstance(fresh, Envelope):
        if (head.size, head.root) != (then.size, then.root):
            raise VerificationError(
                "log-proof",
                "a head alone cannot be linked to the release",
                remedy="give the whole log (GET /api/v1/log)",
            )
        return head.time
    leaves = [entry.encode() for entry in fresh.entries]
    if len(leaves) != head.size or merkle.root(leaves).hex() != head.root:
        raise VerificationError("log-proof", "the log's entries are not those that its head signs")
    if merkle.root(leaves[: then.size]).hex() != then.root:
        raise VerificationError("log-proof", "the log was forked: it is not an extension of the one the release is in")
    # All of it: a release that is logged again after its revocation would else be proved behind it.
    by = revoked_by(leaves, manifest_digest)
    if by is not None and not revoked_too:
        raise revoked_error(by)
    return head.time


def revoked_by(entries: Iterable[bytes], manifest_digest: str) -> str | None:
    """Who took a release back, and why, by the entries of a log; None where nobody did.

    What the revocation says is repeated as it stands: that it counts does not depend on who signed it.

    Raises:
        VerificationError: cause ``log-proof``: an entry is not JSON.
    """
    for line in entries:
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise VerificationError("log-proof", "an entry of the log is not JSON") from error
        if isinstance(entry, dict) and entry.get("kind") == "revocation" and entry.get("digest") == manifest_digest:
            return f"{str(entry.get('by'))[:80]!r}{_reason(entry)}"
    return None


def revoked_error(by: str) -> VerificationError:
    """Why a release is not verified that was taken back; ``by`` as `revoked_by` gives it."""
    return VerificationError("revoked", f"the release was revoked by {by}", remedy="do not use this release")


def _reason(entry: dict[str, Any]) -> str:
    try:
        said = Revocation.from_bytes(base64.b64decode(entry["revocation"]["payload"], validate=True))
    except (IntegrityError, binascii.Error, KeyError, TypeError, ValueError):
        return ""
    return f": {said.reason}"


def _head(envelope: Envelope, coordinator: PublicKey) -> LogHead:
    try:
        head = Signed.opened(LogHead, envelope, coordinator, LOG_HEAD_PAYLOAD_TYPE).document
        envelope.require_plain(coordinator)
    except NewerVersionError as error:
        raise VerificationError.because("log-proof", error, "the log's head: ") from error
    except IntegrityError as error:
        raise VerificationError("log-proof", "the log's head is not signed by the coordinator") from error
    return head
