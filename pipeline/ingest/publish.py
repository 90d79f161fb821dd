"""What a decoder process does: one camera's messages onto its `snippets` stream."""

from __future__ import annotations

import logging
import mmap
import struct
import time
from collections.abc import Callable

import redis

from pipeline.backoff import Backoff
from pipeline.bus.codec import Bound, Encoded, encode, encode_state
from pipeline.bus.commit import Left, Look, hset, trim
from pipeline.bus.streams import OUTAGE, Bus
from pipeline.cameras.repair import is_wrong_type, mend_if_possible
from pipeline.cameras.spec import CameraSpec
from pipeline.pixels.writer import FrameWriter
from stages.errors import LeaseLost
from stages.messages import Message, Snippet
from stages.stage import as_array

log = logging.getLogger(__name__)

FULL_POLL_S = 0.004
"""How soon a full stream is looked at again at first, times its entries at last: the more there are, the longer its
readers have work."""
MAX_POLL_S = 0.05
AGAIN = Backoff(0.05, 2.0)
CALM_AFTER = 60
"""Messages without trouble after which the same trouble is said again."""
Beat = Callable[[], None]
"""Called often: proof that the decoder lives. A silent decoder is killed and replaced."""


class Pulse:
    """What a decoder and its parent tell each other, in memory that both map."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 9)
        self.beat()

    def beat(self) -> None:
        """The decoder lives."""
        self._memory[:8] = struct.pack("d", time.monotonic())

    def age_s(self) -> float:
        """Since its last beat."""
        return time.monotonic() - float(struct.unpack("d", self._memory[:8])[0])

    def may_share(self) -> bool:
        """Whether the parent sees all readers on this host."""
        return self._memory[8] == 1

    def let_share(self, yes: bool) -> None:
        """Said by the parent."""
        self._memory[8] = int(yes)


class Publisher:
    """Publishes to `snippets` under the decode lease; survives outages of Redis by repeating the same message."""

    def __init__(
        self, bus: Bus, spec: CameraSpec, token: str, beat: Beat, frames: FrameWriter | None = None
    ) -> None:  # fmt: skip
        """`frames`: shared memory for the pixels; without it they travel with the messages."""
        keys = bus.keys
        self._frames = frames
        self.bus = bus
        self.spec = spec
        self.beat = beat
        self.stream = keys.stream(spec.camera, "snippets")
        self.state_key = keys.state(spec.camera, "decode")
        self._lease = (keys.lease(spec.camera, "decode"), token)
        self._health = keys.health(spec.camera)
        self._free = 0
        """Entries that certainly still fit (archives)."""
        self._trouble = ""
        self._calm = 0

    def publish(self, message: Message, state: dict[str, int], health: dict[str, str] | None = None) -> None:
        """Write one message with the state to continue from. Blocks while an archive's readers are behind.

        Raises LeaseLost when another decoder has taken the camera over.
        """
        bound = Bound.of(message, self.spec.stream_mb, drop_oldest=self.spec.live)
        self._wait_for_room(bound.entries)

        also = [hset(self.state_key, encode_state({k: as_array(v) for k, v in state.items()}))]
        if health:
            also.append(hset(self._health, health))
        entry = self._encoded(message, bound.entries)
        look = Look(self.stream, trim=True)
        attempt = 0
        while True:
            self.beat()
            try:
                left = self.bus.commit(self._lease, outputs=[(self.stream, entry, bound)], also=also, look=look)
                self._after(left, bound.entries)
                self._calm += 1
                break
            except redis.OutOfMemoryError as error:
                self._say(error)
                if self._make_room(drop_unread=self.spec.live and attempt > 0):
                    continue
            except (redis.RedisError, *OUTAGE) as error:
                self._say(error)
            attempt += 1
            time.sleep(AGAIN.delay_s(attempt))

    def _encoded(self, message: Message, entries: int) -> Encoded:
        """With its pixels, or with where they lie: written once, however often the message has to be sent."""
        where = None
        if self._frames is not None and isinstance(message, Snippet):
            where = self._frames.write(message, entries)
        return Encoded(message.id, encode(message, {} if where is None else {"pixels": where}))

    def _after(self, left: Left, entries: int) -> None:
        self._free = entries - left.entries
        if self._frames is not None:
            self._frames.release(left.needed, left.entries == 0)

    def _make_room(self, drop_unread: bool) -> bool:
        try:
            return self.bus.make_room(self.stream, drop_unread)
        except (redis.RedisError, *OUTAGE) as error:
            self._say(error)
            return False

    def remember(self, state: dict[str, int]) -> None:
        """Save state without a message. Raises LeaseLost."""
        values = encode_state({k: as_array(v) for k, v in state.items()})
        self.bus.commit(self._lease, also=[hset(self.state_key, values)])

    def note(self, **health: str) -> None:
        """Update the camera's health, if Redis answers and the camera is still ours."""
        try:
            self.bus.commit(self._lease, also=[hset(self._health, health)])
        except (redis.RedisError, LeaseLost, *OUTAGE) as error:
            log.debug("%s: health not noted: %s", self.spec.camera, error)

    def _say(self, error: BaseException) -> None:
        """Once for each kind of trouble: whatever it is (away, full, read-only, loading), waiting is what helps."""
        if is_wrong_type(error):
            mend_if_possible(self.bus, [self.spec])
        kind = type(error).__name__
        is_new = kind != self._trouble or self._calm >= CALM_AFTER
        self._trouble, self._calm = kind, 0
        if is_new and isinstance(error, redis.OutOfMemoryError):
            then = "dropping its oldest snippets" if self.spec.live else "waiting for its readers"
            log.warning("%s: Redis is full; %s (maxmemory, redis.memory_mb or redis.stream_mb)", self.spec.camera, then)
        elif is_new:
            log.warning("%s: Redis cannot take the next snippet (%s); waiting", self.spec.camera, error)

    def _wait_for_room(self, entries: int) -> None:
        if self.spec.live or self._free > 0:
            return
        poll, looks = Backoff(FULL_POLL_S, min(FULL_POLL_S * entries, MAX_POLL_S)), 0
        while self._free <= 0:
            self.beat()
            try:
                self._after(trim(self.bus.raw, self.stream), entries)
            except (redis.RedisError, *OUTAGE) as error:
                if "no such key" in str(error):
                    return
                self._say(error)
                time.sleep(0.5)
                continue
            if self._free <= 0:
                looks += 1
                time.sleep(poll.delay_s(looks))
