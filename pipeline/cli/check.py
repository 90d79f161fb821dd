"""`oddwatch check`: is this configuration right, and is everything it names within reach?"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import redis
import typer

from pipeline.bus.connect import hide_password, reason
from pipeline.bus.keys import Keys
from pipeline.bus.streams import OUTAGE, connect
from pipeline.cameras.spec import make_spec
from pipeline.cli.session import redis_url
from pipeline.config.load import load_config
from pipeline.config.schema import CameraConfig, Config
from pipeline.pixels.memory import host_id, shm_root
from stages.decode.sources.kinds import LIVE
from stages.errors import OddwatchError


def check(config: Annotated[Path, typer.Argument(help="Configuration file.")]) -> None:
    """Validate a configuration, reach cameras and Redis, say what is wrong."""
    settings = load_config(config)
    typer.echo(f"{config}: every key is known and fits")
    findings = [_redis(settings), _frames(settings), *_models(settings), *_cameras(settings)]
    for ok, line in findings:
        typer.echo(f"{'ok    ' if ok else 'FAILED'} {line}")
    if not all(ok for ok, _ in findings):
        raise typer.Exit(1)


Finding = tuple[bool, str]


def _redis(config: Config) -> Finding:
    url = redis_url(config)
    if url is None:
        return True, "Redis: the embedded server will be started (no redis.url and no REDIS_URL)"
    try:
        client = connect(url)
        client.eval("return redis.call('EXISTS', KEYS[1])", 1, Keys(config.redis.prefix).cameras)
        version = _version(client)
    except OddwatchError as error:
        return False, str(error)
    except redis.exceptions.NoPermissionError as error:
        return False, (
            f"Redis at {hide_password(url)}: {reason(error)}; a login for Oddwatch needs scripts (+@scripting), "
            f"streams, hashes and strings, and the keys ~{config.redis.prefix}:*"
        )
    except (redis.RedisError, *OUTAGE) as error:
        return False, f"Redis at {hide_password(url)}: {reason(error)}"
    return True, f"Redis: answers{version}"


def _frames(config: Config) -> Finding:
    """Which way pixels can go on this host, and the room there is."""
    root = shm_root()
    if config.frames.transport == "inline":
        return True, "frames: through Redis (frames.transport: inline)"
    if not host_id():
        ok = config.frames.transport == "auto"
        return ok, (
            f"frames: {root} is missing or cannot be written to, so they go through Redis, which is slower; mount it, "
            "or set frames.transport: inline"
        )
    room = os.statvfs(root)
    return True, f"frames: through shared memory where all readers are on this host ({root}: " + (
        f"{room.f_frsize * room.f_bavail / 2**20:.0f} MiB free)"
    )


def _version(client: Any) -> str:
    try:
        info = client.info("server")
    except redis.exceptions.NoPermissionError:
        return " (this login may not ask for its version)"
    return f", version {info.get('valkey_version') or info.get('redis_version')}"


def _models(config: Config) -> list[Finding]:
    from pipeline.workers.build import processor_builder, resolve_device

    build = processor_builder(
        resolve_device(config.workers.device), False, config.workers.precision, config.workers.engine
    )
    names = [n for n, c in config.cameras.items() if c.enabled] or ["any"]
    findings: list[Finding] = []
    for name in names:
        camera = config.cameras.get(name)
        try:
            spec = make_spec(
                config, camera=name, source="", kind=LIVE.name,
                models=camera.models if camera else None, decode=camera.decode if camera else None,
            )  # fmt: skip
            for stage in (*spec.stages("features"), *spec.stages("temporal")):
                build(spec, stage)
                findings.append((True, f"model for {name}: {stage}"))
        except OddwatchError as error:
            findings.append((False, f"model for {name}: {error}"))
    return findings


def _cameras(config: Config) -> list[Finding]:
    enabled = {n: c for n, c in config.cameras.items() if c.enabled}
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda item: _camera(config, *item), enabled.items()))


def _camera(config: Config, name: str, camera: CameraConfig) -> Finding:
    """One picture, or the reason why not."""
    import time

    from stages.decode.read import read_live
    from stages.decode.source import live_source
    from stages.features.registry import analysis_height
    from stages.messages import Snippet

    settings = replace((camera.decode or config.decode).settings(analysis_height(None)), snippet_frames=1)
    try:
        messages = read_live(live_source(camera.source, name), settings, 0, time.time, lambda: None)
        for message in messages:
            if isinstance(message, Snippet):
                messages.close()
                height, width = message.pixels.shape[1:3]
                return True, f"camera {name}: sends pictures (analysed at {width}x{height})"
    except OddwatchError as error:
        return False, f"camera {name}: {error}"
    return False, f"camera {name}: connects, but sends no picture"
