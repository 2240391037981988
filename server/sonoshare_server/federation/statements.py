"""Audit statements and signatures: what every hospital says of a candidate, and then of the final manifest.

Both are stored beside the candidate as the envelopes that the hospitals sent, after their signature and their
subject have been checked. A hospital that does not answer, refuses, or says something about another candidate has
no file; the gate counts the files.

    studies/<study>/candidates/<release>/candidate.json images/ masks/ statements/<hospital>.dsse.json
    studies/<study>/candidates/<release>/draft/manifest.json  signatures/<hospital>.dsse.json
"""

from pathlib import Path
from typing import Final

from sonoshare_server.federation.home import Study, Witness
from sonoshare_server.federation.rounds import Coordinator, identity_key, introduce
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import FederationError, IntegrityError, SonoShareError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import AuditStatement, StudyPlan
from sonoshare_shared.protocol.documents.exchange import (
    AuditRequest,
    SignRequest,
    accepted,
    candidate_entry,
    encode_frame,
)
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.release.transfer import pack

AUDIT_DEADLINE_SECONDS: Final = 3600.0
SIGN_DEADLINE_SECONDS: Final = 300.0
DRAFT: Final = "draft"


def candidate_folder(study: Study, release: str) -> Path:
    """Folder of a candidate."""
    return study.path / "candidates" / release


def collect_statements(coordinator: Coordinator, release: str) -> None:
    """Have every hospital audit a candidate, and store what they say."""
    introduce(coordinator)
    study, folder = coordinator.study, candidate_folder(coordinator.study, release)
    candidate = (folder / layout.CANDIDATE).read_bytes()
    digest = sha256_hex(candidate)
    index = coordinator.logged(candidate_entry(study.plan.study, release, digest))
    payload = pack(candidate, study.adapter(), lambda path: (folder / path).read_bytes())
    requests = {
        hospital: encode_frame(
            AuditRequest(
                plan=study.plan_envelope,
                release=release,
                candidate_digest=digest,
                evidence=coordinator.evidence(hospital, index),
                ledger_witness=coordinator.witness_of(hospital),
            ),
            payload,
        )
        for hospital in coordinator.hospitals
    }
    replies = coordinator.fleet.ask(requests, AUDIT_DEADLINE_SECONDS)
    for hospital in coordinator.hospitals:
        try:
            envelope, statement = _verified_statement(coordinator, hospital, replies, digest)
        except SonoShareError as error:
            study.event("refused", hospital=hospital, release=release, reason=str(error))
            continue
        store_envelope(folder / "statements", hospital, envelope)
        seen = study.witnesses.get(hospital, Witness()).log_size
        study.witness(hospital, Witness(log_size=seen, ledger_head=statement.predicate.ledger_head))
        study.event("audited", hospital=hospital, release=release, verdict=statement.predicate.verdict)


def collect_signatures(coordinator: Coordinator, release: str) -> None:
    """Have every hospital check and sign the final manifest, and store the signatures."""
    study, folder = coordinator.study, candidate_folder(coordinator.study, release)
    manifest = (folder / DRAFT / layout.MANIFEST).read_bytes()
    statements = () if study.plan.audit.veto is None else _said_by_all(folder, study.plan)
    frame = encode_frame(SignRequest(manifest_digest=sha256_hex(manifest), statements=statements), manifest)
    replies = coordinator.fleet.ask(dict.fromkeys(coordinator.hospitals, frame), SIGN_DEADLINE_SECONDS)
    for hospital in coordinator.hospitals:
        try:
            envelope = _verified_signature(coordinator, hospital, replies, manifest)
        except SonoShareError as error:
            study.event("refused", hospital=hospital, release=release, reason=str(error))
            continue
        store_envelope(folder / layout.SIGNATURES, hospital, envelope)
        study.event("signed", hospital=hospital, release=release)


def _said_by_all(folder: Path, plan: StudyPlan) -> tuple[Envelope, ...]:
    return tuple(stored_envelopes(folder / "statements", plan).values())


def stored_envelopes(folder: Path, plan: StudyPlan) -> dict[str, Envelope]:
    """Envelopes stored in a folder, by hospital of the plan."""
    paths = {hospital: folder / f"{hospital}{layout.ENVELOPE_SUFFIX}" for hospital in sorted(plan.cohorts)}
    return {hospital: Envelope.load(path) for hospital, path in paths.items() if path.exists()}


def store_envelope(folder: Path, hospital: str, envelope: Envelope) -> None:
    """Store what a hospital signed, where `stored_envelopes` finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{hospital}{layout.ENVELOPE_SUFFIX}", envelope.to_bytes())


def answer_of(replies: dict[str, bytes], hospital: str) -> Envelope:
    """The envelope that a hospital answered with, not yet verified.

    Raises:
        FederationError: it did not answer, or it refused.
    """
    if hospital not in replies:
        raise FederationError(f"{hospital} did not answer", remedy="see that its agent and courier run")
    return accepted(replies[hospital], hospital)[0]


def _key(coordinator: Coordinator, hospital: str) -> PublicKey:
    return identity_key(coordinator.home.roster, hospital)


def _verified_statement(
    coordinator: Coordinator, hospital: str, replies: dict[str, bytes], digest: str
) -> tuple[Envelope, AuditStatement]:
    envelope = answer_of(replies, hospital)
    statement = AuditStatement.from_bytes(envelope.verify(_key(coordinator, hospital), STATEMENT_PAYLOAD_TYPE))
    if statement.candidate != digest or statement.predicate.hospital != hospital:
        raise IntegrityError(f"{hospital} spoke about another candidate")
    return envelope, statement


def _verified_signature(
    coordinator: Coordinator, hospital: str, replies: dict[str, bytes], manifest: bytes
) -> Envelope:
    envelope = answer_of(replies, hospital)
    if envelope.verify(_key(coordinator, hospital), MANIFEST_PAYLOAD_TYPE) != manifest:
        raise IntegrityError(f"{hospital} signed another manifest")
    return envelope
