"""Reads what ``machine`` judges, from the machine that this runs on. Writes nothing."""

import os
import platform
import shutil
import stat
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from sonoshare_deploy.preflight import machine
from sonoshare_deploy.preflight.finding import Finding
from sonoshare_shared.errors import SonoShareError

NAME: Final = "sonoshare"


def machine_findings(extra: str, folder: Path, keys: Iterable[Path], device: str) -> list[Finding]:
    """Look at this machine.

    Args:
        extra: of the role: ``client`` or ``server``.
        folder: of the role.
        keys: its private keys.
        device: the word that says where it computes.
    """
    import psutil  # noqa: PLC0415 - of the roles' extras: what is missing is to be said, not met

    now = psutil.virtual_memory()
    return [
        _versions(extra),
        machine.memory(now.available, now.total),
        machine.disk(shutil.disk_usage(folder).free, folder),
        _device(device),
        machine.permissions(modes(folder, keys)),
        machine.umask(_umask()),
    ]


def _versions(extra: str) -> Finding:
    try:
        own, asked = metadata.metadata(NAME), metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:
        return Finding("versions", "warn", "SonoShare runs from a folder, and is not installed", "pip install it")
    needed = [text for text in asked if _applies(Requirement(text), extra)]
    installed = {name: _installed(name) for name in (Requirement(text).name for text in needed)}
    return machine.versions(platform.python_version(), own["Requires-Python"] or "", needed, installed)


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device(word: str) -> Finding:
    import torch  # noqa: PLC0415

    from sonoshare_shared.science.device import chosen_device, device_words  # noqa: PLC0415

    try:
        chosen = chosen_device(word)
        free = torch.cuda.mem_get_info(chosen)[0] if chosen.type == "cuda" else None
    except SonoShareError as error:
        return Finding.of("device", error)
    except RuntimeError:  # a driver that does not go with this torch, or a GPU that another process holds alone
        return Finding("device", "fail", f"{word}: the GPU does not answer", "see nvidia-smi, or --device cpu")
    return machine.device(device_words(chosen), free)


def modes(folder: Path, keys: Iterable[Path]) -> list[machine.Mode]:
    """Permissions of a folder and of the private keys that are there."""
    found = [(folder, False), *((key, True) for key in keys if key.exists())]
    return [
        machine.Mode(path, stat.S_IMODE(path.stat().st_mode), secret, os.access(path, os.R_OK | os.W_OK))
        for path, secret in found
    ]


def _umask() -> int:
    """Of this process; asking for it means setting it, so it is put back at once."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
