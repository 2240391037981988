"""Programs of one machine that talk to each other do so directly, whatever proxy the site's environment names.

HTTP clients take ``HTTPS_PROXY`` for every address that ``NO_PROXY`` does not name, 127.0.0.1 among them: a proxy set
for the way out would be asked for this very machine.
"""

from collections.abc import Mapping
from typing import Final

_NO_PROXY: Final = ("NO_PROXY", "no_proxy")
_LOOPBACK: Final = ("127.0.0.1", "localhost")


def loopback_direct(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which no proxy is used for this machine itself, where Flower's processes talk to each other."""
    said = next((environment[name] for name in _NO_PROXY if environment.get(name)), "")
    listed = [name for name in said.split(",") if name.strip()]
    missing = [name for name in _LOOPBACK if name not in listed]
    return {**environment, **dict.fromkeys(_NO_PROXY, ",".join([*listed, *missing]))}
