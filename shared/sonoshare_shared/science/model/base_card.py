"""The model card of a base file: what its header says of its making, in words, beside the file.

What was found by the copy check (``sonoshare base check``) lies beside the file as ``NAME.check.json`` and goes into
the card; without it the card says that it was not run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.science.model.base import NOT_STATED, base_origin, named_sources

CARD_SUFFIX: Final = ".card.md"
_CARD: Final = """\
# Base model `{name}`

Class-, scanner- and box-conditioned diffusion model of B-mode breast ultrasound, the starting point of a study.
sha256 of the file: `{digest}`

## Data

{data}

Whoever trained it answers for the pictures being public; nothing was charged to a privacy budget.

## Training

{training}

## Does it give its public pictures back?

{check}

## Use and limits

Base of a study's privately trained adapter. Not for diagnosis, or as pictures of patients.
It knows what the simulator and its public pictures show and nothing else: no Doppler, no two views of one breast, four
invented scanner styles; scanners of public pictures are learned as absent. A lower loss is not more diagnostic value.
"""
_TABLE: Final = "| source | licence | pictures | patients | weight | sha256 |\n|---|---|---|---|---|---|\n"
_UNCHECKED: Final = "Not checked: `sonoshare base check` was not run on this file."
_UNKNOWN: Final = "It cannot be said: not all that it was trained on is stated."
_NO_PUBLIC: Final = "It was trained on no public picture, so there is none to give back."


def card_text(base: Path) -> str:
    """The model card of a base file.

    Raises:
        ModelError: not a safetensors file.
    """
    digest, origin = sha256_file(base), base_origin(base)
    data = origin.get("data", NOT_STATED)
    check = _check(base, digest, data)
    return _CARD.format(name=base.name, digest=digest, data=_data(data), training=_training(origin), check=check)


def write_card(base: Path) -> Path:
    """Write ``NAME.card.md`` beside a base file; returns its path.

    Raises:
        ModelError: not a safetensors file.
        OSError: it cannot be written.
    """
    path = base.with_suffix(CARD_SUFFIX)
    write_atomically(path, card_text(base).encode())
    return path


def check_path(base: Path) -> Path:
    """Where the result of a copy check of a base file lies."""
    return base.with_suffix(".check.json")


def _data(said: str | Mapping[str, Any]) -> str:
    if isinstance(said, str):
        return f"{said.capitalize()}: no patient, no clinical image."
    if "sources" not in said:  # of another maker, or of an earlier day
        return json.dumps(said)
    told = f"{said['phantoms']} simulated phantoms"
    public = named_sources(said)
    told += _public(public) if public else ", no public picture."
    if "began_with" in said:
        before = said["began_with"]
        told += f"\n\nIt began with the weights of the base `{before['base']}`"
        told += ", whose data are not stated." if before["data"] == NOT_STATED else ", whose data are counted in."
    return told


def _public(sources: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"| {_cell(each['name'])} | {_cell(each['licence'])} | {each['pictures']} | {each['patients']}"
        f" | {each['weight']:g} | `{each['sha256']}` |\n"
        for each in sources
    )
    digests = "The sha256 is over pictures, masks, classes and boxes of a source, in the order of its table."
    return f", and public pictures:\n\n{_TABLE}{rows}\n{digests}"


def _cell(text: str) -> str:
    """A folder's own words, which must not break the table."""
    return text.replace("|", "/").replace("`", "'")


def _training(origin: Mapping[str, Any]) -> str:
    lines = []
    for part in ("settings", "progress"):
        said = origin.get(part, {})
        if isinstance(said, str):
            lines.append(said)
            continue
        said = dict(said)
        devices = said.pop("devices", {})
        lines += [f"- {name.replace('_', ' ')}: {_number(value)}" for name, value in said.items() if value is not None]
        lines += [f"- {steps} steps on {device}" for device, steps in devices.items()]
    return "\n".join(lines) or "Not stated."


def _number(value: Any) -> str:
    """As a reader wants it: losses and seconds in four figures."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _check(base: Path, digest: str, data: str | Mapping[str, Any]) -> str:
    if data == NOT_STATED or NOT_STATED in json.dumps(data):
        return _UNKNOWN
    if not named_sources(data):
        return _NO_PUBLIC
    path = check_path(base)
    found = json.loads(path.read_text()) if path.is_file() else None
    if found is None or found["base"] != digest:
        return _UNCHECKED
    return "\n".join(str(line) for line in found["words"])
