"""The base weights that ship with the package, and a consortium's own.

Weights are stored as float16 safetensors and used as float32. The digest names the file: plans carry it, and a
hospital trains only on the base whose digest the plan names.
"""

import json
from pathlib import Path
from typing import Any

import torch

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.errors import ModelError
from sonoshare_shared.protocol.canonical import is_digest, sha256_file, sha256_hex
from sonoshare_shared.science.model.magnitudes import require_ordinary
from sonoshare_shared.science.model.network import ConditionedUNet, require_known_modules
from sonoshare_shared.science.model.profiles import PROFILES, Profile, profile_named
from sonoshare_shared.science.model.tensors import read_metadata, read_tensors, require_same_layout

WEIGHTS = Path(__file__).parent / "weights"
NOT_STATED = "not stated"
"""What is said of a base whose header does not say what it was trained on."""
IMPORTED = "bases"
"""Folder of imported bases in the home of a hospital or of the coordinator."""


def base_path(profile: str | Profile) -> Path:
    """Where the shipped weights of a profile lie, whether or not they exist."""
    name = profile if isinstance(profile, str) else profile.name
    return WEIGHTS / f"base-{profile_named(name).name}.safetensors"


def load_base(profile: str | Profile, path: Path | None = None) -> tuple[ConditionedUNet, str]:
    """Build a model with base weights.

    Args:
        profile: profile or its name.
        path: a consortium's own base file of that profile; None takes the shipped one.

    Returns:
        The model (float32, CPU, evaluation mode) and the sha256 of the file.

    Raises:
        ModelError: unknown profile, no shipped weights for it, a file that does not fit it, or weights out of bounds.
    """
    chosen = profile_named(profile) if isinstance(profile, str) else profile
    file = base_path(chosen) if path is None else path
    if not file.is_file():
        raise ModelError(
            f"no base weights for profile {chosen.name}",
            remedy="train them with `sonoshare base train`, or name a base file of your own",
        )
    stored = read_metadata(file).get("architecture")
    if stored not in (None, chosen.digest):
        raise ModelError("the base file has another architecture", remedy=_fitting(stored, chosen))
    state = {name: tensor.to(torch.float32) for name, tensor in read_tensors(file).items()}
    model = ConditionedUNet(chosen)
    require_known_modules(model)
    require_same_layout(state, dict(model.state_dict()))
    require_ordinary(state)
    model.load_state_dict(state)
    return model.eval(), sha256_file(file)


def _fitting(architecture: str, chosen: Profile) -> str:
    """What to do with a file of that architecture digest where another profile was asked for."""
    named = [profile.name for profile in PROFILES.values() if profile.digest == architecture]
    return f"it is of profile {named[0]}: give that profile" if named else f"use one made for profile {chosen.name}"


def import_base(source: Path, profile: str | Profile, folder: Path) -> str:
    """Check a consortium's own base file and keep it under its digest.

    Args:
        source: safetensors with the names and shapes of the profile's network, any float type, finite.
        profile: profile or its name.
        folder: of imported bases, made if absent.

    Returns:
        The sha256 of the file, which a plan pins.

    Raises:
        ModelError: as `load_base`; nothing is kept.
    """
    _, digest = load_base(profile, source)
    folder.mkdir(parents=True, exist_ok=True)
    kept = _imported(folder, digest)
    data = source.read_bytes()
    if sha256_hex(data) != digest:
        raise ModelError(f"{source.name} changed while it was read", remedy="import it again when it is whole")
    write_atomically(kept, data)
    return digest


def load_pinned_base(profile: str | Profile, digest: str, folder: Path | None) -> ConditionedUNet:
    """Load the base that a plan pins: the shipped one, or an imported one.

    Args:
        profile: profile or its name.
        digest: sha256 that the plan names.
        folder: of imported bases, or None.

    Raises:
        ModelError: neither is there, or the file is no longer what its name says.
    """
    file = base_path(profile)
    imported = None if folder is None else _imported(folder, digest)
    if imported is not None and imported.is_file():
        file = imported
    model, found = load_base(profile, file)
    if found != digest:
        raise ModelError(
            "the base weights of the plan are not on this machine",
            remedy="install the version of the plan, or run: sonoshare base import FILE --home DIR",
        )
    return model


def imported_base(folder: Path, digest: str) -> Path:
    """Path of an imported base, named by its whole digest.

    Raises:
        ModelError: it was not imported.
    """
    path = _imported(folder, digest)
    if not path.is_file():
        raise ModelError("no base of that digest was imported", remedy="run: sonoshare base import FILE --home DIR")
    return path


def _imported(folder: Path, digest: str) -> Path:
    if not is_digest(digest):
        raise ModelError("a digest is 64 hexadecimal characters", remedy="take it from: sonoshare base info")
    return folder / f"{digest}.safetensors"


def base_origin(path: Path) -> dict[str, Any]:
    """What the header of a base file says about its making; empty where it says nothing.

    This is the maker's own word, not checked against anything.

    Raises:
        ModelError: not a safetensors file.
    """
    stored = read_metadata(path)
    origin: dict[str, Any] = {}
    for name in ("data", "settings", "progress"):
        if name in stored:
            origin[name] = _parsed(stored[name])
    return origin


def named_sources(data: Any) -> list[dict[str, Any]]:
    """Sources of public pictures that a base's ``data`` names, those of the bases that it began with included.

    Args:
        data: what `base_origin` says under that name, or None.
    """
    if not isinstance(data, dict):
        return []
    earlier = data.get("began_with", {}).get("data")
    found = [*data.get("sources", ()), *named_sources(earlier)]
    return list({source["sha256"]: source for source in reversed(found)}.values())[::-1]


def _parsed(text: str) -> Any:
    """A header's JSON object, or the text itself where it is none."""
    try:
        return json.loads(text) if text.startswith("{") else text
    except json.JSONDecodeError:
        return text
