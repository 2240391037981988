"""A manifest is signed by the keys that its hospitals had when it was made, by the order of the log (rule R20).

Whoever has stolen a key that was passed on since could sign a release of its own making with it, under a roster of
before. The log, which the reader has got fresh, shows that the manifest is younger than the change of the key.
"""

from collections.abc import Mapping

from sonoshare_shared.errors import IntegrityError, VerificationError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.release import ReleaseManifest
from sonoshare_shared.protocol.keys import PublicKey
from sonoshare_shared.protocol.log_index import LogIndex, manifest_entry
from sonoshare_shared.protocol.release.evidence import LogView, release_entry


def require_keys_of_then(log: LogView, manifest: ReleaseManifest, signed: Mapping[str, PublicKey]) -> None:
    """Check that no signature is of a key that was passed on before the manifest was logged for being signed.

    Args:
        log: a checked log.
        manifest: of the release.
        signed: the key of each hospital's signature.

    Raises:
        VerificationError: cause ``signature``; ``log-proof`` where the log cannot be read.
    """
    index, lines = LogIndex(), [entry.encode() for entry in log.entries]
    try:
        for line in lines:
            index.add(line)
    except IntegrityError as error:
        raise VerificationError.because("log-proof", error) from error
    digest = manifest.digest()
    place = index.find(manifest_entry(manifest.study, manifest.release, digest))
    if place is None:  # a log of earlier days, or a manifest that no hospital was shown: the release's own place
        released = canonical_bytes(release_entry(manifest.release, digest))
        place = lines.index(released) if released in lines else len(lines)
    for hospital, key in signed.items():
        passed = index.passed_on(key)
        if passed is not None and passed.position < place:
            raise VerificationError(
                "signature",
                f"{hospital} signed with a key that it had passed on before the manifest was made",
                remedy="do not use this release",
            )
