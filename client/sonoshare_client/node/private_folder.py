"""A folder that appears complete or not at all, readable by its owner only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sonoshare_shared.durable import appearing
from sonoshare_shared.errors import InputError


def require_free(out: Path) -> None:
    """Refuse a place that a folder cannot take; to be asked before the work whose result goes there.

    Raises:
        InputError: it is in use.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out.name} is in use", remedy="choose a folder that does not exist or is empty")


@contextmanager
def private_folder(out: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a folder to fill; when the block ends it becomes ``out``, when the block raises it is gone.

    Args:
        out: a folder that does not exist or is empty.
        durable: flush every file before the folder appears; for what cannot be made again.

    Raises:
        InputError: the folder is in use, or cannot be written (an ``OSError`` of the block among others).
    """
    out = out.absolute()
    require_free(out)
    try:
        with appearing(out, durable=durable, mode=0o700) as folder:
            yield folder
    except OSError as error:
        raise InputError(f"cannot write {out.name}: {error.strerror}", remedy="free some disk space") from error
