"""What a hospital asks its archive for: a small file, checked against the hospital's own rules.

    source = "https://10.1.2.3:8443/dicom-web"     # a DICOMweb server; or "PACS@10.1.2.3:104" for C-FIND and C-MOVE

    [[match]]
    AccessionNumber = "A-4711"
    [[match]]
    StudyDate = "20260101-20260131"
    StudyDescription = "*mamma*"

Each ``match`` is asked for by itself; within one, everything must fit. Of the studies that are found, series of
modality US are fetched. Asking for everything is refused, and so is a source that ``policy.toml`` does not name.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sonoshare_client.node.source_rules import Origin, Peer, SourceRules
from sonoshare_shared.errors import InputError, PolicyError

MOST_STUDIES: Final = 1000
"""That one match may find."""


def _narrow(text: str) -> str:
    if not text.strip("*? ") or "\\" in text or not text.isprintable():
        raise ValueError("a value needs more than wildcards, and no backslash")
    return text


Value = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_narrow)]


class Match(BaseModel):
    """What a study must fit; DICOM's own keywords, ranges and wildcards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    AccessionNumber: Value | None = None
    PatientID: Value | None = None
    StudyInstanceUID: Value | None = None
    StudyDate: Value | None = None
    StudyDescription: Value | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.keys:
            raise ValueError("a match needs at least one key")
        return self

    @property
    def keys(self) -> dict[str, str]:
        """Keyword and value of all that is asked for."""
        return {name: value for name, value in self.model_dump().items() if value is not None}


class Query(BaseModel):
    """What is asked of whom.

    Attributes:
        source: URL of a DICOMweb server, or ``TITLE@ADDRESS:PORT``.
        match: what studies must fit, one after the other.
        authority: certificate of the authority that signed the server's, where it is not a public one.
        user: name to log in with, for HTTP basic authentication.
        password_file: file with the password.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    match: Annotated[tuple[Match, ...], Field(min_length=1, max_length=10_000)]
    authority: Path | None = None
    user: str | None = None
    password_file: Path | None = None

    @property
    def is_dicomweb(self) -> bool:
        """Whether HTTP is spoken."""
        return "://" in self.source

    def permitted_origin(self, rules: SourceRules) -> Origin:
        """The server of a DICOMweb source.

        Raises:
            PolicyError: the hospital's rules do not name it.
        """
        try:
            origin = Origin.of(self.source)
        except ValueError as error:
            raise InputError(str(error), remedy="correct the query's source") from error
        if origin not in {Origin.of(text) for text in rules.dicomweb}:
            raise PolicyError(
                f"the policy does not name {origin.scheme}://{origin.host}:{origin.port}",
                remedy="if it is your archive, add it to intake.sources.dicomweb",
            )
        return origin

    def permitted_peer(self, rules: SourceRules) -> Peer:
        """Who is asked by C-FIND and C-MOVE.

        Raises:
            PolicyError: the hospital's rules do not name it.
        """
        try:
            peer = Peer.of(self.source)
        except ValueError as error:
            raise InputError(str(error), remedy="correct the query's source") from error
        if peer not in {Peer.of(text) for text in rules.peers}:
            raise PolicyError(
                f"the policy does not name {self.source}",
                remedy="if it is your archive, add it to intake.sources.peers",
            )
        return peer


def read_query(path: Path) -> Query:
    """Read a query file.

    Raises:
        InputError: missing, not TOML, or not a query; names the first offending key.
    """
    try:
        return Query.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise InputError(f"{path.name} is missing", remedy="check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not TOML: {error}", remedy="correct the file") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "query"
        raise InputError(f"{path.name}: {place}: {first['msg']}", remedy="correct the file") from error
