"""Text that others have chosen, such as names of files and what clients send, as one line for the log and the terminal.

With control characters, such a text could look like another line of the log, or command a terminal.
"""

from __future__ import annotations


def escaped(name: object) -> str:
    """The whole name; control characters, and bytes that are not UTF-8, are written as escapes, such as `\\n`."""
    text = str(name)
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text
    )


def shortened(text: str, most: int) -> str:
    """The first `most` characters, with a space for each that cannot be printed."""
    return "".join(character if character.isprintable() else " " for character in text[:most])
