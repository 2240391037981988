"""What an event was, in words; an event of another kind, or of a later version, bears its own name."""

from typing import Final

_WORDS: Final = {
    "request": "the coordinator asked",
    "answered": "it was answered",
    "repeated": "it was asked again: the stored answer was given",
    "refused": "it was refused",
    "failed": "an answer failed",
    "proposed": "a study was proposed",
    "voted": "votes were given",
    "trained": "a round was trained",
    "audited": "a candidate was audited",
    "signed": "a release was signed",
    "identity-changed": "the identity key was changed",
    "started": "the node was started",
    "stopped": "the node was stopped",
    "ended": "a part ended",
    "restarted": "a part was started again",
    "leftovers": "leftovers of an earlier start were ended",
}


def kind_in_words(kind: str) -> str:
    """What happened; the kind's own name where there are no words for it."""
    return _WORDS.get(kind, kind)
