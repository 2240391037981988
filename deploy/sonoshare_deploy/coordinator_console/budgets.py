"""What studies have cost hospitals' patients, as far as a coordinator may know it.

A hospital's ledger is its own. Here is what follows from what it was asked for (``queue.spending``), at most, and what
it has itself signed in a verdict, which is public with the release.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sonoshare_deploy.coordinator_console.release_view import ReleaseView
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.queue.spending import spent_at_most


@dataclass(frozen=True)
class Signed:
    """What a hospital has said of its ledger.

    Attributes:
        hospital: who.
        epsilon: of the study, training and audits composed, after its last verdict.
        delta: at which that holds.
        release: the release that it spoke of.
    """

    hospital: str
    epsilon: float
    delta: float
    release: str


@dataclass(frozen=True)
class StudyBudget:
    """A study's cost.

    Attributes:
        study: its name.
        hospitals: of its plan.
        asked: epsilon that each hospital may have charged by now, at most.
        delta: of the plan.
        rounds_done: rounds that are closed.
        rounds: of the plan.
        signed: what hospitals have said themselves.
    """

    study: str
    hospitals: tuple[str, ...]
    asked: float
    delta: float
    rounds_done: int
    rounds: int
    signed: tuple[Signed, ...]


class Budgets:
    """The cost of every study; it is worked out anew only where a study's events have grown.

    Args:
        home: the coordinator's folder.
    """

    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home
        self._known: dict[str, tuple[tuple[int, int], float]] = {}

    def budgets(self, releases: Mapping[str, list[ReleaseView]]) -> list[StudyBudget]:
        """Every study's cost.

        Args:
            releases: by study.
        """
        return [self._budget(study, releases.get(study.plan.study, [])) for study in self._home.studies()]

    def _budget(self, study: Study, releases: list[ReleaseView]) -> StudyBudget:
        plan, said = study.plan, dict[str, Signed]()
        for release in releases:
            for one in release.spoken:
                # A ledger only grows: of several verdicts the one that says more is the later.
                if one.spent is not None and one.delta is not None and one.spent >= _epsilon(said.get(one.hospital)):
                    said[one.hospital] = Signed(one.hospital, one.spent, one.delta, release.release)
        return StudyBudget(
            study=plan.study,
            hospitals=tuple(sorted(plan.cohorts)),
            asked=self._asked(study),
            delta=plan.mechanism.delta,
            rounds_done=study.state.rounds_done,
            rounds=plan.rounds,
            signed=tuple(said[hospital] for hospital in sorted(said)),
        )

    def _asked(self, study: Study) -> float:
        events = study.events_path.stat().st_size if study.events_path.exists() else 0
        grown = (events, study.state.rounds_done)
        known = self._known.get(study.plan.study)
        if known is None or known[0] != grown:
            known = self._known[study.plan.study] = (grown, spent_at_most(study))
        return known[1]


def _epsilon(signed: Signed | None) -> float:
    return 0.0 if signed is None else signed.epsilon
