"""How one DICOM file of a test differs from a sound one, and how it is taken in alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.client.crafted import REGION, speckle, write_labels

from sonoshare_client.intake.ingest import ingest
from sonoshare_client.node.home import NodeHome


def take(folder: Path, home: NodeHome, **row: Any) -> str | None:
    """Take in one file, ``x.dcm``, and return the reason why not, or None."""
    name = row.pop("image", "x.dcm")
    write_labels(folder, [{"image": name, "patient": str(folder), **row}])
    report = ingest(home, folder)
    assert report.accepted + report.duplicates + len(report.quarantined) == 1
    return report.quarantined[0].reason if report.quarantined else None


def inside(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What intake keeps of a whole screen: its region."""
    x0, y0, x1, y1 = REGION
    return picture[y0 : y1 + 1, x0 : x1 + 1]


def set_all(**values: Any) -> Callable[..., Any]:
    """Sets attributes of a data set; None takes one away."""

    def change(dataset: Any) -> None:
        for name, value in values.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)

    return change


def colour(dataset: Any) -> None:
    """The grey picture of seed 9, in three channels."""
    grey = speckle(9)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.PixelData = np.repeat(grey[:, :, None], 3, axis=2).tobytes()
