"""Packets promise pictures; what became of the promises: the pictures in their order, and those that never came."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

REORDER = 16
"""No codec shows a picture later than this many others that come after it by their stamps."""

Shown = TypeVar("Shown")
Place = tuple[int, int]
"""Where a picture belongs: how often the clock began again before it, and its stamp."""


class Promised(Generic[Shown]):
    """Puts missing pictures in their places. What is shown is held back only while an earlier one is awaited.

    Leading pictures, which follow the first one shown in the stream and precede it in time, are not missing: they need
    what came before the file began, and are not meant to be shown.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, Place] = {}  # packets of which nothing was shown yet
        self._order: list[tuple[Place, int]] = []  # heap of them, and of some that were
        self._queue: list[tuple[Place | None, Shown]] = []
        self._started = False
        self._newest = 0  # of the packets that were shown
        self._epoch = 0
        self._last_dts: int | None = None

    def sent(self, index: int, pts: int, dts: int | None) -> None:
        """Packet number `index` went to the decoder; it promises one picture at `pts`."""
        if dts is not None and self._last_dts is not None and dts < self._last_dts:
            self._epoch += 1
        self._last_dts = dts if dts is not None else self._last_dts
        self._waiting[index] = (self._epoch, pts)
        heappush(self._order, (self._waiting[index], index))

    def shown(self, index: int | None, picture: Shown) -> Iterator[tuple[int, Shown | None]]:
        """Of packet `index` came this picture -> (pts, picture or None for a missing one), as far as is certain."""
        self._newest = max(self._newest, index or 0)
        place = None if index is None else self._waiting.pop(index, None)
        if not self._started and place is not None and index is not None:
            self._started = True
            for other in [i for i, at in self._waiting.items() if i > index and at < place]:
                del self._waiting[other]
        self._queue.append((place, picture))
        yield from self._certain(REORDER)

    def end(self) -> Iterator[tuple[int, Shown | None]]:
        """The rest."""
        self._newest = max(self._waiting, default=0)
        yield from self._certain(0)
        yield from self._before((self._epoch + 1, 0))

    def _certain(self, patience: int) -> Iterator[tuple[int, Shown | None]]:
        while self._queue:
            place, picture = self._queue[0]
            if place is not None:
                if self._is_awaited(place) and len(self._queue) <= patience:
                    return
                yield from self._before(place)
            del self._queue[0]
            yield (place[1] if place else 0), picture

    def _is_awaited(self, place: Place) -> bool:
        while self._order and self._order[0][1] not in self._waiting:
            heappop(self._order)
        return bool(self._order) and self._order[0][0] < place

    def _before(self, place: Place) -> Iterator[tuple[int, None]]:
        yet_to_come = []
        while self._is_awaited(place):
            (at, index) = heappop(self._order)
            if index > self._newest:
                # It precedes only by a stamp that is wrong.
                yet_to_come.append((at, index))
                continue
            del self._waiting[index]
            yield at[1], None
        for promise in yet_to_come:
            heappush(self._order, promise)
