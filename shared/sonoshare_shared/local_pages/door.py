"""Who may enter: whoever opens the link that the terminal shows, once, and within minutes.

    door = Door(port=4321)
    door.link        "http://127.0.0.1:4321/enter?secret=..."   printed, never logged
    door.enter(s)    the session's cookie; None where the secret is wrong, used or too old
    door.admits(c)   whether a cookie is the session's

There is one session. It ends after a working day, when the person leaves, or with the process; then the console is
started again. All secrets have 256 bits, are compared in constant time and lie in memory alone.
"""

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

LOOPBACK: Final = "127.0.0.1"
LINK_SECONDS: Final = 600.0
SESSION_SECONDS: Final = 8 * 3600.0
ENTRANCE: Final = "/enter"
_SECRET_BYTES: Final = 32
_USUAL_PORT: Final = 80
_PATH_BYTES: Final = 12


class Door:
    """One link, one session.

    Args:
        port: where the pages are served.
        clock: seconds that only grow.

    Attributes:
        root: path below which all pages lie; it is not guessed, and the cookie is sent there alone.
        form_word: what every form of the session carries.
    """

    def __init__(self, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.port = port
        self.root = f"/{secrets.token_urlsafe(_PATH_BYTES)}"
        self.form_word = secrets.token_urlsafe(_SECRET_BYTES)
        self._clock, self._lock = clock, threading.Lock()
        self._link_secret: str | None = secrets.token_urlsafe(_SECRET_BYTES)
        self._link_ends = clock() + LINK_SECONDS
        self._session: str | None = None
        self._session_ends = 0.0

    @property
    def cookie_name(self) -> str:
        """One a port: two consoles of one browser do not put each other out."""
        return f"sonoshare-console-{self.port}"

    @property
    def hosts(self) -> frozenset[str]:
        """What a request may call this server; browsers leave the usual port out."""
        names = (LOOPBACK, "localhost")
        return frozenset(
            {f"{name}:{self.port}" for name in names} | (set(names) if self.port == _USUAL_PORT else set())
        )

    @property
    def link(self) -> str:
        """The link to open; it works once."""
        return f"http://{LOOPBACK}:{self.port}{ENTRANCE}?secret={self._link_secret or 'used'}"

    def enter(self, secret: str) -> str | None:
        """Use the link up, and give the session's cookie; None where it is wrong, used or too old."""
        with self._lock:
            if self._clock() > self._link_ends or not _same(secret, self._link_secret):
                return None
            self._link_secret = None
            self._session, self._session_ends = secrets.token_urlsafe(_SECRET_BYTES), self._clock() + SESSION_SECONDS
            return self._session

    def admits(self, cookie: str | None) -> bool:
        """Whether a cookie is the session's, and the session lasts."""
        return self._clock() <= self._session_ends and _same(cookie, self._session)

    def knows_form(self, word: str | None) -> bool:
        """Whether a form is one of the session's own pages."""
        return _same(word, self.form_word)

    def leave(self) -> None:
        """End the session."""
        self._session = None


def _same(given: str | None, kept: str | None) -> bool:
    return given is not None and kept is not None and hmac.compare_digest(given.encode(), kept.encode())
