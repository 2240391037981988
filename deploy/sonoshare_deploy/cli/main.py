"""Entry point of ``sonoshare``.

Exit status: 0 done; 1 refused, failed or not verified, with one line ``error: ...`` on stderr; 2 usage.
A noun's module is imported only when the noun is used, so that ``sonoshare --help`` and ``sonoshare verify``
start without torch.
"""

import errno
import importlib
import sys
from difflib import get_close_matches
from typing import Final, NoReturn

import click

from sonoshare_deploy.cli.pasted import NAME
from sonoshare_deploy.cli.typed import ROLES, typed
from sonoshare_deploy.openmp import wait_asleep
from sonoshare_shared.errors import SonoShareError, VerificationError
from sonoshare_shared.printable import printable

INTERRUPTED: Final = 130
FULL_DISK: Final = (errno.ENOSPC, errno.EDQUOT)
WRONG_PATH: Final = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
)

# noun -> one line of help; the module is sonoshare_deploy.cli.<noun>, its attribute ``command``.
NOUNS: Final[dict[str, str]] = {
    "demo": "Run a whole consortium on this machine, end to end.",
    "plan": "Plan a study's privacy before a unit of budget is spent.",
    "audit": "Audit a folder of synthetic images against real ones.",
    "evaluate": "Measure what synthetic images are worth.",
    "login": "Keep a catalogue's token, and pin its consortium.",
    "logout": "Forget a catalogue's token.",
    "releases": "List the releases of a catalogue.",
    "fetch": "Download a release and verify it.",
    "verify": "Verify a release offline.",
    "export": "Write a release as Parquet or DICOM.",
    "hospital": "Run a hospital node.",
    "coordinator": "Run the consortium's server.",
    "catalogue": "Serve releases apart from the coordinator.",
    "base": "Train, check and carry base models.",
    "completion": "Print a shell's completion script.",
}

# Extra of the distribution that a noun needs; the others run on the base install.
EXTRAS: Final[dict[str, str]] = {
    "demo": "all",
    "plan": "model",
    "audit": "client",
    "evaluate": "model",
    "export": "export",
    "hospital": "client",
    "coordinator": "server",
    "catalogue": "server",
    "base": "model",
}
OWN_PACKAGES: Final = "sonoshare_"


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names of the nouns, in the order of the journey."""
        return list(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one noun's module."""
        if cmd_name not in NOUNS:
            return None
        module = importlib.import_module(f"sonoshare_deploy.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The noun; a word that is none is answered with what it may be."""
        if (word := args[0]) not in NOUNS and not word.startswith("-"):
            meant = [f"{NAME} {noun}" for noun in get_close_matches(word, NOUNS)] or _roles_that_do(word, ctx)
            ctx.fail(f"There is no command '{word}'." + (f" Did you mean: {', '.join(meant)}" if meant else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the nouns without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(NOUNS.items()))


def _roles_that_do(verb: str, ctx: click.Context) -> list[str]:
    """Commands of the roles that have this verb: who types it has left the role out."""
    groups = {role: cli.get_command(ctx, role) for role in ("hospital", "coordinator")}
    return [
        f"{NAME} {role} {verb}" for role, one in groups.items() if isinstance(one, click.Group) and verb in one.commands
    ]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sonoshare")
def cli() -> None:
    """Hospitals pool what breast-ultrasound images can teach, under patient-level differential privacy.

    To see all of it: sonoshare demo. A hospital begins with: sonoshare hospital join. A coordinator begins with:
    sonoshare coordinator init. Whoever uses what was released begins with: sonoshare login.
    """


def main() -> None:
    """Run the command line and exit with its status."""
    wait_asleep()  # before any command imports torch
    try:
        status = cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SonoShareError as error:
        click.echo(f"error: {_cause(error)}{typed(printable(str(error)))}", err=True)
        sys.exit(1)
    except OSError as error:
        line = _told(error)
        if line is None:
            _crashed(error)
        click.echo(f"error: {line}", err=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(OWN_PACKAGES):
            _crashed(error)  # a broken installation, not a missing extra
        extra = next((EXTRAS[word] for word in sys.argv[1:] if word in EXTRAS), "all")
        click.echo(
            f"error: {error.name.partition('.')[0]} is not installed (pip install 'sonoshare[{extra}]')", err=True
        )
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the edge of the process: words may tell of a patient
        _crashed(error)
    sys.exit(status if isinstance(status, int) else 0)


def _cause(error: SonoShareError) -> str:
    """The word for scripts, where what failed is a verification; a role's own commands have remedies instead."""
    of_role = next((word for word in sys.argv[1:] if not word.startswith("-")), "") in ROLES
    return f"{error.cause}: " if isinstance(error, VerificationError) and not of_role else ""


def _crashed(error: Exception) -> NoReturn:
    from sonoshare_deploy.cli.crash import crash_words  # noqa: PLC0415 - keeps --help fast

    click.echo(crash_words(error), err=True)
    sys.exit(1)


def _told(error: OSError) -> str | None:
    """One line on a disk or path that is not as it should be; None for what nobody foresaw.

    Every command that writes keeps what it finished: a full disk and a path that is none need no traceback.
    """
    if error.errno in FULL_DISK:
        return f"{error.strerror} (make room, then run the same command again)"
    if error.errno == errno.EFBIG:
        return f"{error.strerror} (raise the limit on file sizes, see ulimit -f, then run the same command again)"
    if error.errno in WRONG_PATH and error.filename is not None:
        return f"{error.filename}: {error.strerror} (check the path and its permissions)"
    return None


if __name__ == "__main__":
    main()
