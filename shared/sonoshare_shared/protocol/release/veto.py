"""Which images the hospitals' votes drop: a function of signed statements and the candidate, the same for everybody.

The noisy votes of all hospitals are added up by cluster; a cluster whose sum reaches the plan's threshold is dropped
with all of its images. Each hospital's votes are private by their own noise before they are added (docs/audits.md).
"""

from collections.abc import Sequence

from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.documents.plan import VetoPlan
from sonoshare_shared.protocol.documents.statement import AuditStatement
from sonoshare_shared.protocol.release.candidate import Candidate


def vetoed_images(candidate: Candidate, veto: VetoPlan | None, statements: Sequence[AuditStatement]) -> frozenset[int]:
    """Indices of all vetoed images; none where the plan has no veto.

    Args:
        candidate: what was audited.
        veto: the plan's.
        statements: of every hospital, each once, verified.

    Raises:
        VerificationError: cause ``statement``: votes do not fit the candidate; ``candidate``: it is not clustered.
    """
    if veto is None:
        return frozenset()
    clusters = candidate.clusters
    if len(clusters) != len(candidate.images):
        raise VerificationError("candidate", "the plan has a veto, but the candidate's images are not clustered")
    count = max(clusters) + 1
    for statement in statements:
        if len(statement.predicate.veto_votes) != count:
            raise VerificationError("statement", f"{statement.predicate.hospital} has not voted on every cluster")
    votes = [sum(statement.predicate.veto_votes[cluster] for statement in statements) for cluster in range(count)]
    return frozenset(
        image.index
        for image, cluster in zip(candidate.images, clusters, strict=True)
        if votes[cluster] >= veto.threshold
    )
