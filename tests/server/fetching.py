"""A release fetched from any source and verified as a researcher does it."""

from pathlib import Path
from typing import Any

from tests.server.catalogue_fixture import Site
from tests.shared.consortium import NOW, RELEASE
from tests.shared.memory_source import MemorySource

from sonoshare_shared.protocol.release.fetch import fetch_release
from sonoshare_shared.protocol.release.remote import HttpSource
from sonoshare_shared.protocol.release.sources import FolderSource
from sonoshare_shared.protocol.release.verify import Verified, verify_release


def fetch_from(source: HttpSource | MemorySource | FolderSource, served: Site, out: Path, **options: Any) -> Verified:
    """Fetch the release without a pause between attempts."""
    options = {"pause": lambda _: None} | options
    return fetch_release(
        source,
        RELEASE,
        out,
        lambda folder: verify_release(folder, served.settings.roster(), now=NOW),
        **options,
    )
