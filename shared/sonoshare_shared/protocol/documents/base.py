"""What every document has: it is frozen, refuses unknown fields, and has one canonical form and digest."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from sonoshare_shared.errors import InputError, IntegrityError
from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex


class Document(BaseModel):
    """A frozen, versioned document; its digest is the sha256 of its RFC 8785 form."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())

    def canonical(self) -> bytes:
        """Canonical JSON bytes (RFC 8785), by field alias."""
        return canonical_bytes(self.model_dump(mode="json", by_alias=True))

    def digest(self) -> str:
        """Sha256 of the canonical bytes, 64 hexadecimal characters."""
        return sha256_hex(self.canonical())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse and validate.

        Raises:
            IntegrityError: the bytes are not this document; the message names the first offending field.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise IntegrityError(
                f"not a valid {cls.__name__}: {_first_fault(error)}", remedy="check its version and source"
            ) from error


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
        raise InputError(f"{what}: {_first_fault(error)}", remedy="correct the value") from error


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "document"
    return f"{place}: {first['msg']}"
