"""A physically inspired simulator of breast B-mode ultrasound; see ``simulator`` for what it promises."""

from sonoshare_shared.science.phantom.lesions import LesionParameters
from sonoshare_shared.science.phantom.scanners import SCANNER_STYLES, ScannerStyle
from sonoshare_shared.science.phantom.simulator import CLASSES, PhantomBatch, Recipe, simulate, simulate_recipes

__all__ = [
    "CLASSES",
    "SCANNER_STYLES",
    "LesionParameters",
    "PhantomBatch",
    "Recipe",
    "ScannerStyle",
    "simulate",
    "simulate_recipes",
]
