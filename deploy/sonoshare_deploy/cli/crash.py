"""What a command says of an error that nobody foresaw: its kind and the places that it passed, never its words.

The words of such an error may hold what was read: a line of a list of patients, a key, a token. Whoever reports a crash
sends what stands on the terminal. The places are enough to find the fault.
"""

import traceback
from pathlib import Path


def crash_words(error: BaseException) -> str:
    """Kind and places of an error, and of what it came from; one line each, innermost last."""
    lines = [
        f"error: an unforeseen {_kinds(error)}; its words are left out, they may tell of a patient. Please report:"
    ]
    frames = traceback.extract_tb(error.__traceback__)
    lines += [f"  {Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]
    return "\n".join(lines)


def _kinds(error: BaseException) -> str:
    """Names of the error's class and of those that caused it."""
    names, cause = [type(error).__name__], error.__cause__ or error.__context__
    while cause is not None:
        names.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    return " after ".join(names)
