"""Signing the final manifest: only what this hospital has audited and passed, and only what it was promised.

The manifest must name a candidate for which this hospital has given a PASS, release exactly that candidate's images
minus what the votes of all hospitals drop (none, unless the plan has a veto), and state for this hospital's patients no
less epsilon than its ledger says *now*: what was charged since the statement (another candidate's audit, another
round) counts.

Nobody whose patients were learnt from is left out: by this hospital's own copy of the log the manifest names exactly
the hospitals that took part in the study's rounds, each of them, with the key it had then, has signed a PASS of this
candidate, the promise is about each, and the images are of the model that the last round was closed with. One honest
hospital is enough to make that true. A manifest that names nobody is about every hospital of the study.
"""

from collections.abc import Sequence

from sonoshare_client.agent.node import Node
from sonoshare_client.agent.part_taken import require_keys_of_then
from sonoshare_client.agent.replies import resigned, vote_slot
from sonoshare_client.own_eyes.kept_pictures import drop_pictures
from sonoshare_shared.errors import RefusedError
from sonoshare_shared.protocol.canonical import require_canonical, sha256_hex
from sonoshare_shared.protocol.closed_rounds import require_closed_with, took_part
from sonoshare_shared.protocol.documents import AuditStatement, HospitalEntry, ReleaseManifest, StudyPlan
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.log_index import candidate_entry
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.candidate import Candidate, require_candidate_minus
from sonoshare_shared.protocol.release.table import require_table
from sonoshare_shared.protocol.release.veto import vetoed_images
from sonoshare_shared.protocol.signed import Signed


