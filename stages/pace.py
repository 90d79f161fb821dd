"""The usual step from frame to frame, and the holes: steps so much longer that nothing was seen meanwhile.

What lies on both sides of a hole does not belong together: no event, no pooled evidence and no clock reaches across it.
"""

from __future__ import annotations

from dataclasses import dataclass

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
