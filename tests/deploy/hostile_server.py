"""A coordinator that has every key of a coordinator and keeps none of its promises: it may show each hospital
another log, leave things out, and pass on whatever views it likes."""

from datetime import UTC, datetime
from typing import Any

from tests.deploy.in_process import World

from sonoshare_shared.protocol.canonical import canonical_bytes, sha256_hex
from sonoshare_shared.protocol.documents.exchange import (
    Answer,
    KeysRequest,
    Refusal,
    SignRequest,
    TrainRequest,
    answer_in,
    encode_frame,
)
from sonoshare_shared.protocol.documents.plan import PLAN_PAYLOAD_TYPE, StudyPlan
from sonoshare_shared.protocol.documents.view import LogPart, Shown
from sonoshare_shared.protocol.envelope import Envelope
from sonoshare_shared.protocol.log_index import ledger_head_entry, model_entry, plan_entry
from sonoshare_shared.protocol.translog import TransparencyLog
from sonoshare_shared.protocol.views import SeenView, verified_view


class HostileLog(TransparencyLog):
    """A log in memory of nobody's promises: anything is appended."""

    def __init__(self, world: World, entries: tuple[bytes, ...] | tuple[()] = ()) -> None:
        path = world.home.path / f"hostile-{len(list(world.home.path.glob('hostile-*')))}.jsonl"
        super().__init__(path, world.home.key, lambda: datetime.now(UTC))
        for line in entries:
            self._take_up(line)

    def append(self, entry: dict[str, Any]) -> int:
        self._take_up(canonical_bytes(entry))
        return len(self._entries) - 1


class HostileServer:
    """Shows each hospital the log that it has chosen for it.

    Args:
        world: the consortium.
        logs: a log for each hospital; the same object where they see the same.
    """

    def __init__(self, world: World, logs: dict[str, HostileLog]) -> None:
        self.world, self.logs = world, logs
        self.views: dict[str, SeenView] = {}

    @classmethod
    def with_one_log(cls, world: World) -> "HostileServer":
        """One that shows both hospitals the coordinator's own log, and goes on from there."""
        log = HostileLog(world, world.home.log().entries)
        return cls(world, dict.fromkeys(world.nodes, log))

    def answer(
        self, hospital: str, document: KeysRequest | TrainRequest | SignRequest, payload: bytes = b""
    ) -> Answer | Refusal:
        """What a hospital answers; its view, if it gives one, is kept."""
        answer = answer_in(self.world.fleet.agents[hospital].answer(encode_frame(document, payload)), hospital)
        if isinstance(answer, Answer):
            self.views[hospital] = verified_view(answer.view, hospital, self.world.home.roster)
        return answer

    def introduce(self, *hospitals: str) -> None:
        """Ask hospitals for their views, each with the challenges known so far, and log their ledger heads."""
        for hospital in hospitals:
            challenges = {name: seen.view.challenge for name, seen in self.views.items() if name != hospital}
            answer = self.answer(hospital, KeysRequest(log=self.part(hospital), challenges=challenges))
            if isinstance(answer, Answer):
                self.log_head(hospital)

    def log_head(self, hospital: str) -> None:
        """Log a hospital's ledger head in the log that it is shown."""
        seen = self.views[hospital]
        entry = ledger_head_entry(seen.ledger, seen.view.ledger)
        if self.logs[hospital].index_of(entry) is None:
            self.logs[hospital].append(entry)

    def log_step(self, plan: StudyPlan, adapter: bytes, number: int = 1, *hospitals: str) -> None:
        """Log a plan and the model of a round, in the logs of some hospitals or of all."""
        for hospital in hospitals or self.logs:
            for entry in (plan_entry(plan.study, plan.digest()), model_entry(plan.study, number, sha256_hex(adapter))):
                if self.logs[hospital].index_of(entry) is None:
                    self.logs[hospital].append(entry)

    def part(self, hospital: str) -> LogPart:
        """The log of a hospital from where it stands."""
        seen = self.views.get(hospital)
        return self.logs[hospital].part(0 if seen is None else min(seen.log_size, len(self.logs[hospital])))

    def shown(self, hospital: str, **views: Envelope) -> Shown:
        """What a hospital is shown; ``views`` take the place of the newest."""
        newest = {name: seen.envelope for name, seen in self.views.items() if name != hospital}
        return Shown(log=self.part(hospital), views=newest | views)

    def train(
        self, hospital: str, plan: StudyPlan, adapter: bytes, number: int = 1, **views: Envelope
    ) -> Answer | Refusal:
        """Ask a hospital to train from an adapter; its ledger head is logged."""
        request = TrainRequest(
            plan=Envelope.sign(PLAN_PAYLOAD_TYPE, plan.canonical(), self.world.home.key),
            round=number,
            adapter_digest=sha256_hex(adapter),
            shown=self.shown(hospital, **views),
        )
        answer = self.answer(hospital, request, adapter)
        if isinstance(answer, Answer):
            self.log_head(hospital)
        return answer

    def sign(self, hospital: str, manifest: bytes) -> Answer | Refusal:
        """Ask a hospital to sign a manifest."""
        request = SignRequest(manifest_digest=sha256_hex(manifest), shown=self.shown(hospital))
        return self.answer(hospital, request, manifest)
