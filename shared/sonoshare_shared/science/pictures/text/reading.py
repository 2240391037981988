"""Reads text in a picture, with the models in the wheel of ``rapidocr`` (PP-OCRv6 small) and onnxruntime.

Only the wheel's model files are used. Its own code fetches what is missing from the network and imports an HTTP
client; what reads a hospital's files must do neither.

Promise: the same pixels give the same lines. One thread, no state between pictures. Nothing is loaded before the first
reader is made.

Not promised: that everything is read. The recogniser knows Latin, Greek, Chinese and Japanese letters; the detector
finds lines of other scripts, which are then read wrongly or not at all, and say so by their confidence.
"""

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoshare_shared.science.pictures.reasons import Reason, Refused
from sonoshare_shared.science.pictures.text.lines import STRIP_HEIGHT, Line, lines_of, strips_of

_PACKAGE: Final = "rapidocr"
_DETECTOR: Final = "models/PP-OCRv6_det_small.onnx"
_RECOGNISER: Final = "models/PP-OCRv6_rec_small.onnx"
_TILE: Final = 32
"""The detector takes sides that are multiples of this."""
_ENLARGED: Final = 2.0
_WANTED_SIDE: Final = 960
"""Pictures below this longest side are enlarged, at most twice: letters of eight pixels become readable."""
_LONGEST_SIDE: Final = 1920
"""Larger pictures are reduced to this: text of a screen of 4000 pixels is as large as its screen."""
_NARROWEST_STRIP: Final = 320
_MOST_LINES: Final = 80
"""A picture with more lines is a page."""
_WORD: Final = 0.6
"""Confidence from which something that large is a word."""
_LARGEST_UNREAD: Final = 0.2
"""Part of a picture's shorter side: what is higher, and no word, is tissue that looks like a letter."""
_CONTEXT: Final = _TILE
"""Pixels around the picture, so that text at its border is seen as well as elsewhere."""


@dataclass(frozen=True)
class ReadLine:
    """A line of text that was found.

    Attributes:
        line: where, in pixels of the picture.
        text: as read; empty where nothing was.
        confidence: mean of the characters' probabilities, 0 where nothing was read.
    """

    line: Line
    text: str
    confidence: float

    @property
    def across(self) -> float:
        """The shorter side of the line, pixels."""
        return min(self.line.length, self.line.height)

    @property
    def shape(self) -> float:
        """Its longer side over its shorter one, whichever way it runs."""
        return max(self.line.length, self.line.height) / max(self.across, 1.0)


class TextReader(Protocol):
    """Finds and reads lines of text in a grey picture uint8 [H, W]."""

    def __call__(self, grey: NDArray[np.uint8], /) -> list[ReadLine]:
        """Lines from top to bottom.

        Raises:
            Refused: there is more text than a picture has.
        """


def text_reader() -> TextReader | None:
    """A reader, or None where the packages are not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    if not places or importlib.util.find_spec("onnxruntime") is None:
        return None
    detector, recogniser = (Path(places[0]) / name for name in (_DETECTOR, _RECOGNISER))
    return _Reader(detector, recogniser) if detector.is_file() and recogniser.is_file() else None


class _Reader:
    """Two networks in this process."""

    def __init__(self, detector: Path, recogniser: Path) -> None:
        self._detect, _ = _network(detector)
        self._recognise, described = _network(recogniser)
        # Class 0 of a connectionist temporal classification is the blank; the last one is the space.
        self._characters = ("", *described["character"].splitlines(), " ")

    def __call__(self, grey: NDArray[np.uint8], /) -> list[ReadLine]:
        scale = _scale(grey.shape)
        height, width = grey.shape
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        shown = Image.fromarray(np.pad(np.asarray(Image.fromarray(grey).resize(size)), _CONTEXT, mode="edge"))
        found = self._lines(np.asarray(shown))
        if len(found) > _MOST_LINES:
            raise Refused(Reason.TEXT_PAGE)
        read = (self._read(shown, line, scale) for line in found)
        highest = _LARGEST_UNREAD * min(height, width)
        return [line for line in read if line.confidence >= _WORD or line.across <= highest]

    def _lines(self, grey: NDArray[np.uint8]) -> list[Line]:
        height, width = (-(-side // _TILE) * _TILE for side in grey.shape)
        padded = np.pad(grey, ((0, height - grey.shape[0]), (0, width - grey.shape[1])), mode="edge")
        (probability,) = self._detect(_normal(padded))
        return lines_of(probability[0, 0, : grey.shape[0], : grey.shape[1]])

    def _read(self, shown: Image.Image, line: Line, scale: float) -> ReadLine:
        best = max((self._words(strip) for strip in strips_of(shown, line)), key=lambda read: read[1])
        moved = Line(line.x - _CONTEXT, line.y - _CONTEXT, line.length, line.height, line.angle)
        return ReadLine(moved.scaled(1 / scale), *best)

    def _words(self, strip: NDArray[np.uint8]) -> tuple[str, float]:
        values = np.zeros((1, 3, STRIP_HEIGHT, max(_NARROWEST_STRIP, strip.shape[1])), np.float32)
        values[..., : strip.shape[1]] = _normal(strip)
        (probabilities,) = self._recognise(values)
        classes, certain = probabilities[0].argmax(axis=1), probabilities[0].max(axis=1)
        first = np.concatenate([[True], classes[1:] != classes[:-1]]) & (classes != 0)
        text = "".join(self._characters[number] for number in classes[first])
        return (text, float(certain[first].mean())) if text.strip() else ("", 0.0)


def _scale(shape: tuple[int, ...]) -> float:
    longest = max(shape)
    if longest > _LONGEST_SIDE:
        return _LONGEST_SIDE / longest
    return min(_ENLARGED, max(1.0, _WANTED_SIDE / longest))


def _normal(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels in -1..1 as the three colours of a batch of one."""
    values = grey.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
    return np.broadcast_to(values, (1, 3, *values.shape))


def _network(path: Path) -> tuple[Callable[[NDArray[np.float32]], list[NDArray[np.float32]]], dict[str, str]]:
    import onnxruntime  # noqa: PLC0415 - an optional extra, and loaded only where text is looked for

    logging.getLogger("onnxruntime").propagate = False
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its warnings would be written to a standard stream
    options.enable_cpu_mem_arena = False  # pictures differ in size; an arena keeps the largest of each layer
    session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return [np.asarray(output) for output in session.run(None, {name: np.ascontiguousarray(values)})]

    return run, dict(session.get_modelmeta().custom_metadata_map)
