"""Numbers with their noun."""

from __future__ import annotations


def counted(number: int, noun: str, thousands: str = "") -> str:
    """`1 alert`, `2 alerts`, `12000 alerts`; with `thousands` between them `12,000 alerts`."""
    return f"{number:{thousands}d} {noun}" + ("" if number == 1 else "s")
