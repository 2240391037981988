"""Who took part in a study: what the log says of each round when it was closed.

    {"kind": "closed-round", "study": "s1", "round": 2, "hospitals": ["north", "west"], "adapter": "9f3c..."}

The entry names the hospitals whose updates are in the new model, and the new model by its digest. It is logged before
anybody can be asked to start from that model, once for a study and round (``log_index``). A hospital *took part* in a
study if an entry names it. Logs of earlier days have no such entries: then nobody is known to have taken part, and
whoever asks must mean every hospital, as those days did.

Not promised: that an update of a hospital that is *not* named is not in the model. The coordinator could use one and
leave its hospital out; that hospital's own charge covers whatever becomes of what it sent.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from sonoshare_shared.errors import IntegrityError
from sonoshare_shared.protocol.canonical import canonical_bytes
from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, added
from sonoshare_shared.protocol.log_index import CLOSED_ROUND_ENTRY, Entry, LogIndex


class ClosedRound(Document):
    """A round that was closed.

    Attributes:
        study: the study.
        round: the round, from 1.
        hospitals: whose updates are in the new model, sorted; none where a masked round was void, and the model stayed.
        adapter: sha256 of the new model's adapter.
        sum: sha256 of the sum that the coordinator stepped by, where hospitals pool their noise; else None.
    """

    kind: Literal["closed-round"] = CLOSED_ROUND_ENTRY
    study: Identifier
    round: Annotated[int, Field(ge=1)]
    hospitals: tuple[Identifier, ...]
    adapter: HexDigest
    sum: HexDigest | None = added()

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if list(self.hospitals) != sorted(set(self.hospitals)):
            raise ValueError("hospitals must be sorted, each once")
        return self

    @property
    def entry(self) -> Entry:
        """As it stands in the log."""
        return self.model_dump(mode="json")


def closed_rounds(index: LogIndex, study: str) -> dict[int, ClosedRound]:
    """The closed rounds of a study, by their number.

    Raises:
        IntegrityError: the log closes a round in two ways, or says so in words that are none.
    """
    entries = index.closed(study)
    unclear = IntegrityError(f"the log does not say who took part in {study}", remedy="tell the other hospitals")
    try:
        closed = [ClosedRound.model_validate_json(canonical_bytes(entry)) for entry in entries]
    except ValidationError as error:
        raise unclear from error
    # The index keeps one entry a round by how the round is *written*: "1" beside 1 would close one round twice.
    if [canonical_bytes(each.entry) for each in closed] != [canonical_bytes(entry) for entry in entries]:
        raise unclear
    return {each.round: each for each in closed}


def took_part(index: LogIndex, study: str, rounds: int) -> tuple[str, ...] | None:
    """Hospitals that took part in a study, sorted.

    Args:
        index: of the log.
        study: the study.
        rounds: of its plan.

    Returns:
        Every hospital that an entry names; None where the log does not close every round of the plan, or names nobody.

    Raises:
        IntegrityError: as `closed_rounds`.
    """
    closed = closed_rounds(index, study)
    if closed.keys() != set(range(1, rounds + 1)):
        return None
    return tuple(sorted({hospital for each in closed.values() for hospital in each.hospitals})) or None


def require_closed_with(index: LogIndex, study: str, number: int, digest: str) -> None:
    """Check that a model is the one that a round was closed with, where the log says.

    Raises:
        IntegrityError: it is another, or as `closed_rounds`.
    """
    closed = closed_rounds(index, study).get(number)
    if closed is not None and closed.adapter != digest:
        raise IntegrityError(
            f"the log closed round {number} of {study} with another model than the one that was sent",
            remedy="tell the other hospitals: the server may be showing different models",
        )
