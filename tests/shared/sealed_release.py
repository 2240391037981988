"""Verifying a release, and spoiling one as a consortium that breaks a rule would: signed and logged again."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.shared.consortium import NOW, Consortium

from sonoshare_shared.errors import VerificationError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.release import MANIFEST_PAYLOAD_TYPE
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release import evidence, layout
from sonoshare_shared.protocol.release.verify import Verified, verify_release


def check(consortium: Consortium, folder: Path, **options: Any) -> Verified:
    return verify_release(folder, consortium.signed_roster(), **{"now": NOW} | options)


def cause_of(action: Callable[[], object]) -> str:
    with pytest.raises(VerificationError) as caught:
        action()
    return caught.value.cause


def reseal(consortium: Consortium, folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and have it signed and logged again, as a consortium that breaks a rule would."""
    value = json.loads((folder / layout.MANIFEST).read_bytes())
    edit(value)
    data = canonical_bytes(value)
    (folder / layout.MANIFEST).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    sums = {entry["path"]: entry["sha256"] for entry in value["files"]} | {layout.MANIFEST: digest}
    (folder / layout.SHA256SUMS).write_bytes(layout.sha256sums(sums))
    for hospital, key in consortium.keys.items():
        envelope = Envelope.sign(MANIFEST_PAYLOAD_TYPE, data, key)
        (folder / layout.signature_path(hospital)).write_bytes(envelope.to_bytes())
    proof = evidence.append_release(consortium.log(), value["release"], digest)
    (folder / layout.LOG_PROOF).write_bytes(proof.canonical())


def replace_file(consortium: Consortium, folder: Path, path: str, data: bytes) -> None:
    """Put other bytes in a listed file, in the manifest too, and have everything signed again."""
    (folder / path).write_bytes(data)

    def edit(value: dict[str, Any]) -> None:
        entry = next((e for e in value["files"] if e["path"] == path), None)
        if entry is None:
            entry = {"path": path}
            value["files"].append(entry)
        entry |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}

    reseal(consortium, folder, edit)
