"""Words of others on a terminal: nothing of them may steer it, or look like a line of our own."""


def printable(text: str) -> str:
    """The text on one line: whatever does not print (line ends, escape sequences, marks that turn lines) as ``?``."""
    return "".join(character if character.isprintable() else "?" for character in text)
