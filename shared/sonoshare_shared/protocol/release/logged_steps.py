"""What a whole log says of the steps that a release came from; rules R18 and R19 of ``release.verify``.

A study's plan, the model that its last round closed with, the candidate that was audited and the manifest that was
signed stand in the log under their digests, each once. Hospitals act on nothing that is not there. So what a release
holds is compared with it: a plan that was exchanged afterwards may promise other things than hospitals charged for.

    log:      {"kind": "plan", "study": "s1", "digest": "9f3c..."}
    manifest: "study": "s1", "plan_digest": "9f3c..."

Where the log holds no such entry, as logs of earlier days do not, nothing is compared; a manifest that names who took
part is of a later day, and then plan, candidate and manifest must be there.
"""

from typing import Final

from sonoshare_shared.errors import IntegrityError, VerificationError
from sonoshare_shared.protocol.closed_rounds import require_closed_with, took_part
from sonoshare_shared.protocol.documents.plan import StudyPlan
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.log_index import Entry, LogIndex, candidate_entry, manifest_entry, plan_entry
from sonoshare_shared.protocol.release.evidence import LogView

_REMEDY: Final = "do not use this release, and tell the consortium"


def require_as_logged(log: LogView, manifest: ReleaseManifest, plan: StudyPlan) -> None:
    """Check a release's steps against a whole log that has been checked itself.

    Args:
        log: the fresh log.
        manifest: of the release; ``plan`` is the plan that it names.
        plan: of the study.

    Raises:
        VerificationError: cause ``quorum``, ``plan``, ``candidate`` or ``log-proof``: see the rules.
    """
    index = LogIndex()
    try:
        for entry in log.entries:
            index.add(entry.encode())
        took = took_part(index, plan.study, plan.rounds)
    except IntegrityError as error:
        raise VerificationError.because("log-proof", error) from error
    if manifest.participants is not None and took != manifest.participants:
        said = "does not say who took part" if took is None else "says that other hospitals took part"
        raise VerificationError("quorum", f"the manifest names who took part, and the log {said}")
    study, release = plan.study, manifest.release
    steps: tuple[tuple[str, str, Entry], ...] = (
        ("plan", "plan.json", plan_entry(study, plan.digest())),
        ("candidate", "candidate.json", candidate_entry(study, release, manifest.candidate_digest)),
        ("log-proof", "manifest.json", manifest_entry(study, release, manifest.digest())),
    )
    for cause, name, step in steps:
        there = index.place(step) is not None
        if (there or manifest.participants is not None) and index.find(step) is None:
            said = f"names another {step['kind']}" if there else f"names no {step['kind']}"
            raise VerificationError(cause, f"{name} is not what was logged: the log {said}", remedy=_REMEDY)
    try:
        require_closed_with(index, study, plan.rounds, manifest.model_digest)
    except IntegrityError as error:
        raise VerificationError(
            "candidate", "the images were not drawn from the model that the log closed the study with", remedy=_REMEDY
        ) from error
