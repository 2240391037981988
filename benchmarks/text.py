"""How much text in pictures is found and taken out, what is taken for text, and what looking costs.

    python -m benchmarks.text [--plants 192] [--clean 96] [--data BUSBRA] [--every 10] [--json]

Prints one JSON object as the last line of stdout:

- ``planted``: one invented identifier in each of so many pictures of simulated tissue, in several scripts, faces, sizes
  and grey levels, some down the side or aslant. Shares that the quick look suspects, that are gone where every picture
  is read (``read``), and where only a suspected one is (``looked``). Gone: nine tenths of the letters' pixels were
  replaced, or the picture was set aside; ``missed`` names those that stay though they were read;
- ``harmless``: the same of measurements and calipers, which should stay;
- ``clean``: simulated tissue without text: shares suspected, changed, set aside;
- ``busbra``: every ``--every``th picture, all of them read: with text that goes, replaced, set aside by reason, and in
  how many of those taken a second look at one and a half times the size still reads words; null without ``--data``;
- ``ms``: processor milliseconds of one picture: the quick look, one reading, and clearing a picture with text.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tests.shared.screens import tissue
from tests.shared.written import HARMLESS, IDENTIFIERS, Written, drawn_at_random, place, stamped, write

from sonoshare_shared.science.pictures.reading import read_file
from sonoshare_shared.science.pictures.reasons import Refused
from sonoshare_shared.science.pictures.text.clearing import Cleared, lesion_pixels, without_text
from sonoshare_shared.science.pictures.text.likely import text_is_likely
from sonoshare_shared.science.pictures.text.reading import TextReader, text_reader
from sonoshare_shared.science.pictures.text.rule import may_stay

SEED = 11
GONE = 0.9
CLOSER = 1.5
SIDES = (280, 640)
"""Pixels of simulated pictures."""
Picture = NDArray[np.uint8]


class Clock:
    """Processor milliseconds, by what they were spent on."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def of(self, name: str, run: Callable[[], Any]) -> Any:
        """Run something and remember what it took."""
        start = time.process_time()
        result = run()
        self.spent.setdefault(name, []).append(1000 * (time.process_time() - start))
        return result

    def figures(self) -> dict[str, float]:
        """Means."""
        return {name: round(float(np.mean(values)), 1) for name, values in self.spent.items()}


def blank_tissue(rng: np.random.Generator, number: int) -> Picture:
    """Simulated tissue of some size."""
    width, height = (int(side) for side in rng.integers(*SIDES, size=2))
    return tissue(width, height, number, number % 4)


def cleared(picture: Picture, reader: TextReader, *, must: bool, lesion: NDArray[np.bool_] | None = None) -> Any:
    """What intake makes of a picture: `Cleared`, or the name of a reason."""
    try:
        return without_text(picture, lesion, lambda: reader, must=must)
    except Refused as refusal:
        return refusal.reason.name


def gone(before: Picture, after: Any, letters: NDArray[np.bool_]) -> bool:
    """Whether words are no longer there: replaced, or their picture set aside."""
    return not isinstance(after, Cleared) or float((after.pixels != before)[letters].mean()) >= GONE


def letters_at(shape: tuple[int, ...], written: Written, corner: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of words in a picture."""
    sheet = Image.new("L", (shape[1], shape[0]))
    sheet.paste(255, corner, stamped(written))
    return np.asarray(sheet) > 127


def planted(words: tuple[str, ...], count: int, reader: TextReader, clock: Clock) -> dict[str, Any]:
    """Words in simulated tissue."""
    rng = np.random.default_rng(SEED)
    tally: Counter[str] = Counter()
    missed = []
    for number in range(count):
        written = drawn_at_random(rng, words[number % len(words)])
        empty = blank_tissue(rng, number)
        corner = place(rng, empty.shape, written)
        picture, letters = write(empty, written, *corner), letters_at(empty.shape, written, corner)
        suspected = clock.of("quick look", partial(text_is_likely, picture))
        outcome = clock.of("clearing a picture with text", partial(cleared, picture, reader, must=True))
        is_gone = gone(picture, outcome, letters)
        tally += Counter(suspected=suspected, read=is_gone, looked=is_gone and suspected)
        if not is_gone:
            missed.append(f"{written.words} ({written.size} px {written.font}, level {written.grey}, {written.turned})")
    return {name: round(tally[name] / count, 3) for name in ("suspected", "read", "looked")} | {
        "pictures": count,
        "missed": missed,
    }


def clean(count: int, reader: TextReader, clock: Clock) -> dict[str, Any]:
    """Simulated tissue without text."""
    rng = np.random.default_rng(SEED + 1)
    tally: Counter[str] = Counter()
    for number in range(count):
        picture = blank_tissue(rng, 1000 + number)
        tally["suspected"] += text_is_likely(picture)
        outcome = clock.of("reading", partial(cleared, picture, reader, must=True))
        tally["changed" if isinstance(outcome, Cleared) and outcome.blanked else "as it was"] += 1
        tally["set aside"] += not isinstance(outcome, Cleared)
    return {name: round(tally[name] / count, 3) for name in ("suspected", "changed", "set aside")} | {"pictures": count}


def busbra(data: Path, every: int, reader: TextReader) -> dict[str, Any]:
    """Real pictures, most of them with text."""
    outcomes: Counter[str] = Counter()
    suspected = without = still = 0
    paths = sorted((data / "Images").iterdir())[::every]
    for path in paths:
        kept = read_file(path, [data / "Masks" / path.name.replace("bus_", "mask_")])
        picture, lesion = kept.pixels, lesion_pixels(kept.pixels.shape, kept.mask, kept.box)
        outcome = cleared(picture, reader, must=True, lesion=lesion)
        taken = isinstance(outcome, Cleared)
        outcomes[("replaced" if outcome.blanked else "nothing to replace") if taken else outcome] += 1
        if taken and not outcome.blanked:
            without += 1
            suspected += text_is_likely(picture)
        still += taken and reads_words(outcome.pixels, reader)
    return {
        "pictures": len(paths),
        "outcomes": dict(outcomes),
        "words_at_a_closer_look": still,
        "suspected_of_those_without": round(suspected / max(without, 1), 3),
    }


def reads_words(picture: Picture, reader: TextReader) -> bool:
    """Whether the picture, enlarged, holds anything that is read with certainty and may not stay."""
    size = tuple(round(CLOSER * side) for side in picture.shape[::-1])
    found = reader(np.asarray(Image.fromarray(picture).resize((size[0], size[1]), Image.Resampling.BICUBIC)))
    return any(line.confidence > 0.85 and not may_stay(line.text, line.confidence, line.shape) for line in found)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plants", type=int, default=192)
    parser.add_argument("--clean", type=int, default=96)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="for uniformity: the last line is always JSON")
    options = parser.parse_args()
    reader, clock = text_reader(), Clock()
    if reader is None:
        raise SystemExit("no reader is installed: pip install 'sonoshare[client]'")
    if options.data is None:
        print("no --data: the real pictures are left out", file=sys.stderr)
    result = {
        "planted": planted(IDENTIFIERS, options.plants, reader, clock),
        "harmless": planted(HARMLESS, options.plants // 4, reader, Clock()) | {"missed": None},
        "clean": clean(options.clean, reader, clock),
        "busbra": None if options.data is None else busbra(options.data, options.every, reader),
        "ms": clock.figures(),
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
