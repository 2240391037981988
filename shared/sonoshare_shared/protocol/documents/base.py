"""What every document has: it is frozen, refuses what it does not know, and its digest is of its very bytes.

Bytes first. A document that was *read* keeps the bytes that it was read from; its canonical form and its digest are
these bytes and never a new serialisation, so that a later version of this code, whose documents have more fields,
computes the same digest. A document that is *made* here has its RFC 8785 form. A changed copy forgets the bytes.

Ageing (docs/decisions/0073-documents-can-age.md). A document may gain fields by `added`: they are left out unless they
are set, so old bytes stay valid and new bytes that do not use them are readable by old code. Code that meets a field,
or a version of a schema, that it does not know says that the document was made by a newer version, and refuses it:
what is not understood is not trusted.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from sonoshare_shared.errors import InputError, IntegrityError, NewerVersionError
from sonoshare_shared.printable import printable
from sonoshare_shared.protocol.canonical import HEX_DIGEST, canonical_bytes, parsed_json, sha256_hex

IDENTIFIER: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"
Identifier = Annotated[str, Field(pattern=IDENTIFIER)]
"""Short name of a hospital, study, task or release."""
HexDigest = Annotated[str, Field(pattern=HEX_DIGEST)]
"""Sha256, or a raw Ed25519 public key, as 64 lowercase hexadecimal characters."""

UPDATE: Final = "update SonoShare"

_BYTES: Final = "__bytes__"
_VERSIONED: Final = re.compile(r"^(?P<name>.*/v)(?P<version>\d{1,6})$")
_QUOTED: Final = re.compile("'([^']*)'")
_UNKNOWN: Final = frozenset({"extra_forbidden", "unexpected_keyword_argument", "union_tag_invalid"})
_MOST_PLACE: Final = 120


def added() -> Any:
    """An optional field that a document has gained since its first version: not in its bytes unless it is set."""
    return Field(default=None, exclude_if=_is_none)


def _is_none(value: object) -> bool:
    return value is None


class Document(BaseModel):
    """A frozen, versioned document; see the module for what its bytes are."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())

    def canonical(self) -> bytes:
        """The document's bytes: those it was read from; of a document made here, canonical JSON by field alias."""
        kept: bytes | None = self.__dict__.get(_BYTES)
        return canonical_bytes(self.model_dump(mode="json", by_alias=True)) if kept is None else kept

    def digest(self) -> str:
        """Sha256 of the document's bytes, 64 hexadecimal characters."""
        return sha256_hex(self.canonical())

    def digest_of(self, part: str) -> str:
        """Sha256 of one part of the document, by its name in JSON: canonical JSON of what the bytes say there."""
        return sha256_hex(canonical_bytes(parsed_json(self.canonical())[part]))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse, validate, and keep the bytes.

        Raises:
            NewerVersionError: the document holds what only a newer version of SonoShare knows.
            IntegrityError: the bytes are not this document; the message names the first offending field.
        """
        try:
            document = cls.model_validate_json(data)
        except ValidationError as error:
            raise _refusal(cls.__name__, error) from error
        # Beside the fields, where pydantic's comparison and serialisation do not look (as for a cached property).
        document.__dict__[_BYTES] = bytes(data)
        return document

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy; one that is changed has bytes of its own."""
        copied = super().model_copy(update=update, deep=deep)
        if update:
            copied.__dict__.pop(_BYTES, None)
        return copied


def public_day(moment: datetime) -> datetime:
    """Midnight UTC of a moment's day: the most that a public document says of when something happened.

    How long a computation took tells how many patients it was about; a day does not.
    """
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@contextmanager
def values_given(what: str) -> Iterator[None]:
    """Documents that are made here hold values that a person typed: a refusal is that person's to correct.

    Args:
        what: the values in words, for the message.

    Raises:
        InputError: a document refused a value; the message names the first offending field.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{what}: {_place(first)}: {first['msg']}", remedy="correct the value") from error


def _refusal(name: str, error: ValidationError) -> IntegrityError:
    """Why bytes are not a document: made by a newer version, or simply not it."""
    faults = error.errors(include_url=False)
    newer = next((fault for fault in faults if _is_newer_schema(fault)), None)
    if newer is None and all(fault["type"] in _UNKNOWN for fault in faults):
        newer = faults[0]
    if newer is not None:
        return NewerVersionError(
            f"this {name} was made by a newer version of SonoShare: {_place(newer)} is unknown here", remedy=UPDATE
        )
    first = faults[0]
    return IntegrityError(f"not a valid {name}: {_place(first)}: {first['msg']}", remedy="check its version and source")


def _is_newer_schema(fault: ErrorDetails) -> bool:
    """Whether a fault is a schema of the right name with a higher version than this code knows."""
    if fault["type"] != "literal_error":
        return False
    known = [_VERSIONED.match(text) for text in _QUOTED.findall(str(fault["ctx"]["expected"]))]
    given = _VERSIONED.match(str(fault["input"])[:_MOST_PLACE])
    return given is not None and any(
        at is not None and at["name"] == given["name"] and int(given["version"]) > int(at["version"]) for at in known
    )


def _place(fault: ErrorDetails) -> str:
    """Where a fault is; names of unknown fields are others' words, so nothing but printable characters of them."""
    place = ".".join(str(part) for part in fault["loc"]) or "document"
    return printable(place[:_MOST_PLACE])
