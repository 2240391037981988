"""Where each release stands, from candidate to catalogue: what every hospital said, and whom it waits for.

| state | what it waits for |
|---|---|
| ``drawing`` | the drawing, or whoever goes on with it |
| ``audits`` | verdicts of the hospitals that took part |
| ``refused`` | nothing: a hospital did not say PASS |
| ``signatures`` | signatures of the same hospitals |
| ``sealing`` | whoever runs ``release create`` again |
| ``sealed``, ``unpublished`` | the coordinator, who may publish it |
| ``published``, ``revoked`` | nothing |

Verdicts are read as hospitals signed them: their private figures, charged to their ledgers before they left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sonoshare_deploy.coordinator_console.said import told
from sonoshare_server.consortium.publication import catalogue_states
from sonoshare_server.federation.closing import whom_to_ask
from sonoshare_server.federation.statements import stored_envelopes
from sonoshare_server.home import CoordinatorHome, Study
from sonoshare_server.queue import actions
from sonoshare_server.release.candidates import said_of, why_silent
from sonoshare_shared.errors import InputError
from sonoshare_shared.printable import printable
from sonoshare_shared.protocol.documents import AuditStatement
from sonoshare_shared.protocol.documents.release import ReleaseManifest

_DRAWING: Final = ".drawing"
_WAITS: Final = {
    "drawing": "the drawing",
    "sealing": "whoever runs its creation again",
    "sealed": "you: it can be published",
    "unpublished": "you: it can be published again",
}


@dataclass(frozen=True)
class Spoken:
    """What one hospital has said of a candidate.

    Attributes:
        hospital: who.
        verdict: PASS, FAIL or INCONCLUSIVE; empty where it has given none.
        words: why, in its own words, or why there is none.
        signed: whether it has signed the release.
        spent: epsilon of this study at this hospital after the audit, as it signed; None without a verdict.
        delta: at which that holds.
    """

    hospital: str
    verdict: str
    words: str
    signed: bool
    spent: float | None = None
    delta: float | None = None


@dataclass(frozen=True)
class ReleaseView:
    """A release, or a candidate on its way.

    Attributes:
        release: its name.
        study: of which it is drawn.
        state: one word, see the module.
        waits: for whom or what, in words; empty for nothing.
        runs: what a command does about it now, in words; empty for nothing.
        spoken: what each hospital that is asked has said.
        reason: why it was revoked.
    """

    release: str
    study: str
    state: str
    waits: str
    runs: str
    spoken: tuple[Spoken, ...] = ()
    reason: str = ""

    @property
    def may_publish(self) -> bool:
        """Whether it can be shown in the catalogue."""
        return self.state in {"sealed", "unpublished"}

    @property
    def may_revoke(self) -> bool:
        """Whether it was shown, and nobody took it back."""
        return self.state in {"published", "unpublished"}

    @property
    def goes_on(self) -> bool:
        """Whether running its creation again leads further."""
        return self.state in {"drawing", "audits", "signatures", "sealing"} and not self.runs


def release_views(home: CoordinatorHome) -> list[ReleaseView]:
    """Every release and candidate of a coordinator, by study and name."""
    sealed = {path.parent.name: path for path in home.sealed_manifests()}
    shown = catalogue_states(home, sealed)
    found = [_view(home, study, name, sealed, shown) for study in home.studies() for name in _names(study)]
    known = {one.release for one in found}
    found += [_without_candidate(path, shown) for name, path in sealed.items() if name not in known]
    return found


def release_view(home: CoordinatorHome, release: str) -> ReleaseView:
    """One of them.

    Raises:
        InputError: there is none of this name.
    """
    for view in release_views(home):
        if view.release == release:
            return view
    raise InputError("there is no such release or candidate", remedy="see the list of releases")


def _names(study: Study) -> list[str]:
    folders = [path.name for path in study.candidates_path.glob("*") if path.is_dir()]
    drawn = {name for name in folders if not name.startswith(".")}
    drawing = {name[1:].removesuffix(_DRAWING) for name in folders if name.startswith(".") and name.endswith(_DRAWING)}
    return sorted(drawn | drawing)


def _view(
    home: CoordinatorHome,
    study: Study,
    release: str,
    sealed: Mapping[str, Path],
    shown: Mapping[str, tuple[str, str]],
) -> ReleaseView:
    candidate, running = study.candidate(release), [one for one in actions.running(study) if one.release == release]
    runs = ", ".join(action.words for action in running)
    if not candidate.listing_path.exists():
        return ReleaseView(release, study.plan.study, "drawing", _WAITS["drawing"], runs)
    asked, said = whom_to_ask(home, study), said_of(home, study, release)
    signed = stored_envelopes(candidate.signatures_path, asked)
    events = study.events()
    spoken = tuple(_spoken(h, release, said.get(h), events, signed=h in signed) for h in asked)
    state, reason = shown.get(release, ("sealed", "")) if release in sealed else (_state_of(spoken), "")
    return ReleaseView(release, study.plan.study, state, _waits(state, spoken), runs, spoken, printable(reason))


def _state_of(spoken: Sequence[Spoken]) -> str:
    """Of a candidate that is not sealed. A verdict that is no PASS ends it, whoever else is silent."""
    if any(one.verdict not in {"PASS", ""} for one in spoken):
        return "refused"
    if any(not one.verdict for one in spoken):
        return "audits"
    return "sealing" if all(one.signed for one in spoken) else "signatures"


def _waits(state: str, spoken: Sequence[Spoken]) -> str:
    if state == "audits":
        return f"verdicts of {', '.join(one.hospital for one in spoken if not one.verdict)}"
    if state == "signatures":
        return f"signatures of {', '.join(one.hospital for one in spoken if not one.signed)}"
    return _WAITS.get(state, "")


def _spoken(
    hospital: str,
    release: str,
    statement: AuditStatement | None,
    events: Sequence[Mapping[str, object]],
    *,
    signed: bool,
) -> Spoken:
    if statement is None:
        return Spoken(hospital, "", told(why_silent(events, hospital, release)), signed)
    said = statement.predicate
    words = printable("; ".join(said.reasons)) or "no reason given"
    return Spoken(hospital, said.verdict, words, signed, said.spent_epsilon, said.spent_delta)


def _without_candidate(manifest: Path, shown: Mapping[str, tuple[str, str]]) -> ReleaseView:
    """A sealed release whose study is not here any more."""
    name, study = manifest.parent.name, ReleaseManifest.from_bytes(manifest.read_bytes()).study
    state, reason = shown.get(name, ("sealed", ""))
    return ReleaseView(name, study, state, _WAITS.get(state, ""), "", (), printable(reason))
