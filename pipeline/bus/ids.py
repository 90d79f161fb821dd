"""What streams hold: ids, entries, and how many of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Id = tuple[int, int]
Reader = tuple[str, str]
"""(stream, consumer group)."""


def parse_id(text: bytes | str) -> Id:
    """`<run_ms>-<seq>` as numbers, which order as Redis orders them."""
    ms, _, seq = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return int(ms), int(seq or 0)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An entry delivered and not yet acknowledged. `fields` is empty if it was trimmed while pending."""

    id: Id
    fields: Mapping[bytes, bytes]

    @property
    def id_text(self) -> str:
        return f"{self.id[0]}-{self.id[1]}"


def entry_of_reply(entry_id: bytes, flat: list[bytes]) -> Entry:
    """An entry as Redis writes it."""
    return Entry(parse_id(entry_id), dict(zip(flat[::2], flat[1::2], strict=True)))


@dataclass(frozen=True, slots=True)
class Bound:
    """How many entries a stream may hold, and what happens beyond."""

    entries: int
    drop_oldest: bool
    """True (live): the oldest goes. False (archive): the writer waits until readers have acknowledged."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A message as the fields of its entry: one whose pixels lie elsewhere."""

    id: str
    fields: Mapping[str, bytes | str]
