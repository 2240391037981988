"""For the hospital's own eyes: what the vault keeps of every image, as pictures and a table.

A person looks through it before the hospital joins anything: nothing but the ultrasound picture may be seen, and
nothing but these attributes is kept. The folder is patient data, in the clear: look, then delete it.
"""

import json
import shutil
import tempfile
from pathlib import Path

from sonoshare_client.vault import Vault
from sonoshare_shared.errors import InputError
from sonoshare_shared.imaging import save_png

ATTRIBUTES_FILE = "attributes.json"


def write_review(vault: Vault, out: Path) -> int:
    """Write each image of the vault as PNG, its mask beside it, and ``attributes.json``.

    Args:
        vault: the hospital's images.
        out: a folder that does not exist or is empty; it appears complete or not at all, readable by its owner only.

    Returns:
        Number of images.

    Raises:
        InputError: the folder is in use, or the disk is full.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out.name} is in use", remedy="choose a folder that does not exist or is empty")
    out = out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))  # mode 0700
    except OSError as error:
        raise InputError(f"cannot write beside {out.name}: {error.strerror}", remedy="choose another") from error
    try:
        attributes = _write_images(vault, staging)
        (staging / ATTRIBUTES_FILE).write_text(json.dumps(attributes, indent=1) + "\n", encoding="utf-8")
        staging.rename(out)
    except OSError as error:
        raise InputError(f"cannot write {out.name}: {error.strerror}", remedy="free some disk space") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return len(attributes)


def _write_images(vault: Vault, folder: Path) -> list[dict[str, object]]:
    attributes: list[dict[str, object]] = []
    for patient in vault.patients():
        for ref in patient.images:
            image = vault.load(ref)
            name = f"{len(attributes) + 1:06d}"
            save_png(folder / f"{name}.png", image.pixels)
            if image.mask is not None:
                save_png(folder / f"{name}-mask.png", image.mask != 0)
            attributes.append(
                {
                    "image": f"{name}.png",
                    "mask": f"{name}-mask.png" if image.mask is not None else None,
                    "patient": patient.pseudonym,
                    "held_out": patient.held_out,
                    "label": image.label,
                    "device": image.device,
                    "box": list(image.box) if image.box is not None else None,
                    "width": image.pixels.shape[1],
                    "height": image.pixels.shape[0],
                }
            )
    return attributes
