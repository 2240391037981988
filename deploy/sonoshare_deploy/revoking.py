"""The coordinator enters a hospital's revocation: into the log first, then the catalogue shows it.

Nothing is asked of the hospital's reasons: whoever belongs to the consortium may take a release back.
"""

from pathlib import Path

from sonoshare_server.catalogue.publishing import revoke
from sonoshare_server.consortium.publication import catalogue_of
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release.evidence import Revocation
from sonoshare_shared.protocol.signed_files import REVOCATION, read_signed


def accept_revocation(home: CoordinatorHome, path: Path) -> Revocation:
    """Enter a revocation that a hospital signed.

    Args:
        home: the coordinator's folder.
        path: the envelope, as ``sonoshare hospital revoke`` wrote it.

    Raises:
        InputError: the file is no revocation, or there is no such release.
        VerificationError: it is not signed by the member that it names.
    """
    return enter_revocation(home, read_signed(path, REVOCATION))


def enter_revocation(home: CoordinatorHome, signed: Envelope) -> Revocation:
    """Enter a revocation that was read.

    Raises:
        InputError, VerificationError: as `accept_revocation`.
    """
    with catalogue_of(home) as (_, storage):
        return revoke(storage.releases, signed, home.roster, home.log())
