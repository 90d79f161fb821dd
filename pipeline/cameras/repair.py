"""What is damaged in Redis, a key of a wrong type or a state nobody can read, is removed, and noted as a dead letter.

It stops what it belongs to, and only until it is gone: what is kept about other cameras is not touched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import redis

from pipeline.bus.codec import Entry, decode_state
from pipeline.bus.streams import OUTAGE, Bus
from pipeline.cameras.spec import STAGES, CameraSpec
from stages.stage import State

log = logging.getLogger(__name__)


def is_wrong_type(error: BaseException) -> bool:
    """Whether Redis refused a command because a key holds another type of value."""
    return isinstance(error, redis.ResponseError) and "WRONGTYPE" in str(error)


def mend_types(bus: Bus, specs: Iterable[CameraSpec]) -> list[str]:
    """Remove keys of a wrong type, those of these cameras and those that all share; returns their names.

    Raises redis errors as they are.
    """
    keys = bus.keys
    wanted = {
        keys.dead: "stream", keys.alerts: "stream", keys.workers: "hash", keys.cameras: "hash", keys.origins: "hash",
        keys.jobs: "hash", keys.forwarded: "hash", keys.cameras_version: "string", keys.frames: "string",
    }  # fmt: skip
    owners = dict.fromkeys(wanted, "")
    for spec in specs:
        of_camera = _of_camera(bus, spec)
        wanted |= of_camera
        owners |= dict.fromkeys(of_camera, spec.camera)
    with bus.client.pipeline(transaction=False) as pipe:
        for key in wanted:
            pipe.type(key)
        found = [kind.decode() if isinstance(kind, bytes) else str(kind) for kind in pipe.execute()]
    wrong = [(key, kind) for key, kind in zip(wanted, found, strict=True) if kind not in ("none", wanted[key])]
    for key, _ in wrong:
        bus.client.unlink(key)
    for key, kind in wrong:
        why = f"{key} was a {kind}, not a {wanted[key]}: removed"
        log.error("%s", why)
        bus.bury("", owners[key], Entry((0, 0), {}), why, 0)
    return [key for key, _ in wrong]


def mend_if_possible(bus: Bus, specs: Iterable[CameraSpec]) -> None:
    """The same, of cameras that may be named several times, where Redis lets it: else somebody tries again."""
    try:
        mend_types(bus, {spec.camera: spec for spec in specs}.values())
    except (redis.RedisError, *OUTAGE) as error:
        log.debug("not mended: %s", error)


def _of_camera(bus: Bus, spec: CameraSpec) -> dict[str, str]:
    keys, camera = bus.keys, spec.camera
    stages = [s for stage in STAGES for s in spec.stages(stage)]
    return {
        keys.health(camera): "hash",
        f"{keys.health(camera)}:runs": "list",
        keys.stream(camera, "alerts"): "stream",
        **{keys.stream(camera, kind): "stream" for kind in spec.all_streams()},
        **{keys.state(camera, stage): "hash" for stage in stages},
        **{keys.lease(camera, stage): "string" for stage in stages},
    }


def decoder_state(bus: Bus, spec: CameraSpec) -> State:
    """What a camera's decoder has saved: whole numbers. What cannot be read is forgotten, with a word."""
    key = bus.keys.state(spec.camera, "decode")
    try:
        state = decode_state(bus.client.hgetall(key))
        if all(value.shape == () and value.dtype.kind in "iu" for value in state.values()):
            return state
        why = "it holds what is no number"
    except redis.ResponseError as error:
        if not is_wrong_type(error):
            raise
        mend_types(bus, [spec])
        return {}
    except ValueError as error:
        why = str(error)
    forget(bus, spec.camera, "decode", key, why)
    return {}


def forget(bus: Bus, camera: str, stage: str, state_key: str, why: str) -> None:
    """Remove a state that cannot be read."""
    log.error("%s %s: forgets what it had saved: %s", camera, stage, why)
    bus.client.unlink(state_key)
    bus.bury(stage, camera, Entry((0, 0), {}), f"its saved state cannot be read: {why}", 0)
