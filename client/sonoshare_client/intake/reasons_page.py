"""docs/intake-reasons.md from the closed lists of reasons: ``python -m sonoshare_client.intake.reasons_page``.

The page is what this prints; a test holds the two together.
"""

import sys
from collections.abc import Iterable
from typing import Final

from sonoshare_client.intake.accepting import may_be_accepted
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
same words. Where the last column says yes, a person at the hospital may look and decide:
[what was set aside, and a way back](how-to/quarantine.md).

The page is made by `python -m sonoshare_client.intake.reasons_page > docs/intake-reasons.md`.
"""


def page() -> str:
    """The page, in Markdown."""
    tables = (
        ("What is true of the file, its picture or its mask", Reason),
        ("What its row, the vault or the reading process says", SetAside),
        ("Taken in, and to be looked at", Flag),
    )
    return _HEAD + "".join(
        f"\n## {title}\n\n{_table(reasons, decided=reasons is not Flag)}" for title, reasons in tables
    )


def _table(reasons: Iterable[Because], *, decided: bool) -> str:
    columns = ["what is true", "what to do", *(["may a person accept it"] if decided else [])]
    rows = [[one.fact, one.remedy, *([may_be_accepted(one)] if decided else [])] for one in reasons]
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace("| --- ", "|---").replace("--- |", "---|")


if __name__ == "__main__":
    sys.stdout.write(page())
