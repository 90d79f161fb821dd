"""Which lanes are processed together: those that one stage object serves, up to a size or a wait."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from pipeline.workers.task import Due, Lane, came_s

MAX_BATCH = 16
"""Messages given to a stage at once, if nothing else is said; bounds memory."""
Batch = list[tuple[Lane, Due]]


@dataclass(frozen=True, slots=True)
class Batching:
    """`size`: messages given to a stage at once, at most; the first waits up to `wait_s` for more."""

    size: int = MAX_BATCH
    wait_s: float = 0.0

    def batches(self, lanes: Collection[Lane], ready: Iterable[tuple[Lane, Due]], now_s: float) -> Iterator[Batch]:
        """What is `ready`, of all `lanes`, as batches; one that is not full only once its first has waited."""
        by_work: dict[str, Batch] = {}
        for lane, due in ready:
            by_work.setdefault(lane.work, []).append((lane, due))
        for work, items in by_work.items():
            for start in range(0, len(items), self.size):
                batch = items[start : start + self.size]
                if len(batch) == self.size or self._waited(work, batch, lanes, now_s):
                    yield batch

    def _waited(self, work: str, batch: Batch, lanes: Collection[Lane], now_s: float) -> bool:
        if not self.wait_s:
            return True
        possible = sum(lane.work == work for lane in lanes)
        return len(batch) == possible or now_s - min(came_s(due) for _, due in batch) >= self.wait_s
