"""Four fictional scanners: what differs between machines rather than between patients.

A style says how wide and deep its picture is, how sharp its point spread function is and where it is focused, how
many looks it averages (spatial compounding), how it maps echoes to grey levels, and what it writes over the picture.
The names are invented; no style imitates or was fitted to a product. The figures are ordinary for linear arrays of
10-14 MHz (axial resolution 0.15-0.4 mm, lateral 0.3-1 mm, displayed dynamic range 45-75 dB).

Ranges are inclusive pairs ``(low, high)``; one value is drawn for each picture.
"""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Overlay:
    """Probabilities that a scanner writes something over its picture."""

    logo: float
    annotation: float
    measurement: float
    calipers: float
    depth_ruler: float
    grey_bar: float


@dataclass(frozen=True)
class ScannerStyle:
    """Acoustics, display and overlays of one fictional scanner.

    Attributes:
        name: the fictional model name, used as the device of simulated studies.
        width_mm: lateral width of the picture.
        depth_mm: depth of the picture.
        axial_mm: standard deviation of the pulse along depth.
        lateral_mm: standard deviation of the beam at its focus.
        focus: depth of the focus, fraction of the picture.
        divergence: relative growth of the beam per picture depth away from the focus.
        looks: number of independent looks averaged (spatial compounding).
        dynamic_range_db: displayed dynamic range.
        gain_db: level of the brightest displayed echo above mean glandular tissue; smaller is brighter.
        gamma: exponent of the grey map.
        black: grey level of no echo, 0..1.
        white: grey level of the strongest echo, 0..1.
        gain_curve_db: depth-gain error, standard deviation over depth.
        overlay: what is written over the picture.
    """

    name: str
    width_mm: Range
    depth_mm: Range
    axial_mm: Range
    lateral_mm: Range
    focus: Range
    divergence: float
    looks: int
    dynamic_range_db: Range
    gain_db: Range
    gamma: Range
    black: Range
    white: Range
    gain_curve_db: Range
    overlay: Overlay


SCANNER_STYLES: tuple[ScannerStyle, ...] = (
    ScannerStyle(
        name="Kestrel K7",
        width_mm=(34.0, 40.0),
        depth_mm=(36.0, 48.0),
        axial_mm=(0.14, 0.22),
        lateral_mm=(0.26, 0.46),
        focus=(0.25, 0.50),
        divergence=0.9,
        looks=2,
        dynamic_range_db=(48.0, 62.0),
        gain_db=(8.0, 16.0),
        gamma=(1.2, 2.0),
        black=(0.02, 0.10),
        white=(0.85, 1.0),
        gain_curve_db=(0.5, 3.0),
        overlay=Overlay(logo=0.5, annotation=0.6, measurement=0.25, calipers=0.3, depth_ruler=0.0, grey_bar=0.0),
    ),
    ScannerStyle(
        name="Tidal T5",
        width_mm=(36.0, 42.0),
        depth_mm=(34.0, 46.0),
        axial_mm=(0.15, 0.25),
        lateral_mm=(0.28, 0.52),
        focus=(0.30, 0.55),
        divergence=1.3,
        looks=2,
        dynamic_range_db=(54.0, 72.0),
        gain_db=(12.0, 22.0),
        gamma=(1.4, 2.3),
        black=(0.04, 0.14),
        white=(0.75, 1.0),
        gain_curve_db=(0.5, 3.5),
        overlay=Overlay(logo=0.05, annotation=0.5, measurement=0.1, calipers=0.35, depth_ruler=0.15, grey_bar=0.3),
    ),
    ScannerStyle(
        name="Meridian M3",
        width_mm=(36.0, 40.0),
        depth_mm=(30.0, 42.0),
        axial_mm=(0.12, 0.18),
        lateral_mm=(0.20, 0.34),
        focus=(0.30, 0.50),
        divergence=0.6,
        looks=4,
        dynamic_range_db=(56.0, 70.0),
        gain_db=(12.0, 19.0),
        gamma=(1.3, 1.9),
        black=(0.0, 0.05),
        white=(0.80, 1.0),
        gain_curve_db=(0.3, 2.0),
        overlay=Overlay(logo=0.0, annotation=0.3, measurement=0.05, calipers=0.35, depth_ruler=0.5, grey_bar=0.2),
    ),
    ScannerStyle(
        name="Petrel P1",
        width_mm=(40.0, 52.0),
        depth_mm=(34.0, 44.0),
        axial_mm=(0.15, 0.24),
        lateral_mm=(0.30, 0.55),
        focus=(0.35, 0.60),
        divergence=1.0,
        looks=4,
        dynamic_range_db=(58.0, 76.0),
        gain_db=(11.0, 19.0),
        gamma=(1.3, 2.0),
        black=(0.0, 0.06),
        white=(0.75, 0.98),
        gain_curve_db=(0.4, 2.5),
        overlay=Overlay(logo=0.1, annotation=0.15, measurement=0.1, calipers=0.1, depth_ruler=0.35, grey_bar=0.05),
    ),
)
"""The four styles; a scanner's index is its position."""
