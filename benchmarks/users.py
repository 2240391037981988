"""The whole journey of a consortium whose people share nothing: each is an operating-system user with its own home.

    python -m benchmarks.users [--small] [--work DIR] [--json]

Coordinator, two hospitals and a researcher: homes and temporary folders of mode 0700, from empty. Every command is
typed in a process of its own, as its user; files travel by mail, and only those that the documents send: invitation,
request, roster, plan. Fingerprints and the root key are told by telephone. Needs root, on Linux with util-linux;
elsewhere it says so in one line, and exit status 0.

Whole: set-up, a study of one round, release, audits, publication, and the researcher logs in, accepts the agreement,
fetches and verifies. ``--small``: one hospital, from init until it is admitted and the check. At the end all homes are
walked as every user. Prints one JSON object as the last line of stdout: ``users``, ``commands`` and ``mails``,
``seconds`` in all and of each ``part``, and what the walk looked at (``paths``, ``tries``, ``private_keys``,
``closed_folders``); ``faults`` and ``left`` (processes) are then 0.

Exit status 1 where a command fails, one user can read another's home, a private key is not 0600, a folder of a role
not 0700, a file in a home is not its owner's, something was left outside of the homes, or a process is left.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks._separate_users import Person, faults, free_numbers, mailed, processes, show_programs
from sonoshare_deploy.addresses import free_ports

COMMAND: Final = (sys.executable, "-m", "sonoshare_deploy.cli.main")
HOSPITALS: Final = ("north", "south")
AUDIT: Final = ("--epsilon-audit", 16, "--tolerated-share", 0.6, "--tolerated-auc", 0.97, "--alpha", 0.001)
STUDY: Final = ("--epsilon", 30, "--delta", 3e-3, "--rounds", 1, "--local-steps", 2, "--images", 16)
SMALLEST: Final = ("--profile", "tiny", "--epsilon-calibration", 0, "--candidates", 1)
DECLARED: Final = 30
READY_SECONDS: Final = 240.0
STOP_SECONDS: Final = 60.0
AGREE: Final = """
import json, sys, urllib.request
at, release = sys.argv[1:]
version = json.load(urllib.request.urlopen(at + "/api/v1/agreement"))["version"]
said = {"release": release, "name": "Ada", "email": "ada@example.org", "agreement_version": version,
        "purpose": "To follow the journey from its beginning to its end."}
asked = urllib.request.Request(at + "/api/v1/agreements", json.dumps(said).encode(),
                               {"Content-Type": "application/json"})
print(json.dumps(json.load(urllib.request.urlopen(asked))))
"""


class Village:
    """The people, and what they typed and sent."""

    def __init__(self, homes: Path, names: tuple[str, ...]) -> None:
        """Make their homes."""
        numbers = free_numbers(len(names))
        self.people = {name: Person.made(name, number, homes) for name, number in zip(names, numbers, strict=True)}
        self.commands = self.mails = 0
        self.seconds: dict[str, float] = {}

    def typed(self, who: str, *words: object, typed: bytes = b"") -> dict[str, Any]:
        """One command to its end; its JSON. A failure ends the benchmark with what was said."""
        self.commands += 1
        done = self.people[who].run(*COMMAND, *words, "--json", typed=typed)
        return _json(f"{who}: {' '.join(map(str, words))}", done)

    def other(self, who: str, *words: object, typed: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Another program, which must succeed."""
        done = self.people[who].run(*words, typed=typed)
        if done.returncode:
            sys.exit(f"{who}: {done.stderr.decode()}")
        return done

    def mail(self, sender: str, file: str, receiver: str) -> str:
        """Send a file of the sender's home; its name in the receiver's."""
        self.mails += 1
        return mailed(self.people[sender].home / file, self.people[receiver]).name

    def timed(self, part: str, act: Callable[[], None]) -> None:
        """Do a part of the journey."""
        began = time.monotonic()
        act()
        self.seconds[part] = round(time.monotonic() - began, 1)
        print(f"{part}: {self.seconds[part]} s", file=sys.stderr, flush=True)


