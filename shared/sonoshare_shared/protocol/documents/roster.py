"""Who belongs to the consortium. Signed by the consortium root; hospitals and researchers pin it.

A roster in which one key stands twice, under whatever ids, is refused: a key counts once.
"""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier, added
from sonoshare_shared.protocol.keys import PublicKey

ROSTER_PAYLOAD_TYPE = "application/vnd.sonoshare.roster+json"


class HospitalEntry(Document):
    """One hospital: its id, its Ed25519 identity key (hex), and its Flower node key (OpenSSH text)."""

    id: Identifier
    identity_key: HexDigest
    node_key: str

    @property
    def key(self) -> PublicKey:
        """The identity key."""
        return PublicKey.from_hex(self.identity_key)


class KeySuccession(Document):
    """A change of a hospital's identity key that the log shows.

    Attributes:
        hospital: whose.
        old: key before (hex).
        new: key after (hex).
        succession: sha256 of what both keys signed (``documents.identity_succession``).
    """

    hospital: Identifier
    old: HexDigest
    new: HexDigest
    succession: HexDigest


class Roster(Document):
    """The consortium's hospitals and its two other keys.

    Attributes:
        consortium: identifier of the consortium.
        version: grows by one with every change.
        expires: after this moment no new release may rest on the roster.
        root_key: key that signs the roster (hex); pinned out of band.
        coordinator_key: key that signs plans and log heads (hex).
        hospitals: the members; those of them that took part in a study must sign its releases.
        audit_policy: sha256 of the audit policy in force.
        former_rosters: rosters that a former root key signed and releases rest on, by the sha256 of their bytes; they
            are as good as before. None while the root key never changed.
        successions: every change of an identity key, oldest first, of hospitals that have left too; None while none
            was changed. They say whose a signature of before is; a key that was passed on signs nothing new.
    """

    schema_: Literal["sonoshare/roster/v1"] = Field(default="sonoshare/roster/v1", alias="schema")
    consortium: Identifier
    version: Annotated[int, Field(ge=1)]
    expires: AwareDatetime
    root_key: HexDigest
    coordinator_key: HexDigest
    hospitals: Annotated[tuple[HospitalEntry, ...], Field(min_length=1)]
    audit_policy: HexDigest
    former_rosters: Annotated[tuple[HexDigest, ...], Field(max_length=10_000)] | None = added()
    successions: Annotated[tuple[KeySuccession, ...], Field(max_length=10_000)] | None = added()

    @model_validator(mode="after")
    def _keys_count_once(self) -> Self:
        ids = [hospital.id for hospital in self.hospitals]
        keys = [hospital.identity_key for hospital in self.hospitals]
        nodes = [hospital.node_key for hospital in self.hospitals]
        if len(set(ids)) != len(ids):
            raise ValueError("a hospital stands twice in the roster")
        if len({*keys, self.root_key, self.coordinator_key}) != len(keys) + 2 or len(set(nodes)) != len(nodes):
            raise ValueError("one key stands twice in the roster")
        olds = [said.old for said in self.successions or ()]
        news = [said.new for said in self.successions or ()]
        if len(set(olds)) != len(olds) or len(set(news)) != len(news):
            raise ValueError("a key is passed on, or taken up, twice")
        if set(olds).intersection([*keys, self.root_key, self.coordinator_key]):
            raise ValueError("a key that was passed on stands in the roster")
        return self

    def hospital(self, hospital_id: str) -> HospitalEntry | None:
        """The entry of a hospital, or None."""
        return next((entry for entry in self.hospitals if entry.id == hospital_id), None)

    def keys_of(self, hospital: HospitalEntry) -> tuple[PublicKey, ...]:
        """Identity keys of a hospital, newest first: the one that it has, and those that it had before.

        The older ones are for what the newest has vouched for since, as by signing a manifest that lists it.
        """
        before = {said.new: said.old for said in self.successions or () if said.hospital == hospital.id}
        keys = [hospital.identity_key]
        while (old := before.get(keys[-1])) is not None and old not in keys:
            keys.append(old)
        return tuple(map(PublicKey.from_hex, keys))

    def successors_of(self, hospital: HospitalEntry) -> tuple[PublicKey, ...]:
        """Keys that followed one that an older roster names, oldest first, and first the key itself."""
        after = {said.old: said.new for said in self.successions or () if said.hospital == hospital.id}
        keys = [hospital.identity_key]
        while (new := after.get(keys[-1])) is not None and new not in keys:
            keys.append(new)
        return tuple(map(PublicKey.from_hex, keys))

    def expired(self, now: datetime) -> bool:
        """Whether no new release may rest on this roster."""
        return now >= self.expires
