"""What the files of a release say, in one value, and the licence's words."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from sonoshare_server.release.facts import DATA_LICENCE, Facts
from sonoshare_shared.protocol.documents import PrivacyStatement, StudyPlan
from sonoshare_shared.protocol.release.candidate import Candidate, CandidateImage

_LICENCE_TEXT: Final = """\
SonoShare data licence, version 1.0 ({licence})

1. What this is. Synthetic breast-ultrasound images, masks and descriptions, drawn from a generative model that was
   trained under differential privacy inside hospitals. No image is a picture of a patient.
2. You may use, copy, adapt and share them for health, medical and biomedical research and education, and train and
   publish models with them, provided that you
   a. say that the images are synthetic wherever you show or pass them on,
   b. name the release and the consortium, and pass on this text,
   c. do not try to learn anything about a patient or to single one out, by any means, and tell the consortium if you
      believe that one can be,
   d. do not diagnose, treat or triage patients with them alone, and
   e. stop distributing a release that its consortium has revoked.
3. They come as they are, without any warranty; nobody who made them is liable for what follows from their use.
4. The licence ends for whoever breaks it.
"""


@dataclass(frozen=True)
class Description:
    """Everything that the files of a release say, in one value.

    Attributes:
        candidate: what was audited.
        kept: the images that are released, in the order of their indices.
        plan: the study plan.
        privacy: what is promised.
        facts: what the builder knows besides.
    """

    candidate: Candidate
    kept: tuple[CandidateImage, ...]
    plan: StudyPlan
    privacy: PrivacyStatement
    facts: Facts

    @cached_property
    def counts(self) -> dict[str, int]:
        """Released images by class; every class of the task is named."""
        labels = [image.label for image in self.kept]
        return {name: labels.count(name) for name in self.plan.task.classes}

    @cached_property
    def scanners(self) -> dict[str, int]:
        """Released images by scanner style, those that occur."""
        names = [image.scanner for image in self.kept]
        return {name: names.count(name) for name in sorted(set(names))}

    @property
    def vetoed(self) -> int:
        """Images of the candidate that are not in the release."""
        return len(self.candidate.images) - len(self.kept)


def licence_text(facts: Facts) -> bytes:
    """The licence's words, or for another licence its SPDX identifier and where to read it."""
    if facts.licence == DATA_LICENCE:
        return _LICENCE_TEXT.format(licence=facts.licence).encode()
    return f"Licence of the data: {facts.licence}\nIts text: https://spdx.org/licenses/{facts.licence}.html\n".encode()