def _json(what: str, done: "subprocess.CompletedProcess[bytes]") -> dict[str, Any]:
    if done.returncode:
        sys.exit(f"{what}: exit status {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def ports() -> tuple[str, ...]:
    """Three free addresses, as options."""
    addresses = (f"127.0.0.1:{port}" for port in free_ports(3))
    return tuple(word for pair in zip(("--fleet", "--control", "--catalogue"), addresses, strict=True) for word in pair)


def admit_all(village: Village, hospitals: tuple[str, ...], at: tuple[str, ...]) -> None:
    """From empty homes to admitted hospitals that hold the roster."""
    village.typed("coordinator", "coordinator", "init", "--home", "c", "--consortium", "village", *AUDIT)
    for name in hospitals:
        invite = ("coordinator", "invite", "--home", "c", "--id", name, "--superlink", at[1])
        root = village.typed("coordinator", *invite)["root_fingerprint"]
        letter = village.mail("coordinator", f"{name}-invitation.json", name)
        # The same in every run: with a fresh one, one split in a hundred holds out too few to judge.
        key = hashlib.sha256(name.encode()).digest()
        village.other(name, "sh", "-c", "umask 077; cat > vault.key", typed=key)
        join = ("hospital", "join", letter, "--home", "node", "--root-fingerprint", root, "--patients", DECLARED)
        own = village.typed(name, *join, "--vault-key", "vault.key")["fingerprint"]
        request = village.mail(name, f"{name}-request.json", "coordinator")
        village.typed("coordinator", "coordinator", "admit", request, "--home", "c", "--fingerprint", own)
    village.typed("coordinator", "coordinator", "check", "--home", "c", *at)


def fill(village: Village) -> None:
    """Each hospital pins the roster, writes its rules and takes its pictures in."""
    for name in HOSPITALS:
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2])
        person = village.people[name]
        roster = village.mail("coordinator", "c/roster.dsse.json", name)
        village.typed(name, "hospital", "enrol", "--home", "node", "--roster", roster)
        rules = (
            "import sys; from benchmarks._live_world import rules; from sonoshare_client.node.policy_file import "
            "policy_text; sys.stdout.write(policy_text(rules()))"
        )
        shown = subprocess.run([sys.executable, "-c", rules], capture_output=True, check=True)
        village.other(name, "tee", "node/policy.toml", typed=shown.stdout)
        pictures = (
            "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); "
            "from benchmarks._real_consortium import PATIENTS, make_pictures; "
            f"make_pictures(Path('pictures'), {name!r}, patients=PATIENTS, seed={seed})"
        )
        village.other(name, sys.executable, "-c", pictures, Path(__file__).resolve().parents[1])
        village.typed(name, "hospital", "ingest", person.home / "pictures", "--home", "node")


def start(village: Village, stack: ExitStack, at: tuple[str, ...]) -> None:
    """Everybody's long-running command, until the coordinator sees both hospitals online."""
    first = village.people["coordinator"].start("c.log", *COMMAND, "coordinator", "start", "--home", "c", *at)
    stack.callback(_end, first)
    _until(village, set())
    for name in HOSPITALS:
        node = village.people[name].start("node.log", *COMMAND, "hospital", "start", "--home", "node")
        stack.callback(_end, node)
    _until(village, set(HOSPITALS))
    village.commands += 1 + len(HOSPITALS)
    for name in HOSPITALS:
        village.typed(name, "hospital", "check", "--home", "node")


