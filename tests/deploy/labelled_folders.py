"""Folders of phantoms with labels.csv, as a researcher or a hospital brings them."""

import csv
from pathlib import Path

from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.labels import LABELS_FILE
from sonoshare_shared.science.phantom import simulate

SIDE = 32
CLASSES = ("benign", "malignant")


def pictures(folder: Path, n: int = 6, *, seed: int = 5, **first: str) -> Path:
    """A folder of phantoms with labels.csv whose first row is changed."""
    folder.mkdir(parents=True)
    batch = simulate(n, seed=seed, size=SIDE)
    rows = []
    for i, image in enumerate(batch.images):
        save_png(folder / f"{i}.png", image)
        rows.append({"image": f"{i}.png", "patient": f"{folder.name}-{i}", "label": CLASSES[i % 2], "box": "4,4,9,8"})
    rows[0] |= first
    with (folder / LABELS_FILE).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder
