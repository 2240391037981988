"""What long work says: how far it is, and about how long it still takes."""

import io

import pytest
from rich.console import Console

from sonoshare_deploy.cli.progress import Work, counted, left_words, seconds_left


@pytest.mark.parametrize(
    ("seconds", "done", "left", "estimate"),
    [(60.0, 20, 80, 240.0), (60.0, 100, 0, 0.0), (60.0, 0, 100, None), (0.0, 5, 5, None)],
)
def test_what_is_left_takes_as_long_piece_for_piece(
    seconds: float, done: int, left: int, estimate: float | None
) -> None:
    assert seconds_left(seconds, done, left) == estimate


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.2, "about 1 s left"),
        (119, "about 119 s left"),
        (200, "about 3 min left"),
        (9000, "about 2 h left"),
        (3 * 86_400, "about 3 days left"),
    ],
)
def test_an_estimate_is_told_as_roughly_as_it_is_known(seconds: float | None, words: str) -> None:
    assert left_words(seconds) == words


class Passing:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pieces_that_were_there_before_do_not_make_the_rest_look_quick() -> None:
    clock, lines = Passing(), list[str]()
    work = Work(lambda line, _done, _total: lines.append(line), clock=clock)
    work.told("drawing images", 80, 120)  # another run had drawn 80
    clock.now += 60
    work.told("drawing images", 90, 120)
    assert lines[-1] == "drawing images: 90 of 120, about 3 min left"
    work.told("drawing images", 120, 120)
    assert lines[-1] == "drawing images: 120 of 120"


def test_a_log_gets_a_line_now_and_then_and_no_bar() -> None:
    clock, said = Passing(), list[str]()
    work = Work(lambda _line, _done, _total: None, said.append, clock)
    work.stage("steps of training")
    for done in range(1, 7):
        clock.now += 10
        work(done, 12)
    assert said == [
        "steps of training: 3 of 12, about 90 s left",
        "steps of training: 6 of 12, about 60 s left",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_counted_is_shown_where_it_is_asked_for(terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, color_system=None)
    with counted("reading [red]pictures", console) as work:
        work(1, 2)
    assert ("reading [red]pictures" in out.getvalue()) == terminal  # quick work leaves no line in a log
