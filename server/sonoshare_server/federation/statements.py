"""Audit statements and signatures: what hospitals say of a candidate, and then of the final manifest.

Asked are the hospitals that took part in the study's rounds, and nobody else (``closing.whom_to_ask``).

Both are stored beside the candidate as the envelopes that the hospitals sent, after their signature and their
subject have been checked. A hospital that does not answer, refuses, or says something about another candidate has
no file; the gate counts the files.

    studies/<study>/candidates/<release>/candidate.json images/ masks/ statements/<hospital>.dsse.json
    studies/<study>/candidates/<release>/draft/manifest.json  signatures/<hospital>.dsse.json
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sonoshare_server.federation.closing import whom_to_ask
from sonoshare_server.federation.coordinator import Coordinator, identity_key
from sonoshare_server.federation.exchange import Question, exchange, heard
from sonoshare_server.federation.holding import Holding, outgoing
from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import IntegrityError, NotHeldError
from sonoshare_shared.protocol.canonical import sha256_hex
from sonoshare_shared.protocol.documents import AuditStatement, Roster
from sonoshare_shared.protocol.documents.exchange import AuditRequest, SignRequest
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE
from sonoshare_shared.protocol.documents.view import Shown
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import candidate_entry, manifest_entry, plan_entry
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.signed import Signed

AUDIT_DEADLINE_SECONDS: Final = 3600.0
ATTEMPTS: Final = 2
SIGN_DEADLINE_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Statement:
    """An audit statement as the hospital signed it, and what it says."""

    envelope: Envelope
    statement: AuditStatement


def collect_statements(coordinator: Coordinator, release: str) -> None:
    """Have the hospitals of a release hold a candidate and audit it, and store what they say.

    Who was away while the candidate was sent, or had lost it by then, is sent it once more when the others are done.
    """
    source = outgoing(coordinator.study, release)
    coordinator.logged(plan_entry(coordinator.study.plan.study, coordinator.study.plan.digest()))
    coordinator.logged(candidate_entry(coordinator.study.plan.study, release, source.digest))
    holding = Holding(coordinator, release, source, AUDIT_DEADLINE_SECONDS)
    with coordinator.turn():
        asked = whom_to_ask(coordinator.home, coordinator.study)
        for _ in range(ATTEMPTS):
            holders = holding.send([hospital for hospital in asked if hospital not in coordinator.by_files])
            carried = coordinator.by_files.intersection(asked)
            audit = heard(coordinator, _audit_question(coordinator, release, source.digest, holders | carried))
            without = {h for h, error in audit.errors.items() if error == NotHeldError.__name__}
            asked = tuple(sorted((without | (coordinator.absent - audit.left.keys())).intersection(asked) - carried))
            if not asked:
                return


def _audit_question(
    coordinator: Coordinator, release: str, digest: str, hospitals: Collection[str]
) -> Question[Statement]:
    study = coordinator.study
    place = study.candidate(release)

    def request(shown: Shown) -> AuditRequest:
        return AuditRequest(plan=study.plan_envelope, release=release, candidate_digest=digest, shown=shown)

    def record(hospital: str, said: Statement) -> None:
        store_envelope(place.statements_path, hospital, said.envelope)
        study.event("audited", hospital=hospital, release=release, verdict=said.statement.predicate.verdict)

    return Question(
        request=request,
        payload=b"",
        after=candidate_entry(study.plan.study, release, digest),
        deadline_seconds=AUDIT_DEADLINE_SECONDS,
        verify=lambda hospital, answer: verified_statement(hospital, answer.signed, coordinator.home.roster, digest),
        record=record,
        about={"release": release},
        hospitals=tuple(sorted(hospitals)),
    )


def collect_signatures(coordinator: Coordinator, release: str) -> None:
    """Have the hospitals of a release check and sign the final manifest, and store the signatures.

    The manifest stands in the log before anybody is asked to sign it, so that no hospital signs another one.
    """
    study, place = coordinator.study, coordinator.study.candidate(release)
    manifest = place.manifest_path.read_bytes()
    digest = sha256_hex(manifest)
    asked = whom_to_ask(coordinator.home, study)
    statements = tuple(stored_envelopes(place.statements_path, asked).values())
    entry = manifest_entry(study.plan.study, release, digest)
    coordinator.logged(entry)

    def request(shown: Shown) -> SignRequest:
        return SignRequest(manifest_digest=digest, statements=statements, shown=shown)

    def record(hospital: str, envelope: Envelope) -> None:
        store_envelope(place.signatures_path, hospital, envelope)
        study.event("signed", hospital=hospital, release=release)

    question = Question(
        request=request,
        payload=manifest,
        after=entry,
        deadline_seconds=SIGN_DEADLINE_SECONDS,
        verify=lambda hospital, answer: verified_signature(hospital, answer.signed, coordinator.home.roster, manifest),
        record=record,
        about={"release": release},
        hospitals=whom_to_ask(coordinator.home, study),
    )
    with coordinator.turn():
        exchange(coordinator, question)


def verified_statement(hospital: str, envelope: Envelope, roster: Roster, candidate: str) -> Statement:
    """Check a hospital's audit statement about a candidate.

    Raises:
        IntegrityError: it is not signed by this hospital, or speaks about another candidate.
    """
    key = identity_key(roster, hospital)
    statement = Signed.opened(AuditStatement, envelope, key, STATEMENT_PAYLOAD_TYPE).document
    if statement.candidate != candidate or statement.predicate.hospital != hospital:
        raise IntegrityError(f"{hospital} spoke about another candidate")
    return Statement(envelope, statement)


def verified_signature(hospital: str, envelope: Envelope, roster: Roster, manifest: bytes) -> Envelope:
    """Check a hospital's signature over a manifest; one that a release could not hold is asked for again.

    Raises:
        IntegrityError: it is not this hospital's, over another manifest, or beside another signature.
    """
    key = identity_key(roster, hospital)
    if envelope.verify(key, MANIFEST_PAYLOAD_TYPE) != manifest:
        raise IntegrityError(f"{hospital} signed another manifest")
    envelope.require_plain(key)
    return envelope


def stored_envelopes(folder: Path, hospitals: Iterable[str]) -> dict[str, Envelope]:
    """Envelopes stored in a folder, of some hospitals, in the order of their ids."""
    paths = {hospital: folder / f"{hospital}{layout.ENVELOPE_SUFFIX}" for hospital in sorted(hospitals)}
    return {hospital: Envelope.load(path) for hospital, path in paths.items() if path.exists()}


def store_envelope(folder: Path, hospital: str, envelope: Envelope) -> None:
    """Store what a hospital signed, where `stored_envelopes` finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{hospital}{layout.ENVELOPE_SUFFIX}", envelope.to_bytes())
