"""Signing the final manifest: only what this hospital has audited and passed, and only what it was promised.

The manifest must name a candidate for which this hospital has given a PASS, release exactly that candidate's images
minus what the votes of all hospitals drop (none, unless the plan has a veto), and state for this hospital's patients no
less epsilon than its ledger says *now*: what was charged since the statement (another candidate's audit, another
round) counts. Its promise is about all hospitals of the study: nobody whose patients were learnt from is left out.
"""

from collections.abc import Sequence

from sonoshare_client.agent.node import Node
from sonoshare_client.own_eyes.kept_pictures import drop_pictures
from sonoshare_shared.errors import RefusedError
from sonoshare_shared.protocol.canonical import require_canonical, sha256_hex
from sonoshare_shared.protocol.documents import AuditStatement, ReleaseManifest, StudyPlan
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release.candidate import Candidate, require_candidate_minus
from sonoshare_shared.protocol.release.veto import vetoed_images
from sonoshare_shared.protocol.signed import Signed


def sign_manifest(node: Node, data: bytes, statements: Sequence[Envelope] = ()) -> Envelope:
    """Check a final manifest and sign its exact bytes.

    Args:
        node: the hospital.
        data: the manifest.
        statements: signed statements of the plan's hospitals in the order of their ids, for the votes of a veto.

    Raises:
        RefusedError: this hospital has not passed the candidate, or the promise is not what it spent.
        IntegrityError: the manifest is not in canonical form.
        VerificationError: the images are not the audited candidate's.
    """
    manifest = ReleaseManifest.from_bytes(data)
    require_canonical(data, "the manifest")
    statement = AuditStatement.from_bytes(_own_statement(node, manifest))
    if statement.candidate != manifest.candidate_digest or statement.predicate.verdict != "PASS":
        raise RefusedError(
            f"this hospital's verdict on the candidate is {statement.predicate.verdict}",
            remedy="a release needs a PASS of every hospital",
        )
    data_of_candidate = node.home.state.candidate_path(manifest.candidate_digest).read_bytes()
    candidate = Candidate.from_bytes(data_of_candidate)
    plan = StudyPlan.from_bytes(node.home.state.audited_plan_path(manifest.candidate_digest).read_bytes())
    vetoed = _vetoed(node, plan, manifest, candidate, statements)
    require_candidate_minus(manifest, candidate, sha256_hex(data_of_candidate), vetoed)
    if sorted(budget.hospital for budget in manifest.privacy.hospitals) != sorted(plan.cohorts):
        raise RefusedError("the manifest is not about the hospitals of its study", remedy="state what each has spent")
    _require_promise(node, manifest, statement)
    node.record("signed", release=manifest.release)
    drop_pictures(node.home, statement.predicate.study)
    return Envelope.sign(MANIFEST_PAYLOAD_TYPE, data, node.key)


def _vetoed(
    node: Node, plan: StudyPlan, manifest: ReleaseManifest, candidate: Candidate, statements: Sequence[Envelope]
) -> frozenset[int]:
    """What the votes of all hospitals drop, under the plan that this hospital audited the candidate with."""
    if plan.audit.veto is None:
        return frozenset()
    hospitals = sorted(plan.cohorts)
    if len(statements) != len(hospitals):
        raise RefusedError("the votes of a hospital are missing", remedy="send the statements of all, in order of id")
    said = [_said(node, hospital, envelope) for hospital, envelope in zip(hospitals, statements, strict=True)]
    if any(statement.candidate != manifest.candidate_digest for statement in said):
        raise RefusedError("a statement is about another candidate", remedy="send the statements about this one")
    if _own_statement(node, manifest) not in [statement.canonical() for statement in said]:
        raise RefusedError("the votes of this hospital are not the ones it gave", remedy="send its own statement")
    return vetoed_images(candidate, plan.audit.veto, said)


def _said(node: Node, hospital: str, envelope: Envelope) -> AuditStatement:
    entry = node.roster().hospital(hospital)
    if entry is None:
        raise RefusedError(f"{hospital} is not in the roster", remedy="ask the coordinator")
    statement = Signed.opened(AuditStatement, envelope, entry.key, STATEMENT_PAYLOAD_TYPE).document
    if statement.predicate.hospital != hospital:
        raise RefusedError(f"the statement of {hospital} speaks for another hospital", remedy="send its own")
    return statement


def _own_statement(node: Node, manifest: ReleaseManifest) -> bytes:
    path = node.home.statement_path(manifest.candidate_digest)
    if not path.exists():
        raise RefusedError("this hospital has not audited the candidate", remedy="audit it first")
    return Envelope.load(path).verify(node.key.public, STATEMENT_PAYLOAD_TYPE)


def _require_promise(node: Node, manifest: ReleaseManifest, statement: AuditStatement) -> None:
    stated = [budget for budget in manifest.privacy.hospitals if budget.hospital == node.hospital]
    then, promise = statement.predicate, manifest.privacy
    now = node.ledger.spent(then.spent_delta, study=then.study)
    epsilon, delta = max(then.spent_epsilon, now.epsilon), now.delta
    if promise.honest != then.honest:
        raise RefusedError(
            "the manifest rests on another number of honest hospitals than this hospital's statement",
            remedy="state the plan's number",
        )
    smallest = min([promise.epsilon, *(said.epsilon for said in stated)])
    if smallest < epsilon or min([promise.delta, *(said.delta for said in stated)]) < delta:
        raise RefusedError(
            "the manifest promises this hospital's patients more privacy than they have",
            remedy="state what the hospital's newest statement in this study says; it may have been charged since",
        )
