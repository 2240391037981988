"""A hospital's audit statement about one candidate release: in-toto Statement v1, signed in a DSSE envelope.

The figures (``figures.py``) are the private ones only (noisy, charged); nothing in a statement is computed from
patients without a charge in the hospital's ledger. The subject is the digest of the candidate, so a verdict cannot be
moved to another release.
"""

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field

from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, added
from sonoshare_shared.protocol.documents.charge import FEWEST_HONEST, MOST_HONEST
from sonoshare_shared.protocol.documents.figures import AuditFigures, Verdict

STATEMENT_PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
AUDIT_PREDICATE_TYPE: Final = "https://sonoshare.org/audit/v1"


class Digests(Document):
    """Digests of a subject."""

    sha256: HexDigest


class Subject(Document):
    """What the statement is about."""

    name: str
    digests: Digests = Field(alias="digest")


class AuditPredicate(Document):
    """What the hospital says.

    Attributes:
        hospital: who says it.
        study: the study.
        verdict: PASS, FAIL or INCONCLUSIVE, on the release of the images.
        figures: private figures with intervals (noisy and charged).
        reasons: the verdict in words.
        verdict_weights: the verdict on a release of the model itself; never better than ``verdict``.
        reasons_weights: what it rests on beyond ``reasons``.
        veto_votes: noisy votes of each cluster of the candidate's images; empty where the plan has no veto.
        smallest_detectable_leak: copied patients the audit would have seen with probability 0.8; None if none.
        epsilon: what the audit cost (pure epsilon).
        policy_digest: the audit policy it was judged by.
        ledger_head: head of the hospital's ledger after the charge.
        spent_epsilon: epsilon of all charges of this study, training and audits composed, at spent_delta.
        spent_delta: the delta of spent_epsilon.
        time: the day (midnight UTC) on which the audit was asked for. Old statements say the second.
        adapter_digest: of the adapter whose images were audited and whose losses were attacked; None in old ones.
        honest: hospitals that ``spent_epsilon`` assumes to be honest, where the plan pools noise; None where it assumes
            nobody.
    """

    hospital: Identifier
    study: Identifier
    verdict: Verdict
    figures: AuditFigures
    reasons: tuple[str, ...]
    verdict_weights: Verdict = "INCONCLUSIVE"
    reasons_weights: tuple[str, ...] = ()
    veto_votes: tuple[int, ...] = ()
    smallest_detectable_leak: int | None
    epsilon: Annotated[float, Field(ge=0)]
    policy_digest: HexDigest
    ledger_head: HexDigest
    spent_epsilon: Annotated[float, Field(ge=0)]
    spent_delta: Annotated[float, Field(ge=0, lt=1)]
    time: AwareDatetime
    adapter_digest: HexDigest | None = added()
    honest: Annotated[int | None, Field(ge=FEWEST_HONEST, le=MOST_HONEST)] = added()


class AuditStatement(Document):
    """In-toto Statement v1 with exactly one subject."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT_TYPE, alias="_type")
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=1)]
    predicate_type: Literal["https://sonoshare.org/audit/v1"] = Field(
        default=AUDIT_PREDICATE_TYPE, alias="predicateType"
    )
    predicate: AuditPredicate

    @property
    def candidate(self) -> str:
        """Digest of the candidate it is about."""
        return self.subject[0].digests.sha256
