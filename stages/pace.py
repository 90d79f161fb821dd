"""The usual step from frame to frame, and the holes: steps so much longer that nothing was seen meanwhile.

What lies on both sides of a hole does not belong together: no event, no pooled evidence and no clock reaches across it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.stage import State

HOLE_S = 1.0
"""No shorter step is a hole: cameras stutter;"""
HOLE_STEPS = 10.0
"""nor one of fewer usual steps: a time lapse is no row of holes;"""
FIRST_STEP_S = 60.0
"""nor a run's first step up to here: nothing is usual yet."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a run's steps."""

    usual_s: float | None = None
    """Follows shorter steps by half, longer ones by doubling: a hole changes little, a new rate is soon learned."""

    def is_hole(self, step_s: float) -> bool:
        """Whether nothing was seen during this step."""
        if self.usual_s is None:
            return step_s > FIRST_STEP_S
        return step_s > max(HOLE_S, HOLE_STEPS * self.usual_s)

    def after(self, step_s: float) -> Pace:
        """With one more step; one that is no time at all teaches nothing."""
        if step_s <= 0:
            return self
        if self.usual_s is None:
            return Pace(min(step_s, FIRST_STEP_S))
        if step_s >= self.usual_s:
            return Pace(min(step_s, 2 * self.usual_s))
        return Pace((step_s + self.usual_s) / 2)


def holes(times_s: np.ndarray, last_s: float | None, pace: Pace) -> tuple[np.ndarray, Pace]:
    """bool (T,): before which of the frames at `times_s`, the one before them at `last_s`, there is a hole; and the
    pace after them. `last_s` is None before a run's first frame."""
    found = np.zeros(len(times_s), bool)
    for t, at_s in enumerate(times_s.tolist()):
        if last_s is not None:
            found[t] = pace.is_hole(at_s - last_s)
            pace = pace.after(at_s - last_s)
        last_s = at_s
    return found, pace


def pace_of(state: State) -> Pace:
    """The pace that a state holds; nothing is usual in one that holds none."""
    return Pace(float(state["usual_s"])) if "usual_s" in state else Pace()


def saved_pace(pace: Pace) -> State:
    """The pace, to be kept in a state."""
    return {} if pace.usual_s is None else {"usual_s": np.array(pace.usual_s)}
