"""What a researcher's machine remembers of catalogues: token, pinned root, newest roster, and the log that was seen.

    ~/.config/sonoshare/researcher.json      SONOSHARE_CONFIG names another folder; other systems have their own

The file is its owner's alone (0600), since tokens are in it, and is made so again where others may read it; a token is
sent only to the catalogue that it was kept for. Not promised: that two commands at the same moment both keep what they
learn; the later one does.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.release.freshness import KnownHead
from sonoshare_shared.state import read_state, state_bytes

CONFIG_VARIABLE: Final = "SONOSHARE_CONFIG"
FILE: Final = "researcher.json"
EVERY_RELEASE: Final = "*"
_OTHERS: Final = 0o077
_LOG: Final = logging.getLogger(__name__)

PinnedBy = Literal["by-hand", "first-use"]


@dataclass(frozen=True)
class Pin:
    """The consortium's root key, as far as a catalogue goes.

    Attributes:
        root: the key (hex).
        by: a person gave it, or it is the one that the catalogue showed at first.
        day: since when.
    """

    root: str
    by: PinnedBy
    day: str


@dataclass(frozen=True)
class Place:
    """One catalogue.

    Attributes:
        tokens: by release; ``*`` is for every release that has none of its own.
        pin: root key, if one is pinned.
        roster: newest roster that was seen under it.
        head: the log that was seen last.
    """

    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    pin: Pin | None = None
    roster: Envelope | None = None
    head: KnownHead | None = None

    def token(self, release: str) -> str | None:
        """The token for a release, if one was kept."""
        return self.tokens.get(release) or self.tokens.get(EVERY_RELEASE)


@dataclass(frozen=True)
class Known:
    """All catalogues that are known.

    Attributes:
        server: where one is logged in; the one that commands mean when they name none.
        places: by address.
    """

    server: str | None = None
    places: Mapping[str, Place] = field(default_factory=dict)

    def at(self, server: str) -> Place:
        """What is known of a catalogue, or of nothing."""
        return self.places.get(address_of(server), Place())

    def having(self, server: str, place: Place) -> "Known":
        """The same with one catalogue as it is now."""
        return replace(self, places={**self.places, address_of(server): place})


def address_of(server: str) -> str:
    """How a catalogue's address is written: host and scheme say nothing by their case.

    Raises:
        InputError: it is no address of a catalogue.
    """
    from sonoshare_shared.protocol.release.remote import require_server  # noqa: PLC0415 - httpx; verify needs none

    scheme, _, rest = require_server(server).partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{host.lower()}{slash}{path}"


def config_folder() -> Path:
    """The folder of a person's settings, by the operating system's habit."""
    import click  # noqa: PLC0415 - who calls this from Python needs no command line

    given = os.environ.get(CONFIG_VARIABLE)
    return Path(given).expanduser() if given else Path(click.get_app_dir("sonoshare"))


def read_known() -> Known:
    """What is remembered; nothing where there is no file.

    Raises:
        IntegrityError: the file is damaged.
    """
    path = config_folder() / FILE
    try:
        _close(path)
        return read_state(path, Known, remedy=f"remove {path}, and log in again")
    except (FileNotFoundError, NotADirectoryError):
        return Known()


def _close(path: Path) -> None:
    """Take a file of tokens from others, and say so: they may have read it."""
    mode = path.stat().st_mode
    if os.name == "posix" and mode & _OTHERS:
        with suppress(PermissionError):  # another's file; reading it is refused or not, as its owner wants
            path.chmod(mode & ~_OTHERS & 0o777)
            _LOG.warning(
                "%s was open to others of this machine and is closed now: if they are not trusted, get new tokens", path
            )


def write_known(known: Known) -> None:
    """Remember.

    Raises:
        OSError: it cannot be written; what was remembered is as it was.
    """
    folder = config_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(folder / FILE, state_bytes(known), mode=0o600, writer=f"part-{os.getpid()}")
