"""Where a catalogue keeps what it knows: releases, their files, and tokens."""

from collections.abc import Callable
from dataclasses import dataclass

from sonoshare_server.catalogue.accesses import Accesses
from sonoshare_server.catalogue.blobs import Blobs, FolderBlobs
from sonoshare_server.catalogue.database import Database
from sonoshare_server.catalogue.people import People
from sonoshare_server.catalogue.s3 import S3Blobs
from sonoshare_server.catalogue.settings import CatalogueSettings
from sonoshare_server.catalogue.store import ReleaseStore, SqlReleases
from sonoshare_server.catalogue.tokens import SqlTokens, Tokens


@dataclass(frozen=True)
class Storage:
    """The three seams of a catalogue, what ends its connections, and accounts where there are any."""

    releases: ReleaseStore
    blobs: Blobs
    tokens: Tokens
    close: Callable[[], None] = lambda: None
    accesses: Accesses | None = None
    people: People | None = None


def open_storage(settings: CatalogueSettings) -> Storage:
    """Database and folder of a catalogue; a running catalogue sees at once what is changed here."""
    database = Database(settings.database_url or settings.database)
    folder, people = FolderBlobs(settings.database.parent), None
    if settings.mailer is not None and settings.address is not None:
        people = People.over(database, settings.mailer, settings.address)
    return Storage(
        SqlReleases(database),
        folder if settings.blobs_url is None else S3Blobs(settings.blobs_url, folder),
        SqlTokens(database),
        database.close,
        Accesses(database),
        people,
    )
