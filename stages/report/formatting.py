"""Numbers and names as people read them."""

from __future__ import annotations

from html import escape

from stages.text import counted


def plain(text: str) -> str:
    """Text as HTML. What could not be seen, or would turn the text around, is shown as an escape."""
    seen = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return escape("".join(seen))


def clock(seconds: float, *, fine: bool = False) -> str:
    """A place in a video: `0:07`, `12:05`, `1:02:03`; with tenths if fine."""
    tenths = round(max(seconds, 0) * 10)
    minutes, rest = divmod(tenths // 10, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f".{tenths % 10}" if fine else ""
    return f"{hours}:{minutes:02}:{rest:02}{tail}" if hours else f"{minutes}:{rest:02}{tail}"


def duration(seconds: float) -> str:
    """A length: `4.2 s`, `3 min 5 s`, `2 h 10 min`, `41 d 16 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for big, small, size, unit in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            rest = whole % size // unit
            return f"{whole // size} {big}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def count(number: int, word: str) -> str:
    """`1 file`, `12,000 frames`."""
    return counted(number, word, ",")


def percent(part: int, whole: int) -> str:
    """A share that says 100 % or 0 % only when it is exactly that."""
    if not whole:
        return "none"
    if part in (0, whole):
        return f"{100 * part // whole} %"
    return f"{min(max(100 * part / whole, 0.01), 99.99):.2f} %"
