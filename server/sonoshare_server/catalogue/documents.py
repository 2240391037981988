"""What the API takes and gives, for checking and for the OpenAPI page. Unknown fields are refused."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sonoshare_shared.protocol.documents.base import HexDigest, Identifier

Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]
Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, max_length=200, pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+\.[^@\s\x00-\x1f]+$"
    ),
]
Words = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=3, max_length=2000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
    ),
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Acceptance(_Model):
    """A researcher accepts the data-use agreement of a release.

    Attributes:
        release: the release.
        name: who.
        email: how to reach them.
        purpose: what for.
        agreement_version: the version that was read.
    """

    release: Identifier
    name: Line
    email: Email
    purpose: Words
    agreement_version: Annotated[str, Field(max_length=20)]


class GrantedToken(_Model):
    """A token; it is shown once."""

    token: str
    release: Identifier
    expires: datetime


class AgreementText(_Model):
    """The data-use agreement in force."""

    version: str
    text: str


class File(_Model):
    """A file of a release; ``public`` files need no token."""

    path: str
    size: int
    sha256: HexDigest
    public: bool
    url: str


class Files(_Model):
    """Every file of a release, manifest and signatures included."""

    release: Identifier
    manifest_digest: HexDigest
    files: list[File]
    next: str | None


class ReleaseList(_Model):
    """Releases, newest first."""

    releases: list[dict[str, Any]]
    next: str | None


class Health(_Model):
    """The catalogue answers."""

    status: str
