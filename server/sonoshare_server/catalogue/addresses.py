"""The catalogue's own address as the reader typed it, for what is written into answers and pages."""

import re
from typing import Final

from starlette.requests import Request

_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}\Z")


def host_of(request: Request) -> str:
    """Name and port, or a word in their place where what was sent is none."""
    host = request.headers.get("host", "")
    return host if _HOST.match(host) else "CATALOGUE"


def address_of(request: Request) -> str:
    """Scheme, name and port."""
    host = host_of(request)
    return f"{'https' if host == 'CATALOGUE' else request.url.scheme}://{host}"
