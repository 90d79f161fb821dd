"""The seam between the runtime and what is done to messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from stages.messages import Picked

State = dict[str, np.ndarray]
"""Everything a stage remembers of one camera: named arrays (numbers as 0-d arrays). {} is a fresh start.

The runtime saves it in the same transaction that publishes the output, so a stage killed at any
moment continues exactly where its last published output left it. Keep it small and bounded.
"""

In = TypeVar("In", bound=Picked, contravariant=True)
Out = TypeVar("Out", bound=Picked)


class Stage(Protocol[In, Out]):
    """Turns messages into messages. Pure: no Redis, no clock, no environment; the same input gives the same bytes.

    Raising means: this message cannot be processed. The runtime retries it, then buries it.
    """

    def process(self, batch: Sequence[tuple[In, State]]) -> list[tuple[list[Out], State]]:
        """For each (message, state of its camera): the outputs now due, and the new state.

        A batch holds at most one message of a camera. Outputs keep the header of the message they belong to
        (`Features(**snippet.header(), ...)`). A model with look-ahead returns none at first and older ones later.
        Must not change the state it was given. An item's result must not depend on its neighbours.
        """
        ...

    def finish(self, state: State) -> tuple[list[Out], State]:
        """The run ended, or the next frames are missing: the outputs still owed, and the state that may live on.

        What is temporal (a previous frame, a window) must go; what was learned of the camera may stay.
        """
        ...


def number(state: State, name: str, default: int = -1) -> int:
    """A whole number kept in a state."""
    return int(state[name]) if name in state else default


def as_array(value: int) -> np.ndarray:
    """A whole number as a state keeps it."""
    return np.asarray(value, np.int64)
