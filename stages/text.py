"""Text for people: numbers with their noun, names on one line."""

from __future__ import annotations

import re


def counted(number: int, noun: str, thousands: str = "") -> str:
    """`1 alert`, `2 alerts`, `12000 alerts`; with `thousands` between them `12,000 alerts`."""
    return f"{number:{thousands}d} {noun}" + ("" if number == 1 else "s")


NO_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line breaks, reversed writing, and what stands for bytes that are not UTF-8."""


def printable(text: str) -> str:
    r"""`text` as one line that a terminal shows and does not obey: `\n`, `\x1b`, and `\xe9` for a byte that is no text.

    All else stays as it is, so that most names do.
    """
    return NO_LINE.sub(lambda found: _escaped(found[0]), text)


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: a file's name need not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(char: str) -> str:
    byte = ord(char) - 0xDC00  # as os.fsdecode has it
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else char.encode("unicode_escape").decode()
