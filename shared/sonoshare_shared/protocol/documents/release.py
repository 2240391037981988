"""What a release is: every file with its digest, what it was made from, and what was promised.

A manifest is signed as its exact bytes by every hospital that took part in its study (`participants`).
"""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, added
from sonoshare_shared.protocol.documents.charge import FEWEST_HONEST, MOST_HONEST

MANIFEST_PAYLOAD_TYPE = "application/vnd.sonoshare.manifest+json"
LOG_HEAD_PAYLOAD_TYPE = "application/vnd.sonoshare.log-head+json"


class FileEntry(Document):
    """One file of a release: path with forward slashes, relative to the release folder."""

    path: str
    sha256: HexDigest
    size: Annotated[int, Field(ge=0)]


class HospitalBudget(Document):
    """What one hospital's patients paid for this study, training and audits composed."""

    hospital: Identifier
    epsilon: Annotated[float, Field(ge=0)]
    delta: Annotated[float, Field(ge=0, lt=1)]


class PrivacyStatement(Document):
    """The promise: (epsilon, delta)-differential privacy, adding or removing one patient with all images.

    Where the plan pools noise it holds as long as ``honest`` hospitals of every sum, the patient's own among them, are
    honest; None where nothing is assumed of other hospitals.
    """

    neighbouring: Literal["add-or-remove-one-patient"] = "add-or-remove-one-patient"
    epsilon: Annotated[float, Field(ge=0)]
    delta: Annotated[float, Field(ge=0, lt=1)]
    hospitals: tuple[HospitalBudget, ...]
    honest: Annotated[int | None, Field(ge=FEWEST_HONEST, le=MOST_HONEST)] = added()


class ReleaseManifest(Document):
    """A release.

    Attributes:
        release: identifier.
        study: the study it comes from.
        task: the task's name.
        sequence: grows with every release of the consortium.
        created: when.
        files: every file except the manifest itself and what is attached to it later.
        counts: images by class.
        candidate_digest: digest of the candidate that the hospitals audited.
        model_digest: digest of the adapter the images were drawn from.
        plan_digest: digest of the study plan.
        privacy: the promise.
        licence: SPDX identifier of the data licence.
        duo: Data Use Ontology codes.
        participants: hospitals that took part in the study's rounds (``closed_rounds``), sorted: their PASS and
            signature are needed, and nobody else's. None, as in manifests of earlier days, means every hospital of the
            roster.
    """

    schema_: Literal["sonoshare/release/v1"] = Field(default="sonoshare/release/v1", alias="schema")
    release: Identifier
    study: Identifier
    task: Identifier
    sequence: Annotated[int, Field(ge=1)]
    created: AwareDatetime
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1)]
    counts: dict[str, Annotated[int, Field(ge=0)]]
    candidate_digest: HexDigest
    model_digest: HexDigest
    plan_digest: HexDigest
    privacy: PrivacyStatement
    licence: str
    duo: tuple[str, ...]
    participants: Annotated[tuple[Identifier, ...], Field(min_length=1)] | None = added()

    @model_validator(mode="after")
    def _paths_count_once(self) -> Self:
        paths = [entry.path for entry in self.files]
        if len({path.casefold() for path in paths}) != len(paths):
            raise ValueError("two files of the release have the same path")
        return self

    @model_validator(mode="after")
    def _participants_count_once(self) -> Self:
        if self.participants is not None and list(self.participants) != sorted(set(self.participants)):
            raise ValueError("participants must be sorted, each once")
        return self


class LogHead(Document):
    """Head of the transparency log: RFC 9162 tree of ``size`` entries with this root (hex)."""

    schema_: Literal["sonoshare/log-head/v1"] = Field(default="sonoshare/log-head/v1", alias="schema")
    size: Annotated[int, Field(ge=0)]
    root: HexDigest
    time: AwareDatetime
