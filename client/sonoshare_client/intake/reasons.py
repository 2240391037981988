"""Why intake sets a file aside: a closed list.

A child answers with the name of a picture's `Reason` and never with a text of its own, so that no value of a header,
no decoder's message and no file's content can reach a report, a log or a screen. What only the parent can know is a
`SetAside`, which no child can answer.
"""

from sonoshare_shared.science.pictures.reasons import Because, Reason


class SetAside(Because):
    """The parent's own reasons."""

    LABEL = "the class is empty, too long or not plain text", "correct the label in its row"
    UNKNOWN_CLASS = "the class is not one of this task's", "correct the label, or take it in without --task"
    PATIENT = "no patient is named, or with a sign that nobody sees", "give the patient in its row"
    NO_FILE = "no file of the folder carries this identifier", "see that it is written as in the headers"
    NOBODY = (
        "its patient is what a system fills in where nobody is named",
        "give it its real patient; where this is one, write it in another way in all its rows",
    )
    CRASHED = "the decoder crashed on this file", "export it again, uncompressed"
    TIMED_OUT = "the decoder took too long on this file", "export it again, uncompressed, or a shorter loop"
    BAD_ANSWER = "the decoder answered nonsense on this file", "do not open it elsewhere: it may be an attack"
    OTHER_CLASS = (
        "the same picture is in the vault with another class",
        "where that one is wrong, forget its patient first",
    )
    OTHER_PATIENT = (
        "the same picture is in the vault under another patient",
        "look at it: a test picture, a wrong link in the table, or one person; only if it is one person, one patient",
    )
    OTHER_PICTURE = "the same SOP instance is in the vault with another picture", "the first is kept"


class Flag(Because):
    """What is taken in and looks odd."""

    NEAR_PATIENT = (
        "its patient is written like another's but for case, leading zeros or separators",
        "if it is one person, forget one of the two, write both alike and take it in again",
    )
    MUCH_OF_ONE = (
        "its patient has more than 256 pictures, or pictures of three devices and more",
        "see that this is one person and not an identifier that many share; if many do, forget it",
    )
    EMPTY_MASK = (
        "the mask is empty: taken in as a picture without a lesion",
        "where the lesion was not drawn, forget the patient, name no mask and take it in again",
    )


Cause = Reason | SetAside
"""Why a file is set aside."""
