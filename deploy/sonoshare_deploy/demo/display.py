"""What people see of the demonstration while it runs: one line a stage, bars where there is something to count.

Everything goes to stderr. On a terminal the current stage moves; elsewhere each finished stage is one plain line.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Display:
    """Shows stages and remembers how long each took.

    Args:
        console: where to show them.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator["Stage"]:
        """Show a stage while the block runs, and one line with its seconds afterwards."""
        task = self._bars.add_task(title, total=None, note="")
        stage = Stage(self._bars, task)
        started = time.monotonic()
        try:
            yield stage
        except BaseException:
            self._close(task, name, started)
            self.console.print(f"[red]✗[/red] {title}", highlight=False)
            raise
        self._close(task, name, started)
        note = f"  [dim]{stage.summary}[/dim]" if stage.summary else ""
        self.console.print(f"[green]✓[/green] {title}{note}  [dim]{self.seconds[name]:.1f} s[/dim]", highlight=False)

    def say(self, text: str) -> None:
        """One line of text."""
        self.console.print(text, highlight=False, markup=False)

    def _close(self, task: TaskID, name: str, started: float) -> None:
        self.seconds[name] = round(time.monotonic() - started, 2)
        self._bars.remove_task(task)


class Stage:
    """A stage that is shown; ``summary`` stands beside its title when it is done."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task
        self.summary = ""

    def count(self, done: int, total: int) -> None:
        """Show how much is done."""
        self._bars.update(self._task, completed=done, total=total)

    def note(self, text: str) -> None:
        """Show a few words beside the bar."""
        self._bars.update(self._task, note=text)
