"""Why intake sets a file aside: a closed list.

A child answers with the name of a picture's `Reason` and never with a text of its own, so that no value of a header,
no decoder's message and no file's content can reach a report, a log or a screen. What only the parent can know is a
`SetAside`, which no child can answer.
"""

from enum import Enum

from sonoshare_shared.science.pictures.reasons import Reason


class SetAside(Enum):
    """The parent's own reasons. Name: what the hospital reads."""

    LABEL = "the class is empty, too long or not plain text"
    UNKNOWN_CLASS = "the class is not one of this task's"
    PATIENT = "the patient is empty"
    CRASHED = "the decoder crashed on this file"
    TIMED_OUT = "the decoder took too long on this file"
    BAD_ANSWER = "the decoder answered nonsense on this file"
    OTHER_CLASS = "the same picture is in the vault with another class; forget that patient first to correct it"
    OTHER_PATIENT = "the same picture is in the vault under another patient; give both rows one patient"
    OTHER_PICTURE = "the same SOP instance is in the vault with another picture; the first is kept"


Cause = Reason | SetAside
"""Why a file is set aside."""
