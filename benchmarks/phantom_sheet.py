"""Draws the pictures of docs/simulator.md.

    python -m benchmarks.phantom_sheet [--out docs/images]

Writes ``phantom-classes.png`` (classes by scanner), ``phantom-sweep.png`` (one descriptor at a time on one tissue) and
``phantom-stages.png`` (from anatomy to picture). Every picture is a function of the seeds below.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoshare_shared.science.imaging import save_png
from sonoshare_shared.science.phantom import SCANNER_STYLES, LesionParameters, simulate
from sonoshare_shared.science.phantom.acoustics import ScanDraws, draw_scan, draw_setting, received_db, scan
from sonoshare_shared.science.phantom.anatomy import Tissue, draw_frame, draw_tissue, paint_tissue
from sonoshare_shared.science.phantom.arithmetic import NumpyArithmetic, Plane
from sonoshare_shared.science.phantom.fields import Source
from sonoshare_shared.science.phantom.lesion_drawing import DrawnLesion, draw_details, paint_lesion
from sonoshare_shared.science.phantom.noise import host_noise

PLANE = Plane(NumpyArithmetic(), 128)
SIZE_MM = (38.0, 40.0)
STYLE = SCANNER_STYLES[2]
Picture = NDArray[np.float64]

PLAIN = LesionParameters(
    pathology="benign",
    shape="oval",
    margin="circumscribed",
    echo_pattern="hypoechoic",
    posterior="none",
    centre=(0.5, 0.42),
    half_width=0.20,
    half_height=0.11,
    width_to_height=1.8,
    tilt=0.05,
    level_db=-18.0,
    heterogeneity_db=0.8,
    attenuation_db=0.0,
    softness=0.06,
    capsule_db=0.0,
    halo_db=0.0,
    edge_shadow_db=0.0,
    calcifications=0,
    spicules=0,
)
"""The lesion that each row of the sweep changes in one way."""
ROUND = replace(PLAIN, half_width=0.16, half_height=0.15, width_to_height=1.0)

SWEEP: tuple[tuple[LesionParameters, ...], ...] = (
    tuple(
        replace(PLAIN, half_width=w, half_height=h) for w, h in ((0.24, 0.09), (0.20, 0.11), (0.15, 0.15), (0.11, 0.19))
    ),
    (
        ROUND,
        replace(ROUND, margin="microlobulated"),
        replace(ROUND, margin="angular", shape="irregular"),
        replace(ROUND, margin="spiculated", shape="irregular", spicules=8),
    ),
    tuple(replace(PLAIN, level_db=level) for level in (-40.0, -24.0, -16.0, -8.0)),
    tuple(replace(PLAIN, attenuation_db=loss) for loss in (-12.0, 0.0, 12.0, 26.0)),
    (
        replace(PLAIN, capsule_db=10.0),
        replace(PLAIN, halo_db=7.0),
        replace(PLAIN, softness=0.34, margin="indistinct"),
        replace(PLAIN, calcifications=8),
    ),
)


def sheet(rows: list[list[Picture]], gap: int = 2) -> Picture:
    """Tile pictures [128, 128] with white gaps."""
    padded = [[np.pad(picture, gap // 2, constant_values=1.0) for picture in row] for row in rows]
    return np.vstack([np.hstack(row) for row in padded])


def classes_sheet() -> Picture:
    """Two pictures of each class for every scanner, one scanner a row."""
    rows = []
    for scanner in range(len(SCANNER_STYLES)):
        batch = simulate(
            6,
            seed=21,
            size=128,
            classes=("benign", "malignant", "normal"),
            labels=[0, 0, 1, 1, 2, 2],
            scanners=[scanner] * 6,
            start_index=10 * scanner,
        )
        rows.append([image.astype(np.float64) for image in batch.images])
    return sheet(rows)


def _healthy() -> Tissue:
    rng = np.random.default_rng(5)
    frame = draw_frame(rng, *SIZE_MM)
    return paint_tissue(draw_tissue(Source(rng, host_noise, PLANE.n), frame), PLANE)


def _drawn(tissue: Tissue, lesion: LesionParameters) -> DrawnLesion:
    return paint_lesion(draw_details(Source(np.random.default_rng(3), host_noise, PLANE.n), lesion), tissue, PLANE)


def _exposure() -> ScanDraws:
    setting = draw_setting(np.random.default_rng(8), STYLE)
    source = Source(np.random.default_rng(4), host_noise, PLANE.n)
    return draw_scan(source, style=STYLE, setting=setting, size_mm=SIZE_MM)


def sweep_sheet() -> Picture:
    """One descriptor a row, everything else equal, the speckle included."""
    tissue = _healthy()
    return sheet([[scan(_exposure(), _drawn(tissue, lesion).tissue, PLANE) for lesion in row] for row in SWEEP])


def stages_sheet() -> Picture:
    """Echogenicity, received level, picture, and outline of one malignant lesion."""
    lesion = replace(
        ROUND, pathology="malignant", margin="spiculated", shape="irregular", attenuation_db=18.0, spicules=6
    )
    drawn = _drawn(_healthy(), lesion)

    def levels(decibels: Picture) -> Picture:
        return np.asarray(np.clip((decibels + 45.0) / 60.0, 0.0, 1.0))

    picture, received = scan(_exposure(), drawn.tissue, PLANE), received_db(drawn.tissue, PLANE)
    return sheet([[levels(drawn.tissue.echo_db), levels(received), picture, drawn.mask.astype(np.float64)]])


def main() -> None:
    """Write the three pictures."""
    parser = argparse.ArgumentParser(description="Pictures of docs/simulator.md")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    pictures = {"classes": classes_sheet(), "sweep": sweep_sheet(), "stages": stages_sheet()}
    for name, picture in pictures.items():
        save_png(out / f"phantom-{name}.png", picture)


if __name__ == "__main__":
    main()
