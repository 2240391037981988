"""The whole command as a user's shell runs it, in this process: a process of its own costs seconds of imports."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from sonoshare_deploy.cli.main import main


@dataclass
class Run:
    returncode: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """Lines that say what went wrong; progress may stand before them."""
        return [line for line in self.stderr.splitlines() if line.startswith("error: ")]


def sonoshare(*arguments: object, stdin: str = "") -> Run:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["sonoshare", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main()
    return Run(int(ended.value.code or 0), out.getvalue(), err.getvalue())
