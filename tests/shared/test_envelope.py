"""Keys and envelopes: what verifies, and that nothing else does."""

from pathlib import Path

import pytest

from sonoshare_shared.errors import InputError, IntegrityError, VerificationError
from sonoshare_shared.protocol.envelope import Envelope, pre_authentication_encoding
from sonoshare_shared.protocol.keys import PublicKey, SigningKey

KIND = "application/x-test"


def test_pre_authentication_encoding_is_the_specifications_example() -> None:
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == expected


def test_round_trip_through_bytes() -> None:
    key = SigningKey.generate()
    envelope = Envelope.from_bytes(Envelope.sign(KIND, b"payload", key).to_bytes())
    assert envelope.verify(key.public, KIND) == b"payload"


def test_case_58_another_payload_type_is_refused() -> None:
    key = SigningKey.generate()
    envelope = Envelope.sign(KIND, b"payload", key)
    with pytest.raises(VerificationError) as refused:
        envelope.verify(key.public, "application/x-other")
    assert refused.value.cause == "payload-type"
    moved = envelope.model_copy(update={"payloadType": "application/x-other"})
    with pytest.raises(VerificationError) as refused:
        moved.verify(key.public, "application/x-other")
    assert refused.value.cause == "signature"


def test_a_foreign_key_is_refused_whatever_key_id_the_envelope_claims() -> None:
    signer, claimed = SigningKey.generate(), SigningKey.generate()
    envelope = Envelope.sign(KIND, b"payload", signer)
    relabelled = envelope.signatures[0].model_copy(update={"keyid": claimed.public.hex})
    forged = envelope.model_copy(update={"signatures": (relabelled,)})
    with pytest.raises(VerificationError):
        forged.verify(claimed.public, KIND)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"payloadType": "x"}'])
def test_what_is_no_envelope_is_named_so(data: bytes) -> None:
    with pytest.raises(VerificationError) as refused:
        Envelope.from_bytes(data)
    assert refused.value.cause == "envelope"


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    key = SigningKey.generate()
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SigningKey.load(path).public == key.public
    with pytest.raises(FileExistsError):
        SigningKey.generate().save(path)


def test_unusable_keys_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.key").write_text("not a key")
    with pytest.raises(InputError):
        SigningKey.load(tmp_path / "broken.key")
    with pytest.raises(InputError):
        SigningKey.load(tmp_path / "missing.key")
    with pytest.raises(InputError):
        PublicKey.from_hex("zz")
    with pytest.raises(InputError):
        PublicKey.from_hex("00")
    with pytest.raises(IntegrityError):
        SigningKey.generate().public.verify(b"short", b"data")