def _until(village: Village, hospitals: set[str]) -> None:
    end = time.monotonic() + READY_SECONDS
    person = village.people["coordinator"]
    while time.monotonic() < end:
        said = _json("status", person.run(*COMMAND, "coordinator", "status", "--home", "c", "--json"))
        if said["running"] and hospitals <= {member["id"] for member in said["members"] if member["online"]}:
            return
        time.sleep(0.5)
    sys.exit(f"not online after {READY_SECONDS:.0f} s: {sorted(hospitals) or 'the coordinator'}; see {person.home}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def study(village: Village) -> None:
    """Plan, look at the plan at each hospital, train, draw, audit, sign, publish."""
    cohort = [word for name in HOSPITALS for word in ("--cohort", f"{name}={DECLARED}")]
    at = ("--home", "c")
    village.typed("coordinator", "coordinator", "study", "create", *at, "--name", "s1", *cohort, *STUDY, *SMALLEST)
    for name in HOSPITALS:
        plan = village.mail("coordinator", "c/studies/s1/plan.dsse.json", name)
        village.typed(name, "hospital", "policy", "check", plan, "--home", "node")
    village.typed("coordinator", "coordinator", "study", "run", *at, "--name", "s1")


def release(village: Village) -> None:
    """Draw, audit, sign and publish."""
    made = village.typed(
        "coordinator", "coordinator", "release", "create", "--home", "c", "--study", "s1", "--name", "r1"
    )
    if made["verdicts"] != dict.fromkeys(HOSPITALS, "PASS"):
        sys.exit(f"verdicts: {made['verdicts']}")
    village.typed("coordinator", "coordinator", "release", "publish", "--home", "c", "--name", "r1")


def research(village: Village, catalogue: str) -> None:
    """The researcher hears the root key by telephone, and has the rest from the catalogue."""
    root = (village.people["coordinator"].home / "c" / "root.pub").read_text().strip()
    url = f"http://{catalogue}"
    agreed = json.loads(village.other("researcher", sys.executable, "-I", "-c", AGREE, url, "r1").stdout)
    login = ("login", url, "--root", root, "--token", "-")
    village.typed("researcher", *login, typed=f"{agreed['token']}\n".encode())
    village.typed("researcher", "fetch", "r1", "--out", "r1")
    if village.typed("researcher", "verify", "r1")["verified"] is not True:
        sys.exit("the release does not verify")


def ended(village: Village) -> int:
    """How many processes of these users are left; they are ended."""
    left = processes(list(village.people.values()))
    for process in left:
        with suppress(psutil.Error):
            print(f"left: {process.pid} {' '.join(process.cmdline())[:160]}", file=sys.stderr)
            process.kill()
    return len(left)


def looked_at(village: Village, roles: list[Path]) -> dict[str, Any]:
    """Walk the homes."""
    found, counts = faults(list(village.people.values()), roles)
    for fault in found:
        print(fault, file=sys.stderr)
    return {**counts, "faults": len(found)}


def go_on(village: Village, at: tuple[str, ...]) -> None:
    """What comes after admission, to the researcher's folder; every long-running command is then ended."""
    with ExitStack() as stack:
        village.timed("intake", lambda: fill(village))
        village.timed("start", lambda: start(village, stack, at))
        village.timed("study", lambda: study(village))
        village.timed("release", lambda: release(village))
        village.timed("researcher", lambda: research(village, at[5]))


def journey(homes: Path, *, small: bool) -> dict[str, Any]:
    """Play it in an empty folder, which everybody may pass and nobody list."""
    hospitals = HOSPITALS[:1] if small else HOSPITALS
    began = time.monotonic()
    homes.chmod(0o711)
    village = Village(homes, ("coordinator", *hospitals, "researcher"))
    at = ports()
    roles = [homes / "coordinator" / "c", *(homes / name / "node" for name in hospitals)]
    try:
        village.timed("set-up", lambda: admit_all(village, hospitals, at))
        if not small:
            go_on(village, at)
    finally:
        left = ended(village)
    seen = looked_at(village, roles)
    return {
        "users": len(village.people),
        "commands": village.commands,
        "mails": village.mails,
        "seconds": round(time.monotonic() - began, 1),
        "part": village.seconds,
        **seen,
        "left": left,
    }


def main() -> int:
    """Play and print; 1 where something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--small", action="store_true", help="one hospital, until it is admitted; no training")
    parser.add_argument("--work", type=Path, help="empty folder to keep; a temporary one if absent")
    parser.add_argument("--json", action="store_true", help="the result is JSON in any case")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        print("skipped: only root can start processes as other users", file=sys.stderr)
        return 0
    show_programs("benchmarks.users", sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        work = (asked.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        result = journey(work, small=asked.small)
    print(json.dumps(result))
    return int(bool(result["faults"] or result["left"]))


if __name__ == "__main__":
    sys.exit(main())
