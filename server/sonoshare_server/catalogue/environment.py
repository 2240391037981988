"""What the environment says of a catalogue: where its database and files are, its letters, its proxies, whom to ask.

    DATABASE_URL, SONOSHARE_BLOBS, SONOSHARE_SMTP, SONOSHARE_CATALOGUE_URL, SONOSHARE_CONTACT,
    SONOSHARE_TRUSTED_PROXIES, SONOSHARE_OIDC

Secrets come this way, so that none stands on a command line or in the database.
"""

import os
from dataclasses import replace
from pathlib import Path

from sonoshare_server.catalogue.contact import contact_of
from sonoshare_server.catalogue.mail import Smtp
from sonoshare_server.catalogue.providers import read_providers
from sonoshare_server.catalogue.settings import CatalogueSettings


def with_environment(settings: CatalogueSettings) -> CatalogueSettings:
    """Settings with what the environment says.

    Raises:
        InputError: a variable cannot be read.
    """
    proxies = os.environ.get("SONOSHARE_TRUSTED_PROXIES", "")
    return replace(
        settings,
        database_url=os.environ.get("DATABASE_URL") or None,
        blobs_url=os.environ.get("SONOSHARE_BLOBS") or None,
        mailer=Smtp.of(mail) if (mail := os.environ.get("SONOSHARE_SMTP")) else None,
        address=os.environ.get("SONOSHARE_CATALOGUE_URL") or None,
        contact=contact_of(os.environ.get("SONOSHARE_CONTACT", "")),
        providers=read_providers(Path(oidc)) if (oidc := os.environ.get("SONOSHARE_OIDC")) else (),
        trusted_proxies=tuple(filter(None, (word.strip() for word in proxies.split(",")))),
    )
