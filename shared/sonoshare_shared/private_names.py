"""Names inside another package that it does not promise to keep, and that we rest on all the same.

Each room that rests on some lists them as values, in the one module that imports the package, and checks the list
before it starts anything. When the package has changed, the check says so in one line; without it, a replaced name
that is gone would silently leave the original at work.
"""

import importlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from sonoshare_shared.errors import InputError

_ABSENT: Final = object()


@dataclass(frozen=True)
class PrivateName:
    """One name and what is expected of it.

    Attributes:
        module: where it is looked up.
        name: its name in the module; dots go on into its attributes.
        parameters: of a function or class: names that it must accept, first ones first; None asks for no more than
            that it is there.
        fields: of a protobuf message: names that it must have.
        value: of a constant; None where it is not one.
        looks_up: of a function: global names that its body must use, so that replacing them replaces what it does.
    """

    module: str
    name: str
    parameters: tuple[str, ...] | None = None
    fields: tuple[str, ...] = ()
    value: str | None = None
    looks_up: tuple[str, ...] = ()

    def fault(self) -> str | None:
        """What is wrong with it in the installed package, in a few words; None where all is as expected."""
        found = self._found()
        if found is _ABSENT:
            return "is not there"
        if self.value is not None and found != self.value:
            return f"is not {self.value!r}"
        if self.fields and not set(self.fields) <= set(found.DESCRIPTOR.fields_by_name):
            return f"has not all of the fields {', '.join(self.fields)}"
        if self.looks_up and not set(self.looks_up) <= set(getattr(found, "__code__", _no_names.__code__).co_names):
            return f"does not use {', '.join(self.looks_up)}"
        if self.parameters is not None and not _accepts(found, self.parameters):
            return f"does not take ({', '.join(self.parameters)})"
        return None

    def _found(self) -> Any:
        try:
            found: Any = importlib.import_module(self.module)
        except ImportError:
            return _ABSENT
        for part in self.name.split("."):
            found = getattr(found, part, _ABSENT)
        return found


def require_private_names(package: str, expected: str, names: Iterable[PrivateName]) -> None:
    """Check that all names are as expected.

    Args:
        package: distribution that they are of.
        expected: its version, as a pattern of pip (``1.41.*``).
        names: what is rested on.

    Raises:
        InputError: one is not; names it, the version found and the version expected.
    """
    for name in names:
        fault = name.fault()
        if fault is not None:
            raise InputError(
                f"{package} {_version(package)} is not the {expected} that this was written for: "
                f"{name.module}.{name.name} {fault}",
                remedy=f"pip install '{package}=={expected}'",
            )


def _accepts(function: Any, parameters: tuple[str, ...]) -> bool:
    """Whether a callable has these parameters, in this order, and asks for no other."""
    if not callable(function):
        return False
    found = [one for one in inspect.signature(function).parameters.values() if one.name != "self"]
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = {one.name for one in found if one.default is one.empty and one.kind not in several}
    return required <= set(parameters) and tuple(one.name for one in found if one.name in parameters) == parameters


def _no_names() -> None:
    """A function that uses no name."""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
