"""``sonoshare hospital receive`` and ``pull``, and what else than a plain folder ``hospital ingest`` takes.

Network, archives, and folders under watch.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from sonoshare_deploy.cli.output import emit, json_option, note
from sonoshare_deploy.cli.parameters import node_home_option
from sonoshare_shared.errors import FederationError, InputError

if TYPE_CHECKING:
    from sonoshare_client.intake.report import IngestReport
    from sonoshare_client.intake.watching import Watched, WatchedWhole
    from sonoshare_client.node.home import NodeHome
    from sonoshare_shared.science.label_table import LabelTable

LOOK_SECONDS: Final = 5.0
"""Between two looks at a folder under watch."""


@contextmanager
def source_folder(home: "NodeHome", source: Path) -> Iterator[Path]:
    """The folder that a source is, or that an archive becomes for as long as the block runs.

    Raises:
        InputError: it is neither, or the archive is refused.
    """
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise InputError(f"{source.name} is neither a folder nor an archive", remedy="check the path")
    from sonoshare_client.intake.archive import unpacked  # noqa: PLC0415 - keeps --help fast, here and below

    with unpacked(source, home.state.unpacked_path) as folder:
        yield folder


def watch_folder(
    source: Path,
    labels: Path | None,
    take_in: "Callable[[LabelTable | None], IngestReport]",
    say: "Callable[[IngestReport], None]",
) -> NoReturn:
    """Take in what is new in a folder, until interrupted.

    Args:
        source: the folder.
        labels: its table; the one in the folder if absent.
        take_in: takes in these rows, or the whole folder where no row names a file.
        say: tells what became of them.

    Raises:
        InputError: it is no folder.
        KeyboardInterrupt: when interrupted.
    """
    from sonoshare_client.intake.watching import Watched, WatchedWhole  # noqa: PLC0415
    from sonoshare_deploy.processes import end_on_signals  # noqa: PLC0415

    if not source.is_dir():
        raise InputError(f"{source.name} is not a folder", remedy="only a folder can be watched")
    end_on_signals()
    rows, whole, said = Watched(source, labels), WatchedWhole(source, labels), ""
    while True:
        try:
            trouble = _look(source, labels, rows, whole, lambda table: say(take_in(table)))
        except InputError as error:  # a table that is being written, another intake at work, a disk that is full
            trouble = str(error)
        if trouble != said:
            said = trouble
            note(f"waiting: {said}" if said else "what was waited for is there")
        time.sleep(LOOK_SECONDS)


def _look(
    source: Path,
    labels: Path | None,
    rows: "Watched",
    whole: "WatchedWhole",
    take_in: "Callable[[LabelTable | None], None]",
) -> str:
    """Look once and take in what is due; what is waited for, or nothing."""
    from sonoshare_client.intake.watching import names_files  # noqa: PLC0415

    if not names_files(source, labels):
        if whole.due():
            whole.taken()  # what fails now is tried again when something changes: it costs all that waits
            take_in(None)
        return ""
    if (table := rows.due()) is not None:
        take_in(table)
        rows.taken(table)
    return rows.trouble


@click.command(short_help="Receive pictures by C-STORE.")
@node_home_option
def receive(home_path: Path) -> None:
    """Receive pictures by C-STORE into the node's inbox, until interrupted.

    Who may send, and where this listens, says policy.toml under [intake.sources]; as shipped nothing listens.

    Example: sonoshare hospital receive --home NODE
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415 - keeps --help fast
    from sonoshare_deploy.receiver import run_receiver  # noqa: PLC0415

    run_receiver(NodeHome.open(home_path))


@click.command(short_help="Fetch pictures from an archive.")
@click.argument("query_file", metavar="QUERY.toml", type=click.Path(path_type=Path, dir_okay=False))
@node_home_option
@json_option
def pull(query_file: Path, home_path: Path, *, as_json: bool) -> None:
    """Fetch what QUERY.toml asks for into the node's inbox: by DICOMweb, or by C-FIND and C-MOVE.

    Whom it may ask says policy.toml under [intake.sources]. C-MOVE needs 'sonoshare hospital receive' running.

    Example: sonoshare hospital pull query.toml --home NODE
    """
    from sonoshare_client.node.home import NodeHome  # noqa: PLC0415
    from sonoshare_client.sources.query import read_query  # noqa: PLC0415
    from sonoshare_deploy.pulling import pull_by_dicomweb, pull_by_move  # noqa: PLC0415

    home, query = NodeHome.open(home_path), read_query(query_file)
    pulled = (pull_by_dicomweb if query.is_dicomweb else pull_by_move)(home, query)
    emit({"studies": pulled.studies, "objects": pulled.objects, "failed": pulled.failed}, as_json)
    if pulled.failed:
        raise FederationError(
            f"{pulled.failed} objects could not be had", remedy="see the archive's log, then pull again"
        )
