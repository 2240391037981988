"""Whose a folder is: a hospital's node, the coordinator's, or nobody's.

    error: fed is a coordinator's folder, not a hospital's (check --home)

The file that marks a folder is made with it and stays for as long as the folder is that role's.
"""

from pathlib import Path
from typing import Final, Literal

from sonoshare_shared.errors import InputError

Role = Literal["hospital", "coordinator"]
_MARKS: Final[dict[Role, str]] = {"hospital": "home.toml", "coordinator": "coordinator.key"}


def role_of(path: Path) -> Role | None:
    """Whose folder it is; None for nobody's, or none at all."""
    return next((role for role, mark in _MARKS.items() if (path / mark).is_file()), None)


def not_of(path: Path, role: Role) -> InputError:
    """Why a folder is not the one of a role that was asked for.

    Args:
        path: as it was given.
        role: whose it should be.
    """
    anew = f"check --home; a new one is made by: sonoshare {role} init"
    found = role_of(path)
    if found is not None and found != role:
        return InputError(f"{path} is a {found}'s folder, not a {role}'s", remedy="check --home")
    if not path.exists():
        return InputError(f"there is no folder {path}", remedy=anew)
    return InputError(f"{path} is not a {role}'s folder", remedy=anew)


def require_role_folder(path: Path) -> None:
    """Check that a folder is a role's.

    Raises:
        InputError: it is neither role's.
    """
    if role_of(path) is None:
        raise InputError(f"{path} is neither a hospital's folder nor a coordinator's", remedy="check --home")
