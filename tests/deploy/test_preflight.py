"""Preflight: each look can be made to fail, says what helps, and hides no other; the commands end as scripts expect."""

import json
import socket
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from tests.deploy.command import sonoshare

from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy import Policy
from sonoshare_client.own_eyes.fit import VaultState
from sonoshare_client.own_eyes.key_overview import KeyLine
from sonoshare_client.own_eyes.overview import LedgerOverview
from sonoshare_deploy.addresses import free_ports
from sonoshare_deploy.certificates import Expiry
from sonoshare_deploy.preflight import coordinator, hospital, machine
from sonoshare_deploy.preflight.finding import Finding, first_bad
from sonoshare_deploy.provision import create_coordinator
from sonoshare_privacy.budget import Budget, Spent
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
GIB = machine.GIB
HOME = Path("/srv/home")


def typed(*words: object) -> str:
    return " ".join(("sonoshare", *map(str, words)))


def key(name: str, *, rostered: bool | None = None) -> KeyLine:
    return KeyLine(name, "", "", NOW, rostered)


def vault(trained: int, held_out: int, pairs: int = 0) -> Finding:
    return hospital.vault(VaultState(trained, held_out, pairs, pairs, 0), Policy(), typed)


def spent(epsilon: float | None) -> Finding:
    of = None if epsilon is None else Spent(epsilon, 1e-3)
    broken = "entry 3 is not of this chain" if of is None else ""
    return hospital.ledger(LedgerOverview(of, False, Budget(20.0, 1e-3), (), None, (), broken), typed)


def counts(waiting: int | None, older: int = 0, other: int = 0) -> Finding:
    return hospital.quarantine({"quarantined": waiting, "older_rules": older, "other_policy": other}, typed)


def mode(bits: int, *, secret: bool = False, writable: bool = True) -> Finding:
    return machine.permissions([machine.Mode(HOME, bits, secret, writable)])


def members(admitted: str, registered: str, online: str | None) -> Finding:
    connected = None if online is None else tuple(online)
    return coordinator.members(tuple(admitted), tuple(registered), connected, "sonoshare coordinator invite")


def version(have: str | None, python: str = "3.11.9") -> Finding:
    return machine.versions(python, "<3.12,>=3.11", ["torch==2.13.0"], {"torch": have})


def tls(*, matches: bool = True, here_alone: bool = False) -> Finding:
    names = ("fed.example.org",)
    return coordinator.certificate(matches=matches, names=names, here_alone=here_alone, renew="renew")


