"""Health and figures of a running role: on loopback, from its files, and nothing of a patient."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sonoshare_client.node.link import begun, write_link
from sonoshare_client.node.paths import StatePaths
from sonoshare_deploy.coordinator_watch import Fleet
from sonoshare_deploy.keeping import Facts
from sonoshare_deploy.monitor import Monitor, loopback_endpoint
from sonoshare_deploy.monitor_figures import RoleFigures, coordinator_figures, hospital_figures
from sonoshare_deploy.provision import create_coordinator
from sonoshare_deploy.role import Record
from sonoshare_server.consortium.audit_terms import audit_policy
from sonoshare_server.consortium.members import Consortium
from sonoshare_shared.errors import InputError
from sonoshare_shared.events import EventLog
from sonoshare_shared.state import write_state

NOW = datetime.now(UTC)
EVERY_HOSPITAL_FIGURE = {
    "sonoshare_healthy",
    "sonoshare_started_time_seconds",
    "sonoshare_part_running",
    "sonoshare_part_restarts",
    "sonoshare_requests",
    "sonoshare_refusals",
    "sonoshare_answers",
    "sonoshare_link_connected",
}
"""Whoever adds one asks first what it, and the moment at which it changes, tells about a patient."""


def record(path: Path, role: str, **parts: bool) -> None:
    facts = {name: Facts(running=runs, since=NOW, restarts=3) for name, runs in parts.items()}
    write_state(path, Record(role, os.getpid(), NOW, "mark", facts))


@contextmanager
def served(figures: RoleFigures) -> Iterator[str]:
    monitor = Monitor("127.0.0.1", 0, figures)
    thread = threading.Thread(target=monitor.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{monitor.server_port}"
    finally:
        monitor.shutdown()
        monitor.server_close()
        thread.join()


def values(url: str) -> dict[tuple[str, ...], float]:
    text = httpx.get(f"{url}/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def state(tmp_path: Path) -> StatePaths:
    paths = StatePaths(tmp_path)
    record(paths.agent_run_path, "agent", agent=True, courier=True)
    return paths


def test_a_role_is_healthy_while_it_has_a_pulse_and_all_its_parts_run(state: StatePaths) -> None:
    with served(hospital_figures(state)) as url:
        answer = httpx.get(f"{url}/healthz")
        assert (answer.status_code, answer.json()) == (
            200,
            {"healthy": True, "parts": {"agent": True, "courier": True}},
        )
        record(state.agent_run_path, "agent", agent=True, courier=False)
        assert httpx.get(f"{url}/healthz").status_code == 503
        record(state.agent_run_path, "agent", agent=True, courier=True)
        os.utime(state.agent_run_path, (0, time.time() - 60))
        assert httpx.get(f"{url}/healthz").status_code == 503
        state.agent_run_path.unlink()
        assert httpx.get(f"{url}/healthz").json() == {"healthy": False, "parts": {}}


def test_a_hospitals_figures_count_what_came_was_refused_and_left(state: StatePaths) -> None:
    log = EventLog(state.events_path)
    for kind, fields in (
        ("request", {"request": "train", "study": "s1", "round": 1}),
        ("request", {"request": "audit"}),
        ("request", {"request": "train"}),
        ("refused", {"error": "PolicyError", "reason": "no"}),
        ("answered", {"charged": True}),
    ):
        log.record(kind, **fields)
    write_link(state.link_path, begun(state.link_path, "localhost:1", Path("ca.crt")))
    with served(hospital_figures(state)) as url:
        found = values(url)
        assert found["sonoshare_requests_total", "train"] == 2
        assert found["sonoshare_requests_total", "audit"] == 1
        assert found["sonoshare_refusals_total", "PolicyError"] == 1
        assert found["sonoshare_answers_total",] == 1
        assert found["sonoshare_part_restarts_total", "courier"] == 3
        assert found["sonoshare_link_connected",] == 0
        log.record("answered", charged=False)
        assert values(url)["sonoshare_answers_total",] == 2


def test_what_has_a_private_moment_changes_no_figure_of_a_hospital(state: StatePaths) -> None:
    """When a training ended, or failed after its charge, grows with the number of patients."""
    log = EventLog(state.events_path)
    with served(hospital_figures(state)) as url:
        before = httpx.get(f"{url}/metrics").text
        for kind in ("trained", "audited", "voted", "signed", "failed", "repeated"):
            log.record(kind, study="s1", round=1, error="MemoryError")
        assert httpx.get(f"{url}/metrics").text == before
        names = {family.name for family in text_string_to_metric_families(before)}
    assert names == EVERY_HOSPITAL_FIGURE


def test_a_coordinators_figures_tell_rounds_hospitals_and_the_certificates_end(tmp_path: Path) -> None:
    home = create_coordinator(tmp_path / "C", Consortium("c", audit_policy(1.0, 0.6, 0.97, 0.001)), ("localhost",))
    record(home.run_path, "coordinator", superlink=True, catalogue=True)
    for study in ("s1", "s2"):
        log = EventLog(home.studies_path / study / "events.jsonl")
        (home.studies_path / study).mkdir(parents=True)
        log.record("update", hospital="north", round=1, losses=[0.5])
        log.record("missing", hospital="south", round=1)
        log.record("aggregated", round=1, hospitals=["north"])
    write_state(home.fleet_path, Fleet(datetime.now(UTC), ("north", "south"), {}))
    with served(coordinator_figures(home)) as url:
        found = values(url)
        assert httpx.get(f"{url}/healthz").status_code == 200
    assert found["sonoshare_rounds_total",] == 2
    assert found["sonoshare_updates_total", "north"] == found["sonoshare_silences_total", "south"] == 2
    assert found["sonoshare_hospitals_online",] == 2
    days = (found["sonoshare_expiry_time_seconds", "server-certificate"] - time.time()) / 86_400
    assert 80 < days < 91


def test_only_this_machine_asks_and_only_by_its_own_name(state: StatePaths) -> None:
    for address in ("0.0.0.0:9095", "example.org:9095", "192.168.1.4:9095"):
        with pytest.raises(InputError, match="not a loopback address"):
            loopback_endpoint(address)
    assert loopback_endpoint("127.0.0.1:9095") == ("127.0.0.1", 9095)
    with served(hospital_figures(state)) as url:
        assert httpx.get(f"{url}/metrics", headers={"Host": "evil.example:80"}).status_code == 403
        assert httpx.get(f"{url}/metrics", headers={"Host": "localhost:9095"}).status_code == 200
        assert httpx.get(f"{url}/../../etc/passwd").status_code == 404
        assert httpx.post(f"{url}/metrics").status_code == 501
