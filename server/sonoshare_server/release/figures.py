"""Figures of ``sonoshare evaluate tstr --json`` as the measurements of a release.

Promises: nothing is computed and nothing left out quietly: classifiers, sensitivities, distances (whole pictures and
lesion crops) and subgroups that the file holds become measurements; a null stays away. Who measured, on whose images,
is the caller's note. Figures on patients of a hospital would be charges of their own and are not made here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sonoshare_server.release.facts import Measurement
from sonoshare_shared.errors import InputError

_ARMS: Final = {
    "synthetic": "trained on this release",
    "both": "trained on this release and real images",
    "pretrained": "trained on this release, then on real images",
    "few": "trained on {few} real patients",
    "few_both": "trained on this release and {few} real patients",
}
_DISTANCES: Final = {
    "frechet": "Fréchet distance",
    "kernel_distance": "kernel distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}
_REAL: Final = {
    "real": "trained on real images",
    "real_longer": "trained on real images for as many steps",
    "real_as_long": "trained on real images for as many steps",
    "few": "trained on {few} real patients",
    "few_as_long": "trained on {few} real patients for as many steps",
}
_AGAINST: Final = {"pretrained": "real_longer"}
"""Where a file does not say what an arm is compared with: one of before it said so for all of them."""


def read_measurements(path: Path) -> tuple[Measurement, ...]:
    """Measurements of a file that holds the JSON of ``sonoshare evaluate tstr``.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        return tuple(_measurements(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path.name} holds no figures",
            remedy="give the output of: sonoshare evaluate tstr --synthetic DIR --real CSV --json",
        ) from error


def _measurements(said: Mapping[str, Any]) -> Iterator[Measurement]:
    against = _AGAINST | {arm: found["against"] for arm, found in said["minus_real"].items()}
    words = _Words(against, said.get("few_patients"))
    tested = f"{int(said['test_patients'])} test patients"
    arms = {arm: said[arm] for arm in ("synthetic", "real", "both", "pretrained")} | {
        arm: said.get(arm) for arm in (*_ARMS, *_REAL)
    }
    yield from _classifiers("AUC", "auc", arms, tested, words)
    at = f"sensitivity at specificity {said['specificity']:g}"
    yield from _classifiers(at, "sensitivity", said["sensitivity"], tested, words)
    for name, part in said.get("external", {}).items():
        size = f"{part['images']} images of {part['patients']} patients"
        yield from _classifiers(f"external set {name}: AUC", "auc", part, size, words)
    note = f"in {said['features']} features"
    yield from _distances(
        {"whole": {name: said[name] for name in _DISTANCES}, "lesion_crop": said["lesion_crop"]}, note
    )
    for kind, parts in said["subgroups"].items():
        for name, part in parts.items():
            where = f"{kind} {name}: "
            size = f"{part['images']} images of {part['patients']} patients"
            if kind == "scanner":
                yield from _classifiers(f"{where}AUC", "auc", part, size, words)
            if kind == "class":
                yield from _called(part, where, size, words)
            yield from _distances(part["distances"], f"{note}, {size}", where)


@dataclass(frozen=True)
class _Words:
    """What arms are called, and what each is compared with."""

    against: Mapping[str, str]
    few: int | None

    def of(self, words: str) -> str:
        return words.format(few=self.few)


def _classifiers(figure: str, field: str, by_arm: Mapping[str, Any], note: str, words: _Words) -> Iterator[Measurement]:
    for arm, name in _ARMS.items():
        against = words.against.get(arm, "real")
        real = by_arm.get(against)
        if (found := by_arm.get(arm)) is not None:
            low, high = found["interval"]
            yield Measurement(
                name=f"{figure}, {words.of(name)}",
                value=float(found[field]),
                interval=(float(low), float(high)),
                reference=None if real is None else float(real[field]),
                reference_name="" if real is None else words.of(_REAL[against]),
                note=note,
            )


def _called(part: Mapping[str, Any], where: str, size: str, words: _Words) -> Iterator[Measurement]:
    """Shares of a class that are called rightly, of the arms that were measured; none of them has an interval."""
    for arm, name in _ARMS.items():
        against = words.against.get(arm, "real")
        if (found := part.get(arm)) is not None:
            real = part.get(against)
            yield Measurement(
                name=f"{where}called rightly, {words.of(name)}",
                value=float(found["right"]),
                reference=None if real is None else float(real["right"]),
                reference_name="" if real is None else words.of(_REAL[against]),
                note=size,
            )


def _distances(found: Mapping[str, Any], note: str, where: str = "") -> Iterator[Measurement]:
    for part, words in (("whole", "whole image"), ("lesion_crop", "lesion crop")):
        for name, value in (found[part] or {}).items():
            yield Measurement(name=f"{where}{_DISTANCES[name]}, {words}", value=float(value), note=note)
