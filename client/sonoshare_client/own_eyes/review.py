"""For the hospital's own eyes: what the vault keeps of every image, as pictures, contact sheets and a table.

A person looks through it before the hospital joins anything: nothing but the ultrasound picture may be seen, and
nothing but these attributes is kept. The folder is patient data, in the clear: look, then delete it.
"""

import json
from pathlib import Path

from sonoshare_client.node.private_folder import private_folder
from sonoshare_client.own_eyes.sheets import ContactSheets
from sonoshare_client.vault.store import Vault
from sonoshare_shared.durable import put
from sonoshare_shared.science.imaging import save_png

ATTRIBUTES_FILE = "attributes.json"


def write_review(vault: Vault, out: Path) -> int:
    """Write each image of the vault as PNG, its mask beside it, contact sheets, and ``attributes.json``.

    Args:
        vault: the hospital's images.
        out: a folder that does not exist or is empty; it appears complete or not at all, readable by its owner only.

    Returns:
        Number of images.

    Raises:
        InputError: the folder is in use, or the disk is full.
    """
    with private_folder(out) as folder:
        attributes = _write_images(vault, folder)
        put(folder, ATTRIBUTES_FILE, json.dumps(attributes, indent=1).encode() + b"\n")
    return len(attributes)


def _write_images(vault: Vault, folder: Path) -> list[dict[str, object]]:
    attributes: list[dict[str, object]] = []
    sheets = ContactSheets(folder)
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
                    "sheet": sheets.add(name, image),
                    "patient": patient.pseudonym,
                    "held_out": patient.held_out,
                    "label": image.label,
                    "device": image.device,
                    "box": list(image.box) if image.box is not None else None,
                    "blanked": [list(place) for place in image.blanked],
                    "width": image.pixels.shape[1],
                    "height": image.pixels.shape[0],
                }
            )
    sheets.finish()
    return attributes
