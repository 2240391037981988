"""Signed envelopes: DSSE v1 with one Ed25519 signature per envelope.

One envelope per signer, each checked against that signer's own raw public key. A roster by which the root key changes,
and the succession of an identity key, have two: of the old and of the new key. The key id is a hint for people
and is never trusted; the payload type is part of what is signed, so that a statement cannot be passed off as
another kind. The payload bytes are kept as signed, and are only parsed after the signature has verified.

Source: Dead Simple Signing Envelope v1, pre-authentication encoding (PAE).
"""

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from sonoshare_shared.bounded import read_bounded
from sonoshare_shared.errors import InputError, IntegrityError, VerificationError
from sonoshare_shared.protocol.keys import PublicKey, SigningKey

MAX_ENVELOPE_BYTES = 64 << 20


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: ``DSSEv1 <len> <type> <len> <payload>``."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


class Signature(BaseModel):
    """One signature of an envelope: a key hint, and base64 of 64 bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keyid: str
    sig: str


class Envelope(BaseModel):
    """A payload, what it is, and who signed it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    payloadType: str  # noqa: N815 - DSSE's own field name
    payload: str
    signatures: tuple[Signature, ...]

    @classmethod
    def sign(cls, payload_type: str, payload: bytes, key: SigningKey) -> Self:
        """Sign a payload."""
        signature = key.sign(pre_authentication_encoding(payload_type, payload))
        return cls(
            payloadType=payload_type,
            payload=base64.b64encode(payload).decode(),
            signatures=(Signature(keyid=key.public.hex, sig=base64.b64encode(signature).decode()),),
        )

    def countersigned(self, key: SigningKey) -> Self:
        """The same payload with one signature more: of a second key that it is to be checked against too."""
        payload = base64.b64decode(self.payload, validate=True)
        also = type(self).sign(self.payloadType, payload, key)
        return self.model_copy(update={"signatures": (*self.signatures, *also.signatures)})

    def verify(self, key: PublicKey, payload_type: str) -> bytes:
        """Check the envelope against one key and return the signed payload.

        Raises:
            VerificationError: cause ``payload-type`` or ``signature``.
        """
        if self.payloadType != payload_type:
            raise VerificationError("payload-type", f"envelope holds {self.payloadType!r}, not {payload_type!r}")
        try:
            payload = base64.b64decode(self.payload, validate=True)
            signatures = [base64.b64decode(s.sig, validate=True) for s in self.signatures]
        except binascii.Error as error:
            raise VerificationError("signature", "envelope is not valid base64") from error
        signed = pre_authentication_encoding(payload_type, payload)
        if not any(_verifies(key, signature, signed) for signature in signatures):
            raise VerificationError(
                "signature",
                "no signature of the expected key over this payload",
                remedy="check that file and key belong together",
            )
        return payload

    def decoded(self) -> bytes:
        """The payload, of which nothing is verified.

        Raises:
            VerificationError: cause ``signature``, it is not base64.
        """
        try:
            return base64.b64decode(self.payload, validate=True)
        except binascii.Error as error:
            raise VerificationError("signature", "envelope is not valid base64") from error

    def signer_among(self, keys: Iterable[PublicKey]) -> PublicKey | None:
        """The first of some keys that the envelope says it is signed by, or None; nothing is verified by this."""
        hints = {signature.keyid for signature in self.signatures}
        return next((key for key in keys if key.hex in hints), None)

    def require_plain(self, *keys: PublicKey) -> None:
        """Refuse what a signature does not cover: a further signature, another key's hint, base64 with stray bits.

        What is kept, passed on or published is checked so; its size is then that of its payload.

        Raises:
            VerificationError: cause ``envelope``.
        """
        texts = [self.payload, *(signature.sig for signature in self.signatures)]
        plain = all(base64.b64encode(base64.b64decode(text)).decode() == text for text in texts)
        if not plain or [signature.keyid for signature in self.signatures] != [key.hex for key in keys]:
            raise VerificationError("envelope", "an envelope holds more than the one signature expected")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse an envelope; nothing of it is trusted before ``verify``.

        Raises:
            VerificationError: cause ``envelope``.
        """
        if len(data) > MAX_ENVELOPE_BYTES:
            raise VerificationError("envelope", "envelope is larger than 64 MiB")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise VerificationError("envelope", "not a DSSE envelope", remedy="give the signed file") from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an envelope file.

        Raises:
            VerificationError: cause ``envelope``, the file is missing or no envelope.
        """
        try:
            return cls.from_bytes(read_bounded(path, MAX_ENVELOPE_BYTES))
        except InputError as error:
            raise VerificationError("envelope", error.message, remedy=error.remedy) from error
        except OSError as error:
            words = f"cannot read {path.name}: {error.strerror or type(error).__name__}"
            raise VerificationError("envelope", words, remedy="check the path") from error

    def to_bytes(self) -> bytes:
        """The envelope as JSON (one line, newline-ended)."""
        return self.model_dump_json().encode() + b"\n"


def _verifies(key: PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except IntegrityError:
        return False
    return True
