"""A folder that appears complete or not at all, readable by its owner only."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sonoshare_shared.errors import InputError


@contextmanager
def private_folder(out: Path) -> Iterator[Path]:
    """Give a folder to fill; when the block ends it becomes ``out``, when the block raises it is gone.

    Args:
        out: a folder that does not exist or is empty.

    Raises:
        InputError: the folder is in use, or cannot be written (an ``OSError`` of the block among others).
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out.name} is in use", remedy="choose a folder that does not exist or is empty")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))  # mode 0700
    except OSError as error:
        raise InputError(f"cannot write beside {out.name}: {error.strerror}", remedy="choose another") from error
    try:
        yield staging
        staging.rename(out)  # rename(2) replaces an empty folder, so that it appears in one step
    except OSError as error:
        raise InputError(f"cannot write {out.name}: {error.strerror}", remedy="free some disk space") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
