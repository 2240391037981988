"""docs/intake-reasons.md from the closed lists of reasons: ``python -m sonoshare_client.intake.reasons_page``.

The page is what this prints; a test holds the two together.
"""

import sys
from collections.abc import Iterable
from typing import Final

from sonoshare_client.intake.reasons import Flag, SetAside
from sonoshare_shared.science.pictures.reasons import Because, Reason

_HEAD: Final = """\
# Why a picture is not taken in

`sonoshare hospital ingest` names each file that it sets aside, the line of `labels.csv` that names the file, what is
true of it, and what you can do:

```
  IM0007.dcm (line 12): colour lies over the picture (flow, elastography or the like); export the B-mode picture, ...
```

This is the whole list. `audit`, `evaluate` and `base train` read pictures through the same code and refuse them in the
same words. The page is made by `python -m sonoshare_client.intake.reasons_page > docs/intake-reasons.md`.
"""


def page() -> str:
    """The page, in Markdown."""
    tables = (
        ("What is true of the file, its picture or its mask", Reason),
        ("What its row, the vault or the reading process says", SetAside),
        ("Taken in, and to be looked at", Flag),
    )
    return _HEAD + "".join(f"\n## {title}\n\n{_table(reasons)}" for title, reasons in tables)


def _table(reasons: Iterable[Because]) -> str:
    rows = [(reason.fact, reason.remedy) for reason in reasons]
    lines = ["| what is true | what to do |", "|---|---|", *(f"| {fact} | {remedy} |" for fact, remedy in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
