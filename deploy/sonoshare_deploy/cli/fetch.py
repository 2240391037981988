"""``sonoshare fetch``: download a release and verify it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sonoshare_deploy.cli.output import emit, insist, is_quiet, json_option, note, progress_console, quiet_option
from sonoshare_deploy.cli.releases import server_option, the_server
from sonoshare_deploy.cli.verify import STALE_LOG, described, read_log
from sonoshare_shared.errors import VerificationError

if TYPE_CHECKING:
    from rich.console import Console

    from sonoshare_deploy.researcher.obtaining import Obtained
    from sonoshare_deploy.researcher.trust import How

TRUST_WORDS: Final[dict[str, str]] = {
    "release-only": "checked against the roster in the release only; log in (sonoshare login URL), or give --roster",
    "first-use": "the root key is the one that the catalogue showed at your first login: compare it with a hospital's, "
    "then: sonoshare login URL --root KEY",
}
"""What is to be known of a trust that was got from the catalogue itself."""


@click.command()
@click.argument("release")
@server_option("The catalogue, or a folder of releases.")
@click.option(
    "--token", envvar="SONOSHARE_TOKEN", help="Token of the data-use agreement, if not the one of your login."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--roster", "roster_file", type=click.Path(path_type=Path), help="Signed roster you trust.")
@click.option("--root", help="The consortium's root key (hexadecimal), if you have it from elsewhere.")
@click.option("--log-head", type=click.Path(path_type=Path), help="Fresh log, where the releases come from a folder.")
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at the same time.")
@click.option("--revoked-too", is_flag=True, help="Also what its consortium has revoked; do not use it for new work.")
@quiet_option
@json_option
def command(
    *,
    release: str,
    server: str | None,
    token: str | None,
    out: Path,
    roster_file: Path | None,
    root: str | None,
    log_head: Path | None,
    jobs: int,
    revoked_too: bool,
    as_json: bool,
) -> int:
    """Download RELEASE into the folder --out, and verify it; run it again to go on after an interruption.

    A catalogue's log is looked at first: a release that was revoked is refused, with the reason.

    Without a login, --roster or --root the release is checked only against the roster that came with it: good against
    accidents, not against a dishonest catalogue.

    Example: sonoshare fetch r1 --server https://fed.example.org --out r1
    """
    from sonoshare_deploy.researcher.obtaining import Wanted, obtain  # noqa: PLC0415 - `fetch --help` needs none of it

    try:
        with the_server(server) as address, _shown(hidden=is_quiet()) as progress:
            wanted = Wanted(
                release=release,
                server=address,
                out=out,
                token=token,
                roster_file=roster_file,
                root=root,
                log=read_log(log_head) if log_head else None,
                jobs=jobs,
                revoked_too=revoked_too,
            )
            obtained = obtain(wanted, progress=progress, told=_tell)
    except VerificationError as error:
        if as_json:
            emit({"verified": False, "cause": error.cause, "message": error.message}, as_json)
        raise
    _report(obtained, out, as_json)
    return 0


def _report(obtained: "Obtained", out: Path, as_json: bool) -> None:
    result, human = described(obtained.verified)
    pinned = obtained.how not in TRUST_WORDS
    more = {"out": str(out), "roster_pinned": pinned, "trust": obtained.how, "revoked": obtained.revoked}

    def shown(console: "Console") -> None:
        human(console)
        console.print(f"  trust: {_trust_words(obtained.how)}", highlight=False)

    emit(result | more, as_json, shown)
    known = obtained.verified.revocations_known_until
    if known is not None and datetime.now(UTC) - known > STALE_LOG + timedelta(days=1):
        _tell(f"the catalogue's log is of {known:%Y-%m-%d}: a fresh one says today; ask the consortium")
    if not pinned:
        note(f"note: {TRUST_WORDS[obtained.how]}")


def _trust_words(how: "How") -> str:
    return {
        "roster-file": "the roster that you gave",
        "root": "the root key that you gave",
        "by-hand": "the root key that you pinned",
        "first-use": "the root key of your first login",
        "release-only": "the release's own roster",
    }[how]


def _tell(words: str) -> None:
    insist(f"warning: {words}")


@contextmanager
def _shown(*, hidden: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with rate and time left on stderr, where somebody looks at one."""
    if hidden or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=progress_console(), transient=True) as bar:
        task = bar.add_task("fetching", total=None)

        def progress(done: int, total: int) -> None:
            words = "verifying" if done == total else "fetching"
            bar.update(task, description=words, completed=done, total=total)

        yield progress
