"""What a catalogue needs to know; everything that touches the world is passed in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sonoshare_server.catalogue.mail import Mailer
from sonoshare_server.catalogue.providers import Provider
from sonoshare_server.catalogue.public_log import PublicLog
from sonoshare_shared.protocol.envelope import Envelope

AGREEMENT_TEXT: Final = """\
The images of this release are synthetic. They were drawn from a model that was trained inside hospitals under
patient-level differential privacy. By asking for a token you agree, for yourself and for those you work with, that

1. you use the data for health, medical or biomedical research or education;
2. you do not try, by any means, to learn anything about a patient or to single one out, and you tell the consortium
   at once if you believe that one can be;
3. you say that the images are synthetic wherever you show them or pass them on, and name release and consortium;
4. you do not diagnose, treat or triage patients with them alone;
5. you stop using and distributing a release that its consortium has revoked;
6. you keep the token to yourself.

The data come as they are, without any warranty. Your name, address and purpose are kept by the consortium's
coordinator, and shown to its hospitals, for as long as the release is listed.
"""


@dataclass(frozen=True)
class Agreement:
    """A data-use agreement; a token remembers the version that was accepted."""

    version: str = "1.0"
    text: str = AGREEMENT_TEXT


@dataclass(frozen=True)
class CatalogueSettings:
    """Settings of one catalogue.

    Attributes:
        database: its database; made when absent. Releases below its folder are remembered from there.
        database_url: another database in its place (`database` says which); the folder is still that of ``database``.
        blobs_url: an object store for the files of releases (`s3` says which), in the folder's place.
        mailer: sends letters; without one there are no accounts.
        address: the catalogue's own, for links in letters; without one there are no accounts.
        roster: gives the consortium's signed roster as it is now; shown for download, and what releases are verified
            against.
        clock: the present, aware.
        log: the transparency log, or None where the catalogue serves none.
        title: name of the consortium, for people.
        contact: e-mail address or https address of whom to ask; None where nobody is named.
        agreement: the data-use agreement.
        token_lifetime: how long a token is good for.
        grants_per_minute: tokens handed out in any minute, to everybody together.
        requests_per_minute: answered for one token, or one address without any, by each server; data that are given
            out under a token do not count.
        share: of what is allowed to everybody together, for one of several workers: tries of passwords.
        providers: of OpenID Connect, by which people with an account may sign in.
        trusted_proxies: addresses and networks of the reverse proxies that say who the client is (`proxies`).
    """

    database: Path
    roster: Callable[[], Envelope]
    clock: Callable[[], datetime]
    log: PublicLog | None = None
    database_url: str | None = field(default=None, repr=False)
    blobs_url: str | None = None
    mailer: Mailer | None = None
    address: str | None = None
    title: str = "SonoShare"
    contact: str | None = None
    agreement: Agreement = Agreement()
    token_lifetime: timedelta = timedelta(days=30)
    grants_per_minute: int = 60
    requests_per_minute: int = 6000
    share: float = 1.0
    providers: tuple[Provider, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
