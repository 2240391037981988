"""The server's TLS certificate as it lies on the disk now: renewed files count for the next handshake.

A listener makes its TLS context once. Whoever makes it here gets one that is loaded anew when the certificate's file
changes, so that a renewal needs no restart and breaks no connection off: those that are open go on under the old one.
Files that cannot be read, or do not belong together, change nothing until they do.
"""

import logging
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

LOOK_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


class RenewedCertificate:
    """Certificate and key in two files, and the TLS contexts that use them.

    Args:
        certificate: PEM file.
        key: PEM file of its private key.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate, self._key = Path(certificate), Path(key)
        self._contexts: list[ssl.SSLContext] = []
        self._taken = self._state()

    def context(self, _config: Any, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """Make a listener's TLS context (uvicorn's ``ssl_context_factory``) and keep it up to date from now on."""
        context = default()
        self._contexts.append(context)
        return context

    def take_up(self) -> bool:
        """Load the files anew if they have changed; returns whether they were."""
        now = self._state()
        if now in {None, self._taken}:
            return False
        try:
            # In a context of its own first: no listener is left with half of a pair.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
            for context in self._contexts:
                context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            _log.warning("the renewed certificate cannot be used yet: %s", error)
            return False
        self._taken = now
        _log.info("the renewed certificate is in use")
        return True

    def watch(self) -> None:
        """Look for renewed files for as long as this process runs."""

        def look() -> None:
            while not stopped.wait(LOOK_SECONDS):
                self.take_up()

        stopped = threading.Event()
        threading.Thread(target=look, daemon=True, name="certificate").start()

    def _state(self) -> tuple[int, ...] | None:
        try:
            found = [path.stat() for path in (self._certificate, self._key)]
        except OSError:
            return None
        return tuple(number for one in found for number in (one.st_mtime_ns, one.st_ino, one.st_size))
