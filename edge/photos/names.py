"""Names of photos in messages."""

from __future__ import annotations


def printable(name: object) -> str:
    """The name in one line; line feeds, and bytes that are not UTF-8, are written as escapes."""
    text = str(name)
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text
    )
