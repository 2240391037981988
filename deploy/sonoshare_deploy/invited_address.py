"""The address that an invitation names: one that hospitals can reach, and that the server's certificate is for."""

from typing import Final

from sonoshare_deploy.addresses import Addresses, endpoint
from sonoshare_deploy.certificates import certificate_names
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.errors import InputError

USUAL_PORT: Final = 9092
HERE_ALONE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not listened on


def invited_address(home: CoordinatorPaths, asked: str | None) -> str:
    """``host:port`` for an invitation.

    Args:
        home: the coordinator's folder.
        asked: as the person gave it; else the certificate's first name that is not of this machine alone, and the
            port of the running coordinator.

    Raises:
        InputError: it is no address, or the server's certificate is not for its host.
    """
    names = certificate_names(home)
    if asked is not None:
        host, port = endpoint(asked)
    else:
        running = endpoint(Addresses.read(home).fleet) if Addresses.running(home) else ("", USUAL_PORT)
        public = next((name for name in names if name not in HERE_ALONE), "127.0.0.1")
        host, port = (public if running[0] in _EVERYWHERE | {""} else running[0]), running[1]
    if host not in names:
        raise InputError(
            f"the server's certificate is not for {host}, and hospitals would refuse it",
            remedy=f"run: sonoshare coordinator renew --host {host}",
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
