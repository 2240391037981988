"""What operating systems and viewers leave in folders that they show or pack: no part of a release, and harmless.

    .DS_Store  ._000001.png  __MACOSX/…       macOS
    Thumbs.db  desktop.ini                    Windows
    .ipynb_checkpoints/…                      Jupyter

A release that holds any of it is not verified, as with every other file that nobody signed; only the advice differs:
delete it. A link or a device is never litter, wherever it stands.
"""

from collections.abc import Iterable
from typing import Final

from sonoshare_shared.errors import VerificationError

_FOLDERS: Final = frozenset({"__macosx", ".ipynb_checkpoints"})
_FILES: Final = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_APPLE_DOUBLE: Final = "._"
_SHOWN: Final = 3


def is_litter_file(name: str) -> bool:
    """Whether a file of this name, without its folder, is litter."""
    return name.casefold() in _FILES or (name.startswith(_APPLE_DOUBLE) and len(name) > len(_APPLE_DOUBLE))


def is_litter_folder(name: str) -> bool:
    """Whether whatever is in a folder of this name is litter."""
    return name.casefold() in _FOLDERS


def litter_error(paths: Iterable[str]) -> VerificationError:
    """What is said of a folder that would be a release but for litter.

    Args:
        paths: at least one.
    """
    found = sorted(paths)
    named = ", ".join(repr(path[:80]) for path in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return VerificationError(
        "file-extra",
        f"{named}{more} was left by the operating system or a viewer, and is no part of the release",
        remedy="delete it, then verify again: the release itself may be whole",
    )
