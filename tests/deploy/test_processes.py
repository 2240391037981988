"""No process outlives what started it, whichever of them is killed and how. The families are real (``families``)."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.deploy.families import LEADER_COMMAND, alive, guardian_of, leader_of, require_ended, role, wait_for

from sonoshare_deploy import guardian
from sonoshare_deploy.marks import MARK_VARIABLE, bearers, end_bearers, new_mark
from sonoshare_deploy.processes import Supervisor
from sonoshare_shared.durable import rolled


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda n: n.name)
def test_whatever_ends_a_role_ends_all_that_it_started(tmp_path: Path, number: signal.Signals) -> None:
    with role(tmp_path) as (started, members):
        started.send_signal(number)
        started.wait(30)
        require_ended(members)


def test_a_closed_terminal_leaves_nothing(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with role(tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=lambda: os.login_tty(theirs)) as (
        started,
        members,
    ):
        os.close(theirs)
        os.close(ours)
        started.wait(30)
        require_ended(members)


def test_a_killed_leader_takes_its_helpers_along_and_the_role_is_told(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        part = supervisor.start("part", LEADER_COMMAND, dict(os.environ))
        wait_for(lambda: len(bearers(part.mark)) == 4, "the family did not come")
        members = bearers(part.mark)
        leader_of(members).kill()
        require_ended(members)
        assert part.process.wait(5) == 128 + signal.SIGKILL
        assert not part.running
        assert (part.last_line(), part.cause()) == ("leader is here", "killed by SIGKILL")


def test_a_killed_guardian_takes_its_leader_along_and_the_role_ends_the_rest(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        part = supervisor.start("part", LEADER_COMMAND, dict(os.environ))
        wait_for(lambda: len(bearers(part.mark)) == 4, "the family did not come")
        members = bearers(part.mark)
        leader = leader_of(members)
        part.process.kill()
        part.process.wait()
        require_ended([leader])
        assert alive(members), "the helpers have detached themselves"
        part.end()
        require_ended(members)


def test_who_was_killed_together_with_the_role_is_found_by_the_mark(tmp_path: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    with role(tmp_path) as (started, members):
        mark = leader_of(members).environ()[MARK_VARIABLE].split(":")[0]
        last = guardian_of(members)
        started.kill()
        last.kill()
        started.wait()
        wait_for(lambda: len(alive(members)) == 2, "the leader did not end")
        ended = end_bearers(mark)
        assert len(ended) == 2
        require_ended(members)
        assert end_bearers(mark) == end_bearers(new_mark()) == []
        assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_output_goes_to_a_log_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "MOST_LOG_BYTES", 1 << 10)
    chatty = "for n in range(200): print('line', n)\nprint('\\x1b[92mno\\x1b[0m end', end='')"
    read, write = os.pipe()
    log = tmp_path / "part.log"
    with subprocess.Popen([sys.executable, "-S", "-c", chatty], stdout=write) as process:
        os.close(write)
        output = guardian.Output(read, log)
        while output.copy():
            pass
        assert process.wait() == 0
    os.close(read)
    assert log.read_text().endswith("line 199\nno end\n")
    assert log.stat().st_size + rolled(log).stat().st_size < 3 << 10


def test_what_cannot_be_started_says_so_in_its_log(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        part = supervisor.start("part", ["/no/such/program"], dict(os.environ))
        assert part.process.wait(30) == 127
        assert part.last_line().startswith("error: /no/such/program could not be started")


def test_the_cause_is_the_last_line_that_speaks_of_a_failure_in_this_run(tmp_path: Path) -> None:
    said = "print('error: of this run'); print('shutting down')"
    with Supervisor(tmp_path) as supervisor:
        for text, cause in (("print('error: of an older run')", "error: of an older run"), ("print('a')", "a")):
            part = supervisor.start("part", [sys.executable, "-S", "-c", text], dict(os.environ))
            part.process.wait(30)
            assert part.cause() == cause
        part = supervisor.start("part", [sys.executable, "-S", "-c", said], dict(os.environ))
        part.process.wait(30)
        assert part.cause() == "error: of this run"
