"""Who takes part in a study, as the vault keeps it: a sealed list of pseudonyms, bound to the study's name."""

import json
from collections.abc import Iterable

from sonoshare_client.node.sealed import VaultKeys
from sonoshare_shared.errors import IntegrityError


def sealed_enrolment(keys: VaultKeys, study: str, pseudonyms: Iterable[str]) -> bytes:
    """Seal the list of a study."""
    return keys.seal(json.dumps(sorted(pseudonyms)).encode(), _place(study))


def opened_enrolment(keys: VaultKeys, study: str, sealed: bytes) -> frozenset[str]:
    """Open the list of a study.

    Raises:
        IntegrityError: changed, of another study, or of another key.
    """
    try:
        return frozenset(json.loads(keys.open(sealed, _place(study))))
    except ValueError as error:
        raise IntegrityError("the list of who takes part is damaged", remedy="restore the vault") from error


def _place(study: str) -> str:
    return f"sonoshare/vault/v1/enrolment:{study}"
