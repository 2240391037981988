"""Parts of ``benchmarks.audit`` that measure cost and scale: twins, search, memory, whole audits."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from sonoshare_privacy.audits.twins import find_twins
from sonoshare_shared.imaging import load_png, to_grid
from sonoshare_shared.labels import read_labels


def measure_twins(folder: Path) -> dict[str, Any]:
    """Pairs of patients of BUS-BRA that intake reports, and what finding them costs."""
    if not (folder / "bus_data.csv").is_file():
        return {"twins": None}
    rows = list(read_labels(folder))
    images = np.stack([to_grid(load_png(row.image), 64) for row in rows])
    _, owners = np.unique([row.patient for row in rows], return_inverse=True)
    start = time.process_time()
    found = find_twins(images, owners, np.ones(len(images), np.bool_))
    seconds = time.process_time() - start
    pairs = [{"images": [rows[i].image.name for i in (p.first, p.second)], "score": round(p.score, 3)} for p in found]
    return {"twins": {"images": len(images), "cpu_seconds": round(seconds, 2), "pairs": pairs}}