@pytest.mark.parametrize(
    ("finding", "level", "words"),
    [
        (version("2.13.0+cpu"), "ok", "torch 2.13.0+cpu"),
        (version("2.12.1"), "fail", "torch 2.12.1 is not ==2.13.0"),
        (version(None), "fail", "torch is not installed"),
        (version("2.13.0", "3.13.1"), "fail", "Python 3.13.1 is not"),
        (machine.memory(8 * GIB, 16 * GIB), "ok", "8.0 of 16.0 GiB free"),
        (machine.memory(2 * GIB, 16 * GIB), "warn", "2.0 of"),
        (machine.memory(GIB // 2, 16 * GIB), "fail", "0.5 of"),
        (machine.disk(50 * GIB, HOME), "ok", "50.0 GiB free"),
        (machine.disk(5 * GIB, HOME), "warn", "5.0 GiB"),
        (machine.disk(GIB // 2, HOME), "fail", "0.5 GiB"),
        (machine.device("cpu", None), "ok", "cpu"),
        (machine.device("cuda:0", GIB), "warn", "1.0 GiB of it free"),
        (mode(0o700), "ok", "for their owner alone"),
        (mode(0o750), "warn", "open to its group (750): chmod 700 /srv/home"),
        (mode(0o755), "fail", "open to others (755): chmod 700"),
        (mode(0o640, secret=True), "fail", "open to others (640): chmod 600"),
        (mode(0o700, writable=False), "fail", "cannot read and write /srv/home"),
        (machine.umask(0o027), "ok", "027"),
        (machine.umask(0o022), "warn", "022): umask 077"),
        (machine.clock(NOW, None, "the log"), "ok", "nothing yet"),
        (machine.clock(NOW, date(2026, 11, 30), "the log"), "ok", "2026-11-30"),  # a day may begin earlier elsewhere
        (machine.clock(NOW, date(2026, 12, 24), "the log"), "fail", "the log is of 2026-12-24 already"),
        (machine.proxy(None, bypassed=True), "ok", "HTTPS_PROXY is not set"),
        (machine.proxy("p:3128", bypassed=True), "ok", "NO_PROXY"),
        (machine.ending("roster", date(2027, 6, 1), 180, 60, "r"), "ok", "180 days left"),
        (machine.ending("roster", date(2026, 12, 1), 2, 60, "enrol again"), "warn", "2 days left: enrol again"),
        (machine.ending("roster", date(2026, 11, 1), -28, 60, "enrol again"), "fail", "ended on 2026-11-01"),
        (hospital.keys([key("identity", rostered=True), key("vault")]), "ok", "none expires"),
        (hospital.keys([key("identity")]), "fail", "the vault's key is not where"),
        (hospital.keys([key("node", rostered=False), key("vault")]), "fail", "another node key"),
        (hospital.keys([key("next node", rostered=False), key("vault")]), "warn", "under way"),
        (vault(100, 40), "ok", "100 patients trained, 40 held out; the rules ask for 10 and 3"),
        (vault(0, 0), "warn", "empty: sonoshare hospital ingest FOLDER"),
        (vault(9, 5), "fail", "cohort.minimum_trained asks for 10"),
        (vault(900, 400), "fail", "delta 0.001 is not below 1 / 1300"),
        (vault(100, 40, pairs=1), "warn", "1 patients wait"),
        (hospital.declared(VaultState(100, 40, 0, 0, 0), Policy()), "ok", "100 trained"),
        (hospital.declared(VaultState(400, 40, 0, 0, 0), Policy()), "warn", "set cohort.nominal"),
        (counts(None), "ok", "nothing was taken in"),
        (counts(3), "warn", "3 wait for a person: sonoshare hospital quarantine list"),
        (counts(0, older=2), "warn", "older rules: sonoshare hospital ingest --again"),
        (counts(0, other=2), "warn", "other [intake] lines"),
        (counts(0), "ok", "nothing waits"),
        (spent(3.0), "ok", "3.000 of 20"),
        (spent(18.5), "warn", "little is left"),
        (spent(None), "fail", "entry 3 is not of this chain: sonoshare hospital ledger"),
        (hospital.evidence(None), "ok", "none"),
        (hospital.evidence("ab" * 32), "fail", "misconduct (abababababab)"),
        (hospital.port_in(None, free=True, receiving=False), "ok", "none is needed"),
        (hospital.port_in("port 11112", free=True, receiving=False), "ok", "free for the receiver"),
        (hospital.port_in("port 11112", free=False, receiving=True), "ok", "the receiver runs"),
        (hospital.port_in("port 11112", free=False, receiving=False), "fail", "busy"),
        (hospital.no_way(typed), "warn", "sonoshare hospital join INVITATION"),
        (coordinator.port(coordinator.Port("fleet", "h:1", taken=False), running=False), "ok", "is free"),
        (coordinator.port(coordinator.Port("fleet", "h:1", taken=True), running=True), "ok", "answers"),
        (coordinator.port(coordinator.Port("fleet", "h:1", taken=False), running=True), "fail", "nothing answers"),
        (coordinator.port(coordinator.Port("fleet", "h:1", taken=True), running=False), "fail", "--fleet HOST:PORT"),
        (tls(), "ok", "fed.example.org"),
        (tls(matches=False), "fail", "not of the key beside it"),
        (tls(here_alone=True), "warn", "this machine alone"),
        (coordinator.root_key(here=True, members=0), "ok", "until hospitals are admitted"),
        (coordinator.root_key(here=True, members=2), "warn", "move root/root.key"),
        (coordinator.root_key(here=False, members=2), "ok", "kept elsewhere"),
        (members("ab", "ab", "ab"), "ok", "2 admitted, all online"),
        (members("", "", None), "warn", "none is admitted yet: sonoshare coordinator invite"),
        (members("ab", "a", "a"), "fail", "b: admitted, and not let in"),
        (members("ab", "ab", "a"), "warn", "b not online"),
        (coordinator.invitations({"a": NOW}, NOW, "invite"), "warn", "a: too late: invite --id a"),
        (coordinator.invitations({"a": NOW + timedelta(1)}, NOW, "invite"), "ok", "a may still answer"),
    ],
    ids=lambda value: value.check if isinstance(value, Finding) else None,
)
def test_a_look_says_how_it_stands_and_what_helps(finding: Finding, level: str, words: str) -> None:
    line = f"{finding.found}: {finding.remedy}" if finding.remedy else finding.found
    assert finding.level == level, line
    assert words in line
    assert bool(finding.remedy) is (level != "ok")
    assert "\n" not in line


def test_certificates_are_told_before_they_end() -> None:
    ends = [Expiry("server-certificate", NOW + timedelta(days), "renew") for days in (80, 20, -1)]
    assert [one.level for one in coordinator.endings(ends, NOW)] == ["ok", "warn", "fail"]


def test_a_failure_decides_before_a_warning_and_a_warning_only_if_asked() -> None:
    warn, fail = Finding("a", "warn", "x", "y"), Finding("b", "fail", "x", "y")
    assert first_bad([warn, fail], strict=False) is fail
    assert first_bad([warn, fail], strict=True) is fail
    assert first_bad([warn], strict=False) is None
    assert first_bad([warn], strict=True) is warn


def test_a_coordinator_is_checked_from_its_folder(tmp_path: Path) -> None:
    home = create_coordinator(tmp_path / "c", Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001)), ("127.0.0.1",))
    assert home.path.stat().st_mode & 0o777 == 0o700
    home.path.chmod(0o755)
    home.log_path.write_text("no entry\n")
    home.certificate_key_path.write_text("no key\n")
    free = [f"127.0.0.1:{port}" for port in free_ports(2)]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        ports = ("--fleet", busy, "--control", free[0], "--catalogue", free[1])
        run = sonoshare("coordinator", "check", "--home", home.path, *ports, "--json")
        quiet = sonoshare("coordinator", "check", "--home", home.path, *ports, "--quiet")
    said = json.loads(run.stdout)
    found = {one["check"]: one["level"] for one in said["findings"]}
    assert (run.returncode, said["ok"], said["remedy"]) == (1, False, f"chmod 700 {home.path}")
    assert {name for name, level in found.items() if level == "fail"} == {"permissions", "log", "TLS", "port: fleet"}
    assert found["clock"] == found["port: control"] == "ok"
    assert {line.split()[0] for line in quiet.stdout.splitlines()} <= {"warn", "fail"}


def test_a_broken_node_hides_no_look_behind_another(tmp_path: Path) -> None:
    home = NodeHome.create(tmp_path / "n", "north")
    home.vault_key_path.unlink()
    home.policy_path.write_text("nonsense = [")
    home.node_key_path.chmod(0o644)
    run = sonoshare("hospital", "check", "--home", home.path, "--json")
    assert run.returncode == 1
    found = {one["check"]: one["level"] for one in json.loads(run.stdout)["findings"]}
    assert {name for name, level in found.items() if level == "fail"} == {
        "permissions", "keys", "rules", "vault", "declared", "quarantine", "ledger", "ports in"
    }  # fmt: skip
    assert found["evidence"] == found["proxy"] == "ok"
