"""The catalogue apart from the coordinator's agents: over the coordinator's folder, or with no key of anybody's.

    over a folder   ``home``: roster and log are the folder's; a head of the log is signed for whoever asks
    without a key   ``roster`` and ``log``: files as ``GET /api/v1/roster`` and ``/api/v1/log`` give them; releases are
                    in the database and the object store that the environment names. What is put in the files' place is
                    served from then on, so a timer that fetches them keeps the log's head fresh.

Nothing that is public needs a private key, so the machine that the public reaches need not hold one.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from fastapi import FastAPI

from sonoshare_server.catalogue.app import create_app
from sonoshare_server.catalogue.environment import with_environment
from sonoshare_server.catalogue.public_log import ExportedLog
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.consortium.publication import catalogue_settings
from sonoshare_server.home import CoordinatorHome
from sonoshare_shared.errors import InputError
from sonoshare_shared.protocol.envelope import Envelope


@dataclass(frozen=True)
class CataloguePlace:
    """Where a catalogue finds what it serves; makes its application, in any process.

    Attributes:
        home: a coordinator's folder, or None.
        roster: the signed roster, where there is no folder.
        log: the log under a signed head, where there is no folder; None serves no log.
        title: name of the consortium, where there is no folder.
        share: of the requests a minute that are allowed, for one of several workers.
    """

    home: Path | None = None
    roster: Path | None = None
    log: Path | None = None
    title: str = "SonoShare"
    share: float = 1.0

    def __call__(self) -> FastAPI:
        """The application.

        Raises:
            InputError: something that is needed is not there.
            FederationError: the database cannot be reached.
        """
        settings = self.settings()
        allowed = max(1, round(settings.requests_per_minute * self.share))
        return create_app(replace(settings, requests_per_minute=allowed, share=self.share))

    def settings(self) -> CatalogueSettings:
        """What the catalogue needs to know.

        Raises:
            InputError: something that is needed is not there.
        """
        if self.home is not None:
            return catalogue_settings(CoordinatorHome(self.home))
        if self.roster is None:
            raise InputError("no roster is named", remedy="give --home, or --roster and --log")
        roster, log = self.roster, self.log
        Envelope.load(roster)
        settings = with_environment(
            CatalogueSettings(
                database=Path("catalogue.db"),
                roster=lambda: Envelope.load(roster),
                clock=lambda: datetime.now(UTC),
                log=None if log is None else ExportedLog(log),
                title=self.title,
            )
        )
        if settings.database_url is None or settings.blobs_url is None:
            raise InputError(
                "a catalogue without the coordinator's folder needs a database and an object store",
                remedy="set DATABASE_URL and SONOSHARE_BLOBS, or give --home",
            )
        return settings
