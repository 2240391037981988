"""Proposing a study: the hospital is asked before anything is charged, and answers in words.

    coordinator                                hospital
    ProposeRequest(plan, signed)   ->          checks the plan against its rules and what is left of its budget
                                   <-          PlanAnswer, signed: accepted, waiting for a person, or refused and why

Nothing is charged by a proposal and no patient is read, so what an answer may say is what any refusal before a charge
says: the plan, the rules and the ledger are public constants. A reason in a person's words leaves as that person
wrote it.

Promise: an answer names the plan by its digest; it says nothing about a changed plan of the same name.
Not promised: that it holds for ever. A hospital changes its rules, its budget and its mind, and every request is
checked anew.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from sonoshare_shared.protocol.documents.base import Document, HexDigest, Identifier
from sonoshare_shared.protocol.envelope import Envelope

ANSWER_PAYLOAD_TYPE: Final = "application/vnd.sonoshare.plan-answer+json"
MOST_WORDS: Final = 500
"""Characters of a reason."""

Decision = Literal["accepted", "waiting", "refused"]


class ProposeRequest(Document):
    """Would you take part in this study?

    Attributes:
        plan: signed study plan.
    """

    kind: Literal["propose"] = "propose"
    plan: Envelope


class PlanAnswer(Document):
    """What a hospital says to a proposed plan; signed.

    Attributes:
        hospital: who.
        study: which study.
        plan_digest: which plan.
        answer: ``accepted`` by its rules or by a person, ``waiting`` for a person, or ``refused``.
        reason: why it was refused, in words; empty otherwise.
        remedy: what could be done about it; empty otherwise.
    """

    schema_: Literal["sonoshare/plan-answer/v1"] = Field(default="sonoshare/plan-answer/v1", alias="schema")
    hospital: Identifier
    study: Identifier
    plan_digest: HexDigest
    answer: Decision
    reason: Annotated[str, Field(max_length=MOST_WORDS)] = ""
    remedy: Annotated[str, Field(max_length=MOST_WORDS)] = ""
