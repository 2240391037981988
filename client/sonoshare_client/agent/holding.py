"""Holding a candidate until its audit: what must be true before a byte of it is kept, and what is said of it.

The plan is one that this hospital takes part in now; the log shows the plan and the candidate, as one of those that the
plan has; and this hospital had a part in the study. Nothing is charged, the vault stays closed, and the answer tells
what is held of a candidate that the log shows: of one that was audited here, that nothing more is needed, whether or
not it is still held.
"""

from typing import Final

from sonoshare_client.agent.candidate_terms import require_candidate, require_one_of_the_planned
from sonoshare_client.agent.inbox import Terms
from sonoshare_client.agent.node import Node
from sonoshare_client.agent.part_taken import require_part
from sonoshare_client.agent.permission import permitted
from sonoshare_client.agent.witnessing import require_logged
from sonoshare_shared.protocol.documents import StudyPlan
from sonoshare_shared.protocol.documents.holding import HELD_PAYLOAD_TYPE, Held, HoldRequest
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import candidate_entry, plan_entry

_LISTED_IMAGE_BYTES: Final = 1024
"""Of one image in a listing: digests, numbers and two names."""
_LISTING_BESIDES_BYTES: Final = 64 << 10


def hold(node: Node, request: HoldRequest, batch: bytes) -> Envelope:
    """Keep a batch of a candidate, and sign what is held of it.

    Raises:
        RefusedError: this hospital does not take part, or holds no such candidate; or, as PolicyError, it is too large.
        IntegrityError: the batch, or the log, is not what it should be.
        OSError: the disk is full.
    """
    plan, digest = permitted(node, request.plan), request.candidate_digest
    entries = [plan_entry(plan.study, plan.digest()), candidate_entry(plan.study, request.release, digest)]
    require_logged(node, request.log, entries)
    require_part(node, plan)
    require_one_of_the_planned(node, plan, request.release)
    end = request.offset + len(batch)
    if node.home.statement_path(digest).exists():
        return _said(node, digest, end, whole=True)
    check = node.inbox.take(digest, request.offset, batch, _terms(node, plan, request.release))
    # The very bytes of an answer after the audit: how far that had come, when an agent was stopped, is not told.
    return _said(node, digest, end if check.whole else check.size, whole=check.whole)


def _terms(node: Node, plan: StudyPlan, release: str) -> Terms:
    return Terms(
        accept=lambda candidate: require_candidate(node, plan, release, candidate),
        most_listing_bytes=_LISTING_BESIDES_BYTES + _LISTED_IMAGE_BYTES * plan.release.images,
        most_bytes=node.home.policy().audit.maximum_candidate_mib << 20,
    )


def _said(node: Node, digest: str, held: int, *, whole: bool) -> Envelope:
    said = Held(hospital=node.hospital, candidate=digest, held=held, whole=whole)
    return Envelope.sign(HELD_PAYLOAD_TYPE, said.canonical(), node.key)
