"""Signing the final manifest: only what this hospital has audited and passed, and only what it was promised.

The manifest must name a candidate for which this hospital has given a PASS, release exactly that candidate's images
(this version has no vetoes), and state for this hospital's patients no less epsilon than its ledger says.
"""

from sonoshare_client.agent.node import Node
from sonoshare_shared.canonical import sha256_hex
from sonoshare_shared.documents import AuditStatement, ReleaseManifest
from sonoshare_shared.documents.release import MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.envelope import Envelope
from sonoshare_shared.errors import IntegrityError, RefusedError
from sonoshare_shared.release.candidate import Candidate, require_candidate_minus


def sign_manifest(node: Node, data: bytes) -> Envelope:
    """Check a final manifest and sign its exact bytes.

    Raises:
        RefusedError: this hospital has not passed the candidate, or the promise is not what it spent.
        IntegrityError: the manifest is not in canonical form.
        VerificationError: the images are not the audited candidate's.
    """
    manifest = ReleaseManifest.from_bytes(data)
    if manifest.canonical() != data:
        raise IntegrityError("the manifest is not in its canonical form")
    statement = AuditStatement.from_bytes(_own_statement(node, manifest))
    if statement.candidate != manifest.candidate_digest or statement.predicate.verdict != "PASS":
        raise RefusedError(
            f"this hospital's verdict on the candidate is {statement.predicate.verdict}",
            remedy="a release needs a PASS of every hospital",
        )
    candidate = node.candidate_path(manifest.candidate_digest).read_bytes()
    require_candidate_minus(manifest, Candidate.from_bytes(candidate), sha256_hex(candidate), vetoed=())
    _require_promise(node, manifest, statement)
    node.record("signed", release=manifest.release)
    return Envelope.sign(MANIFEST_PAYLOAD_TYPE, data, node.key)


def _own_statement(node: Node, manifest: ReleaseManifest) -> bytes:
    path = node.statement_path(manifest.candidate_digest)
    if not path.exists():
        raise RefusedError("this hospital has not audited the candidate", remedy="audit it first")
    return Envelope.load(path).verify(node.key.public, STATEMENT_PAYLOAD_TYPE)


def _require_promise(node: Node, manifest: ReleaseManifest, statement: AuditStatement) -> None:
    stated = [budget for budget in manifest.privacy.hospitals if budget.hospital == node.hospital]
    spent = statement.predicate
    if len(stated) != 1 or stated[0].epsilon < spent.spent_epsilon or stated[0].delta < spent.spent_delta:
        raise RefusedError(
            "the manifest promises this hospital's patients more privacy than they have",
            remedy="build it from the hospitals' statements",
        )
