"""What the hospitals said: audit statements over the candidate, and signatures over the manifest.

Bytes in, verified values out; no files are touched here. Rules R8 to R12 of ``release.verify``.
"""

from sonoshare_shared.errors import IntegrityError, VerificationError
from sonoshare_shared.protocol.documents.plan import StudyPlan
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE, ReleaseManifest
from sonoshare_shared.protocol.documents.roster import HospitalEntry, Roster
from sonoshare_shared.protocol.documents.statement import STATEMENT_PAYLOAD_TYPE, AuditStatement
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.keys import PublicKey, SigningKey
from sonoshare_shared.protocol.release import layout
from sonoshare_shared.protocol.signed import Signed

_SLACK = 1e-9
"""Difference of two epsilons that is rounding and no promise."""


def sign_manifest(manifest: ReleaseManifest, key: SigningKey) -> Envelope:
    """A hospital's signature over the exact bytes of a manifest."""
    return Envelope.sign(MANIFEST_PAYLOAD_TYPE, manifest.canonical(), key)


def statement_of(path: str, data: bytes, manifest: ReleaseManifest, roster: Roster) -> AuditStatement:
    """Verify one attestation and return what it says (rule R8).

    Args:
        path: ``attestations/<hospital>.dsse.json``.
        data: the envelope.
        manifest: the release it must be about.
        roster: who may speak.

    Raises:
        VerificationError: cause ``envelope``, ``payload-type``, ``signature`` or ``statement``.
    """
    name = path.removeprefix(f"{layout.ATTESTATIONS}/").removesuffix(layout.ENVELOPE_SUFFIX)
    hospital = roster.hospital(name)
    if hospital is None or path != layout.attestation_path(name):
        raise VerificationError("statement", f"{path} is of no hospital of the roster")
    envelope = Envelope.from_bytes(data)
    try:
        # Of a key that the hospital had before too: the one it has signs the manifest, which lists these very bytes.
        key = envelope.signer_among(roster.keys_of(hospital)) or hospital.key
        statement = Signed.opened(AuditStatement, envelope, key, STATEMENT_PAYLOAD_TYPE).document
    except IntegrityError as error:
        raise VerificationError.because("statement", error, f"{path}: ") from error
    predicate = statement.predicate
    expected = (hospital.id, manifest.study, manifest.release, manifest.candidate_digest, roster.audit_policy)
    subject = statement.subject[0].name
    if (predicate.hospital, predicate.study, subject, statement.candidate, predicate.policy_digest) != expected:
        raise VerificationError("statement", f"{path} is about another hospital, study, candidate or audit policy")
    if predicate.adapter_digest not in {None, manifest.model_digest}:
        raise VerificationError("statement", f"{path} is about images of another adapter")
    if roster.expired(predicate.time):
        raise VerificationError("roster-expired", f"{path} was made after the roster had expired")
    return statement


def signers(manifest: ReleaseManifest, roster: Roster) -> tuple[HospitalEntry, ...]:
    """Hospitals whose PASS and signature a manifest needs: who took part, or every hospital of the roster.

    Raises:
        VerificationError: cause ``quorum``: a hospital that took part is not in the roster.
    """
    if manifest.participants is None:
        return roster.hospitals
    if strangers := [name for name in manifest.participants if roster.hospital(name) is None]:
        raise VerificationError("quorum", f"{strangers[0]} took part in the study and is not in the release's roster")
    return tuple(entry for entry in roster.hospitals if entry.id in manifest.participants)


def require_passes(
    statements: tuple[AuditStatement, ...], manifest: ReleaseManifest, plan: StudyPlan, roster: Roster
) -> None:
    """Every hospital that must say PASS does, and nobody says anything else (rules R9 and R10).

    Raises:
        VerificationError: cause ``verdict`` or ``quorum``.
    """
    for statement in statements:
        if statement.predicate.verdict != "PASS":
            raise VerificationError(
                "verdict",
                f"{statement.predicate.hospital} says {statement.predicate.verdict}",
                remedy="do not use this release",
            )
    passed = {statement.predicate.hospital for statement in statements}
    wanted = {hospital.id for hospital in signers(manifest, roster)}
    if manifest.participants is None:
        wanted |= plan.cohorts.keys()
    elif len(wanted) < plan.quorum or wanted - plan.cohorts.keys():
        raise VerificationError("quorum", "the hospitals that are said to have taken part cannot have made this study")
    if missing := sorted(wanted - passed):
        raise VerificationError("quorum", f"{missing[0]} has not passed the release")
    if others := sorted(passed - wanted):
        raise VerificationError("quorum", f"{others[0]} speaks of the release and took no part in its study")


def require_promise(manifest: ReleaseManifest, statements: tuple[AuditStatement, ...], roster: Roster) -> None:
    """The manifest promises no less epsilon and delta than the hospitals signed that they spent (rule R11).

    Raises:
        VerificationError: cause ``privacy``.
    """
    stated = {budget.hospital: budget for budget in manifest.privacy.hospitals}
    if stated.keys() != {hospital.id for hospital in signers(manifest, roster)}:
        raise VerificationError("privacy", "the privacy statement is not about the hospitals that must sign")
    for statement in statements:
        spent, budget = statement.predicate, stated[statement.predicate.hospital]
        if min(budget.epsilon, manifest.privacy.epsilon) < spent.spent_epsilon - _SLACK:
            raise VerificationError("privacy", f"the manifest states less epsilon than {spent.hospital} spent")
        if min(budget.delta, manifest.privacy.delta) < spent.spent_delta * (1 - _SLACK):
            raise VerificationError("privacy", f"the manifest states less delta than {spent.hospital} spent")


def require_assumption(manifest: ReleaseManifest, statements: tuple[AuditStatement, ...], plan: StudyPlan) -> None:
    """Promise and statements say on how many honest hospitals they rest, as the plan does (rule R17).

    Raises:
        VerificationError: cause ``privacy``.
    """
    for who, honest in (
        ("the manifest", manifest.privacy.honest),
        *((statement.predicate.hospital, statement.predicate.honest) for statement in statements),
    ):
        if honest != plan.honest:
            raise VerificationError(
                "privacy",
                f"{who} states epsilon on {_honest(honest)}, where the plan rests on {_honest(plan.honest)}",
                remedy="do not use this release",
            )


def _honest(count: int | None) -> str:
    return "no assumption" if count is None else f"{count} honest hospitals"


def require_manifest_signature(data: bytes, manifest: bytes, hospital: HospitalEntry, trusted: Roster) -> PublicKey:
    """The envelope is this hospital's signature over these manifest bytes, and nothing else is in it (rule R12).

    A signature file is in no manifest, so its bytes are pinned here: one signature, the hospital's own key as hint,
    and the one way in which the envelope is written. A hospital whose key was changed after the manifest was made signs
    with the next one: the release's roster cannot name it, and the reader's newer one says that it follows.

    Args:
        data: the envelope.
        manifest: bytes of the manifest.
        hospital: as the release's roster names it.
        trusted: the reader's roster.

    Returns:
        The key that it is signed with.

    Raises:
        VerificationError: cause ``envelope``, ``payload-type`` or ``signature``.
    """
    envelope = Envelope.from_bytes(data)
    key = envelope.signer_among(trusted.successors_of(hospital)) or hospital.key
    if envelope.verify(key, MANIFEST_PAYLOAD_TYPE) != manifest:
        raise VerificationError("signature", f"{hospital.id} signed another manifest")
    envelope.require_plain(key)
    if envelope.to_bytes() != data:
        raise VerificationError("envelope", f"the signature of {hospital.id} is not written as envelopes are")
    return key