def sign_manifest(node: Node, data: bytes, statements: Sequence[Envelope] = ()) -> Envelope:
    """Check a final manifest and sign its exact bytes.

    Args:
        node: the hospital.
        data: the manifest.
        statements: signed statements of the hospitals that took part, in the order of their ids.

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
    hospitals = _require_named(node, plan, manifest)
    vetoed = _vetoed(plan, candidate, _said_by_all(node, plan, manifest, hospitals, statements))
    require_candidate_minus(manifest, candidate, sha256_hex(data_of_candidate), vetoed)
    require_table(manifest, candidate, {image.index for image in candidate.images} - vetoed)
    if sorted(budget.hospital for budget in manifest.privacy.hospitals) != sorted(hospitals):
        raise RefusedError("the manifest is not about the hospitals of its study", remedy="state what each has spent")
    _require_promise(node, manifest, statement)
    _require_own_words(node, manifest, statements)
    node.record("signed", release=manifest.release)
    drop_pictures(node.home, statement.predicate.study)
    return Envelope.sign(MANIFEST_PAYLOAD_TYPE, data, node.key)


def _require_named(node: Node, plan: StudyPlan, manifest: ReleaseManifest) -> tuple[str, ...]:
    """Hospitals that the manifest is about: those that the log says took part, or every hospital of the study."""
    if manifest.participants is None:
        return tuple(sorted(plan.cohorts))
    if took_part(node.log.index, plan.study, plan.rounds) != manifest.participants:
        raise RefusedError(
            "the manifest names other hospitals than took part in the study by this hospital's copy of the log",
            remedy="name the hospitals of every closed round",
        )
    require_closed_with(node.log.index, plan.study, plan.rounds, manifest.model_digest)
    require_keys_of_then(node, plan.study)
    return manifest.participants


def _said_by_all(
    node: Node,
    plan: StudyPlan,
    manifest: ReleaseManifest,
    hospitals: Sequence[str],
    statements: Sequence[Envelope],
) -> list[AuditStatement]:
    """What each hospital says of the candidate; nothing where nobody needs it."""
    if manifest.participants is None and plan.audit.veto is None:
        return []
    if len(statements) != len(hospitals):
        raise RefusedError(
            "the statement of a hospital is missing", remedy="send the statements of all, in order of id"
        )
    said = [_said(node, manifest, hospital, envelope) for hospital, envelope in zip(hospitals, statements, strict=True)]
    if any(statement.candidate != manifest.candidate_digest for statement in said):
        raise RefusedError("a statement is about another candidate", remedy="send the statements about this one")
    for statement in said:
        if statement.predicate.verdict != "PASS":
            raise RefusedError(
                f"{statement.predicate.hospital} says {statement.predicate.verdict}",
                remedy="a release needs a PASS of every hospital that took part",
            )
    if _own_statement(node, manifest) not in [statement.canonical() for statement in said]:
        raise RefusedError("the statement of this hospital is not the one it gave", remedy="send its own statement")
    return said


def _vetoed(plan: StudyPlan, candidate: Candidate, said: Sequence[AuditStatement]) -> frozenset[int]:
    """What the votes of all hospitals drop, under the plan that this hospital audited the candidate with."""
    return frozenset() if plan.audit.veto is None else vetoed_images(candidate, plan.audit.veto, said)


def _said(node: Node, manifest: ReleaseManifest, hospital: str, envelope: Envelope) -> AuditStatement:
    entry = node.roster().hospital(hospital)
    if entry is None:
        raise RefusedError(f"{hospital} is not in the roster", remedy="enrol the newest roster, or ask the coordinator")
    key = _signer(node, entry, manifest, envelope)
    statement = Signed.opened(AuditStatement, envelope, key, STATEMENT_PAYLOAD_TYPE).document
    if statement.predicate.hospital != hospital:
        raise RefusedError(f"the statement of {hospital} speaks for another hospital", remedy="send its own")
    return statement


def _signer(node: Node, entry: HospitalEntry, manifest: ReleaseManifest, envelope: Envelope) -> PublicKey:
    """Which key of a hospital signed a statement: its present one, or one that it had since the candidate."""
    index = node.log.index
    place = index.place(candidate_entry(manifest.study, manifest.release, manifest.candidate_digest))
    keys = (entry.key,) if place is None else index.keys_since(entry.key, place)
    return envelope.signer_among(keys) or entry.key


def _own_statement(node: Node, manifest: ReleaseManifest) -> bytes:
    path = node.home.statement_path(manifest.candidate_digest)
    if not path.exists():
        raise RefusedError("this hospital has not audited the candidate", remedy="audit it first")
    return _own(node, Envelope.load(path), STATEMENT_PAYLOAD_TYPE)


def _own(node: Node, envelope: Envelope, payload_type: str) -> bytes:
    """What this hospital signed and kept, with the identity key that it has or one that it had."""
    keys = node.log.index.keys_since(node.key.public, -1)
    return envelope.verify(envelope.signer_among(keys) or node.key.public, payload_type)


def _require_own_words(node: Node, manifest: ReleaseManifest, statements: Sequence[Envelope]) -> None:
    """What the manifest lists as this hospital's statement and votes are its own, byte by byte.

    A release takes them from a key that the hospital had before too, because this signature vouches for them.

    Raises:
        RefusedError: they are not.
    """
    kept, statement = Envelope.load(node.home.statement_path(manifest.candidate_digest)), _own_statement(node, manifest)
    # Given again under a key between two changes it is in the request alone, and its signature can be made no more.
    given = [one for one in statements if one.decoded() == statement]
    given = [one for one in given if _own(node, one, STATEMENT_PAYLOAD_TYPE) == statement]
    votes = node.replies.find(vote_slot(manifest.study), manifest.plan_digest)
    own = {
        layout.attestation_path(node.hospital): [kept, resigned(kept, node.key), *given],
        layout.votes_path(node.hospital): [] if votes is None else [votes.envelope, resigned(votes.envelope, node.key)],
    }
    for entry in manifest.files:
        if entry.path not in own:
            continue
        if entry.sha256 not in {sha256_hex(envelope.to_bytes()) for envelope in own[entry.path]}:
            raise RefusedError(f"{entry.path} is not what this hospital signed", remedy="list its own words")


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
