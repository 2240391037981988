"""What a running role tells its own site's monitoring: figures from the files of its folder, and from nothing else.

What a hospital's figures hold: that it runs, restarts of its parts, how the link stands, how many requests came by
kind, how many were refused by kind, how many answers left. Those are public, and so are the moments at which they
change: a request's arrival, a refusal before the charge, an answer at its slot. Left out is what has a private moment:
when a training ended, or a charged request failed. No patient, no count of patients, no budget.

What a coordinator's hold: rounds, updates, refusals and silences by hospital, who was online, when certificates end.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sonoshare_client.node.link import read_link
from sonoshare_client.node.paths import StatePaths
from sonoshare_deploy.certificates import expiries
from sonoshare_deploy.coordinator_watch import read_fleet
from sonoshare_deploy.keeping import Facts
from sonoshare_deploy.role import Record, has_pulse, read_record
from sonoshare_server.paths import CoordinatorPaths
from sonoshare_shared.errors import SonoShareError
from sonoshare_shared.events import Follower

_HOSPITAL_COUNTS: Final = {
    "request": ("requests", "Requests that came, by kind.", "request"),
    "refused": ("refusals", "Requests refused before anything was charged, by kind of error.", "error"),
    "answered": ("answers", "Answers that left.", None),
}
_COORDINATOR_COUNTS: Final = {
    "aggregated": ("rounds", "Rounds that were closed.", None),
    "update": ("updates", "Updates that were taken, by hospital.", "hospital"),
    "refused": ("refusals", "Answers that were refusals or could not be used, by hospital.", "hospital"),
    "missing": ("silences", "Questions that a hospital did not answer in time.", "hospital"),
}
Counts = Mapping[str, tuple[str, str, str | None]]


class EventCounts:
    """Counts of events, kept up to date from logs that grow.

    Args:
        logs: gives the logs there are now.
        kinds: for each kind of event: name of its figure, what that is, and the field it is told apart by.
    """

    def __init__(self, logs: Callable[[], Iterable[Path]], kinds: Counts) -> None:
        self._logs, self._kinds = logs, kinds
        self._followers: dict[Path, Follower] = {}
        self._counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}

    def figures(self) -> Iterator[Metric]:
        """One figure for each kind."""
        for path in self._logs():
            for event in self._followers.setdefault(path, Follower(path, from_start=True)).new():
                self._count(event)
        for kind, (name, meaning, label) in self._kinds.items():
            family = CounterMetricFamily(f"sonoshare_{name}", meaning, labels=[label] if label else [])
            for value, count in sorted(self._counts[kind].items()):
                family.add_metric([value] if label else [], count)
            yield family

    def _count(self, event: Mapping[str, Any]) -> None:
        kind = str(event["kind"])
        if kind in self._kinds:
            label = self._kinds[kind][2]
            self._counts[kind][str(event.get(label, "")) if label else ""] += 1


@dataclass(frozen=True)
class Health:
    """Whether a role is well.

    Attributes:
        healthy: it has a pulse, and all its parts run.
        parts: whether each of them runs.
    """

    healthy: bool
    parts: dict[str, bool]


def health_of(records: Iterable[Path]) -> Health:
    """How the roles of some records are: none is not healthy."""
    present = {path: record for path in records if (record := read_record(path)) is not None}
    parts = {name: facts.running for record in present.values() for name, facts in record.parts.items()}
    pulse = bool(present) and all(has_pulse(path) for path in present)
    return Health(pulse and bool(parts) and all(parts.values()), parts)


class RoleFigures(Collector):
    """Figures of a role.

    Args:
        records: of the role; those that are there count.
        counts: of its events.
        more: what only this kind of role has, given the counts.
    """

    def __init__(
        self, records: Iterable[Path], counts: EventCounts, more: Callable[[EventCounts], Iterable[Metric]]
    ) -> None:
        self.records, self._counts, self._more = tuple(records), counts, more

    def collect(self) -> Iterator[Metric]:
        """All figures, as of now."""
        present = [record for path in self.records if (record := read_record(path)) is not None]
        yield GaugeMetricFamily("sonoshare_healthy", "1 if all parts run.", value=float(self.health.healthy))
        yield from _of_parts(present)
        yield from self._counts.figures()
        yield from self._more(self._counts)

    @property
    def health(self) -> Health:
        """How it is."""
        return health_of(self.records)


def _of_parts(records: Iterable[Record]) -> Iterator[Metric]:
    started = GaugeMetricFamily("sonoshare_started_time_seconds", "When the role was started.", labels=["role"])
    running = GaugeMetricFamily("sonoshare_part_running", "1 if the part runs.", labels=["part"])
    restarts = CounterMetricFamily("sonoshare_part_restarts", "Restarts since the role started.", labels=["part"])
    parts: dict[str, Facts] = {}
    for record in records:
        started.add_metric([record.role], record.started.timestamp())
        parts |= record.parts
    for name, facts in parts.items():
        running.add_metric([name], float(facts.running))
        restarts.add_metric([name], facts.restarts)
    yield from (started, running, restarts)


def hospital_figures(state: StatePaths) -> RoleFigures:
    """Figures of a hospital's node."""

    def link(_counts: EventCounts) -> Iterator[Metric]:
        seen = read_link(state.link_path)
        connected = seen is not None and seen.state == "connected"
        yield GaugeMetricFamily("sonoshare_link_connected", "1 if the coordinator answers.", value=float(connected))
        if seen is not None and seen.last_contact is not None:
            meaning = "When the coordinator last answered."
            yield GaugeMetricFamily(
                "sonoshare_link_last_contact_time_seconds", meaning, value=seen.last_contact.timestamp()
            )

    counts = EventCounts(lambda: [state.events_path], _HOSPITAL_COUNTS)
    return RoleFigures((state.agent_run_path, state.courier_run_path), counts, link)


def coordinator_figures(paths: CoordinatorPaths) -> RoleFigures:
    """Figures of a coordinator."""

    def more(_counts: EventCounts) -> Iterator[Metric]:
        fleet = read_fleet(paths)
        online = None if fleet is None else fleet.online_at(datetime.now(UTC))
        meaning = "Hospitals whose courier is connected."
        yield GaugeMetricFamily("sonoshare_hospitals_online", meaning, value=len(online or ()))
        yield _expiry_figure(paths)

    counts = EventCounts(lambda: sorted(paths.studies_path.glob("*/events.jsonl")), _COORDINATOR_COUNTS)
    return RoleFigures((paths.run_path,), counts, more)


def _expiry_figure(paths: CoordinatorPaths) -> Metric:
    ends = GaugeMetricFamily("sonoshare_expiry_time_seconds", "When a certificate expires.", labels=["what"])
    with suppress(SonoShareError):  # one that cannot be read has no end; the role's own log says so
        for expiry in expiries(paths, None):
            ends.add_metric([expiry.name], expiry.until.timestamp())
    return ends
