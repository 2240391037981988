"""What a simulated lesion is: BI-RADS-like descriptors, and literature-like priors of them given the class.

The tables say how often a descriptor occurs in each class. They are rounded by hand to lie within what reader studies
of breast ultrasound report (Stavros et al., Radiology 1995; Hong et al., AJR 2005; Costantini et al., J Ultrasound Med
2006; BI-RADS 5th edition for the words), chosen so that neither class is separable by one descriptor. They were *not*
fitted to any data set, private or public, and carry no claim of epidemiological accuracy.

``in-situ`` (cancer that has not grown out of its duct) is an assumption, not a table of the literature: between the
other two, smaller, nearly without spicules, more often calcified and less often shadowing.

Lengths are in millimetres until :func:`draw_lesion` places the lesion in a frame; :class:`LesionParameters` is in
fractions of the picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from sonoshare_shared.science.phantom.anatomy import Frame

Pathology = Literal["benign", "malignant", "in-situ"]
Shape = Literal["oval", "round", "irregular"]
Margin = Literal["circumscribed", "microlobulated", "angular", "indistinct", "spiculated"]
EchoPattern = Literal["anechoic", "hypoechoic", "isoechoic", "complex"]
Posterior = Literal["none", "enhancement", "shadowing"]
Orientation = Literal["parallel", "not parallel"]

SHAPE: Mapping[Pathology, Mapping[str, float]] = {
    "benign": {"oval": 0.78, "round": 0.08, "irregular": 0.14},
    "malignant": {"oval": 0.15, "round": 0.07, "irregular": 0.78},
    "in-situ": {"oval": 0.38, "round": 0.08, "irregular": 0.54},
}
MARGIN: Mapping[Pathology, Mapping[str, float]] = {
    "benign": {
        "circumscribed": 0.72,
        "microlobulated": 0.12,
        "angular": 0.03,
        "indistinct": 0.12,
        "spiculated": 0.01,
    },
    "malignant": {
        "circumscribed": 0.10,
        "microlobulated": 0.20,
        "angular": 0.18,
        "indistinct": 0.28,
        "spiculated": 0.24,
    },
    "in-situ": {
        "circumscribed": 0.24,
        "microlobulated": 0.32,
        "angular": 0.10,
        "indistinct": 0.32,
        "spiculated": 0.02,
    },
}
ECHO_PATTERN: Mapping[Pathology, Mapping[str, float]] = {
    "benign": {"anechoic": 0.20, "hypoechoic": 0.62, "isoechoic": 0.12, "complex": 0.06},
    "malignant": {"anechoic": 0.01, "hypoechoic": 0.84, "isoechoic": 0.04, "complex": 0.11},
    "in-situ": {"anechoic": 0.01, "hypoechoic": 0.78, "isoechoic": 0.10, "complex": 0.11},
}
POSTERIOR: Mapping[Pathology, Mapping[str, float]] = {
    "benign": {"none": 0.52, "enhancement": 0.42, "shadowing": 0.06},
    "malignant": {"none": 0.36, "enhancement": 0.14, "shadowing": 0.50},
    "in-situ": {"none": 0.72, "enhancement": 0.12, "shadowing": 0.16},
}
WIDTH_MM: Mapping[Pathology, tuple[float, float]] = {
    "benign": (13.5, 0.38),
    "malignant": (15.0, 0.38),
    "in-situ": (10.5, 0.36),
}
"""Median width and standard deviation of its logarithm."""
WIDTH_TO_HEIGHT: Mapping[Pathology, tuple[float, float]] = {
    "benign": (1.85, 0.25),
    "malignant": (1.28, 0.28),
    "in-situ": (1.60, 0.28),
}
"""Median ratio of width to height and standard deviation of its logarithm (taller than wide: ratio below 1)."""
HALO: Mapping[Pathology, float] = {"benign": 0.05, "malignant": 0.45, "in-situ": 0.12}
CALCIFICATIONS: Mapping[Pathology, float] = {"benign": 0.07, "malignant": 0.38, "in-situ": 0.50}

MIN_HALF_HEIGHT = 0.04
"""Smallest half-height as a fraction of the picture: five pixels high at 64 px."""
MAX_HALF_WIDTH = 0.36
MAX_HALF_HEIGHT = 0.30


@dataclass(frozen=True)
class LesionParameters:
    """One simulated lesion; lengths are fractions of the picture, levels are decibels.

    Attributes:
        pathology: the class it was drawn for.
        shape: BI-RADS shape.
        margin: BI-RADS margin.
        echo_pattern: BI-RADS echo pattern.
        posterior: BI-RADS posterior features.
        centre: lateral position and depth of the centre.
        half_width: lateral half-axis.
        half_height: half-axis along depth.
        width_to_height: width over height in millimetres.
        tilt: rotation of the long axis in radians.
        level_db: mean echogenicity inside, relative to glandular tissue.
        heterogeneity_db: standard deviation of the echogenicity inside.
        attenuation_db: two-way excess loss through the thickest part (negative: enhancement).
        softness: width of the transition at the margin, fraction of the radius.
        capsule_db: strength of a thin echogenic capsule (0: none).
        halo_db: strength of a thick echogenic rind (0: none).
        edge_shadow_db: loss by refraction at the lateral edges (0: none).
        calcifications: number of bright punctate reflectors.
        spicules: number of lines radiating from the margin.
    """

    pathology: Pathology
    shape: Shape
    margin: Margin
    echo_pattern: EchoPattern
    posterior: Posterior
    centre: tuple[float, float]
    half_width: float
    half_height: float
    width_to_height: float
    tilt: float
    level_db: float
    heterogeneity_db: float
    attenuation_db: float
    softness: float
    capsule_db: float
    halo_db: float
    edge_shadow_db: float
    calcifications: int
    spicules: int

    @property
    def orientation(self) -> Orientation:
        """BI-RADS orientation: parallel to the skin when wider than tall."""
        return "parallel" if self.width_to_height >= 1.0 else "not parallel"


def _choose(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    names = list(weights)
    probability = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=probability / probability.sum()))]


def _log_normal(rng: np.random.Generator, prior: tuple[float, float]) -> float:
    median, spread = prior
    return float(np.exp(rng.normal(np.log(median), spread)))


def _level_db(rng: np.random.Generator, pathology: Pathology, pattern: EchoPattern) -> float:
    if pattern == "anechoic":
        return float(rng.uniform(-44.0, -30.0))
    if pattern == "isoechoic":
        return float(rng.uniform(-12.0, -6.0))
    low, high = (-24.0, -13.0) if pathology == "benign" else (-27.0, -15.0)
    return float(rng.uniform(low, high))


def _attenuation_db(rng: np.random.Generator, posterior: Posterior) -> float:
    if posterior == "enhancement":
        return -float(rng.uniform(5.0, 13.0))
    if posterior == "shadowing":
        return float(rng.uniform(8.0, 26.0))
    return float(rng.uniform(-2.0, 3.0))


def _softness(rng: np.random.Generator, margin: Margin) -> float:
    if margin == "indistinct":
        return float(rng.uniform(0.16, 0.34))
    if margin == "circumscribed":
        return float(rng.uniform(0.03, 0.10))
    return float(rng.uniform(0.06, 0.18))


def draw_lesion(rng: np.random.Generator, pathology: Pathology, frame: Frame) -> LesionParameters:
    """Draw one lesion from the literature-like priors.

    Args:
        rng: source of randomness.
        pathology: ``benign``, ``malignant`` or ``in-situ``.
        frame: the picture's size and where its tissue layers lie; lesions grow at the fat-gland border or below.

    Returns:
        The lesion, placed wholly or almost wholly inside the picture.
    """
    shape = cast("Shape", _choose(rng, SHAPE[pathology]))
    margin = cast("Margin", _choose(rng, MARGIN[pathology]))
    pattern = cast("EchoPattern", _choose(rng, ECHO_PATTERN[pathology]))
    posterior = cast("Posterior", _choose(rng, POSTERIOR[pathology]))
    if pattern == "anechoic" and rng.random() < 0.8:  # fluid hardly attenuates
        posterior = "enhancement"
    width_mm = _log_normal(rng, WIDTH_MM[pathology])
    ratio = _log_normal(rng, WIDTH_TO_HEIGHT[pathology])
    if shape == "round":
        ratio = float(np.clip(ratio, 0.9, 1.12))
    half_width = float(np.clip(width_mm / 2.0 / frame.width_mm, 0.05, MAX_HALF_WIDTH))
    tall = half_width * frame.width_mm / ratio / frame.depth_mm
    half_height = float(np.clip(tall, MIN_HALF_HEIGHT, MAX_HALF_HEIGHT))
    margin_x = min(0.45, half_width * 0.8 + 0.03)
    x = float(np.clip(rng.normal(0.5, 0.11), margin_x, 1.0 - margin_x))
    wanted = frame.gland_top + 0.6 * half_height + abs(rng.normal(0.02, 0.08))
    y = float(np.clip(wanted, half_height + 0.06, max(0.70, half_height + 0.06)))
    smooth = margin == "circumscribed"
    spiculated = margin == "spiculated"
    calcified = rng.random() < CALCIFICATIONS[pathology]
    return LesionParameters(
        pathology=pathology,
        shape=shape,
        margin=margin,
        echo_pattern=pattern,
        posterior=posterior,
        centre=(x, y),
        half_width=half_width,
        half_height=half_height,
        width_to_height=half_width * frame.width_mm / (half_height * frame.depth_mm),
        tilt=float(rng.normal(0.0, 0.10 if pathology == "benign" else 0.22)),
        level_db=_level_db(rng, pathology, pattern),
        heterogeneity_db=float(rng.uniform(0.3, 1.8) if pathology == "benign" else rng.uniform(1.0, 4.0)),
        attenuation_db=_attenuation_db(rng, posterior),
        softness=_softness(rng, margin),
        capsule_db=float(rng.uniform(4.0, 11.0)) if smooth and rng.random() < 0.7 else 0.0,
        halo_db=float(rng.uniform(3.0, 8.0)) if rng.random() < HALO[pathology] else 0.0,
        edge_shadow_db=float(rng.uniform(3.0, 10.0)) if smooth and rng.random() < 0.4 else 0.0,
        calcifications=int(rng.integers(2, 9)) if calcified else 0,
        spicules=int(rng.integers(4, 11)) if spiculated else 0,
    )
