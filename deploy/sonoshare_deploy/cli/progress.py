"""How far long work is, and about how long it still takes: on stderr, for whoever waits.

    drawing 40 of 120 images, about 3 min left

On a terminal one line moves; elsewhere (a log, a pipe) a line is written every half minute, none for
quick work. Under ``--quiet`` there is none.

An estimate says: what is left takes as long, piece for piece, as what was done since the stage began. It is none before
a piece is done, and none is made for what others do: of a hospital's work this machine sees no pieces
(``action_words``). Counts are of the reader's own files, steps and pictures and stay on this machine.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sonoshare_deploy.cli.output import progress_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

LINE_SECONDS: Final = 30.0
"""Between two lines where there is no terminal."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def seconds_left(seconds: float, done: int, left: int) -> float | None:
    """Estimate what is left.

    Args:
        seconds: that the pieces done took, together.
        done: pieces; those that were done before the clock began do not count.
        left: pieces.

    Returns:
        Seconds; None where nothing is known yet.
    """
    return seconds * left / done if done > 0 and seconds > 0 else None


def left_words(seconds: float | None) -> str:
    """The estimate in words, as rough as it is: ``about 3 min left``; empty where there is none."""
    if seconds is None:
        return ""
    for unit, name in ((_DAY, "days"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"about {round(seconds / unit)} {name} left"
    return f"about {max(round(seconds), 1)} s left"


class Work:
    """One line about one piece of work after another; ``counted`` makes it.

    Args:
        show: moves the line: words, pieces done, pieces in all (None: not counted).
        say: writes a line that stays, or None where the line that moves is enough.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        show: Callable[[str, int, int | None], None],
        say: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show, self._say, self._clock = show, say, clock
        self._what, self._began, self._before = "", clock(), 0
        self._counted, self._said = False, clock()

    def stage(self, what: str) -> None:
        """Begin another piece of work."""
        self._what, self._began, self._counted = what, self._clock(), False
        self._show(what, 0, None)

    def words(self, line: str) -> None:
        """Show a line that changes often and has a log of its own."""
        self._show(line, 0, None)

    def __call__(self, done: int, total: int) -> None:
        """Pieces done and pieces in all; the first call may tell of what was done before."""
        now = self._clock()
        if not self._counted:
            self._counted = True
            # Found done at once, it was done before; else it was done since the stage began.
            self._before = done if now - self._began < 1 and done < total else 0
        left = left_words(seconds_left(now - self._began, done - self._before, total - done)) if done < total else ""
        line = f"{self._what}: {done} of {total}" + (f", {left}" if left else "")
        self._show(line, done, total)
        if self._say is not None and now - self._said >= LINE_SECONDS:
            self._said = now
            self._say(line)

    def told(self, what: str, done: int, total: int) -> None:
        """The same, of work that names its stages itself."""
        if what != self._what:
            self.stage(what)
        if total:
            self(done, total)


@contextmanager
def counted(what: str, console: "Console | None" = None) -> Iterator[Work]:
    """Show work while the block runs.

    Args:
        what: the first stage, for example ``reading pictures``.
        console: where; by default that of progress.
    """
    console = progress_console() if console is None else console
    if not console.is_terminal:

        def say(line: str) -> None:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        work = Work(lambda _line, _done, _total: None, say)
        work.stage(what)
        yield work
        return
    with _bar(console) as bar:
        task = bar.add_task("", total=None)
        work = Work(lambda line, done, total: bar.update(task, description=line, completed=done, total=total))
        work.stage(what)
        yield work


def _bar(console: "Console") -> "Progress":
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    words = TextColumn("{task.description}", markup=False)
    return Progress(
        SpinnerColumn(), words, BarColumn(bar_width=24), TimeElapsedColumn(), console=console, transient=True
    )
