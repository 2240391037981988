"""The model card of a base file: what its header says of its making, in words, beside the file."""

from pathlib import Path
from typing import Any, Final

from sonoshare_shared.durable import write_atomically
from sonoshare_shared.protocol.canonical import sha256_file
from sonoshare_shared.science.model.base import base_origin

_CARD: Final = """\
# Base model `{name}`

Class-, scanner- and box-conditioned diffusion model of B-mode breast ultrasound, the starting point of a study.
sha256 of the file: `{digest}`

**Data.** {data}
Whoever trained it answers for the pictures being public; nothing was charged to a privacy budget.

**Training.** {training}

**Intended use.** Base of a study's privately trained adapter. Not for diagnosis, or as pictures of patients.
"""


def write_card(base: Path) -> Path:
    """Write ``NAME.card.md`` beside a base file; returns its path.

    Raises:
        ModelError: not a safetensors file.
        OSError: it cannot be written.
    """
    path = base.with_suffix(".card.md")
    origin = base_origin(base)
    training = ", ".join(f"{name} {value}" for part in ("settings", "progress") for name, value in origin[part].items())
    text = _CARD.format(name=base.name, digest=sha256_file(base), data=_data(origin["data"]), training=training)
    write_atomically(path, text.encode())
    return path


def _data(said: str | dict[str, Any]) -> str:
    if isinstance(said, str):
        return f"{said.capitalize()}: no patient, no clinical image."
    return (
        f"{said['phantoms']} simulated phantoms and {said['public_images']} public pictures of"
        f" {said['public_patients']} patients, sha256 of pictures, masks, classes and boxes `{said['public_sha256']}`."
    )
