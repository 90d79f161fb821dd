"""What the workers need to know about one camera: its entry in the registry, and the graph of its streams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.bus.commit import Command
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus
from pipeline.cameras.models import ModelSpec, model_specs
from pipeline.cameras.resolve import resolve_decode
from pipeline.config.schema import Config, DecodeConfig, ModelConfig, settings_hash
from pipeline.path_text import PathText
from stages.alerting.settings import AlertSettings
from stages.decode.settings import DecodeSettings
from stages.decode.sources.registry import SOURCES
from stages.errors import ConfigError

STAGES = ("decode", "features", "temporal", "alerting")


class CameraSpec(BaseModel):
    """A camera as registered: read by every worker, so it holds no secret."""

    model_config = ConfigDict(frozen=True)
    camera: str
    live: bool
    source: PathText
    """A file's absolute path; for a live camera its address without login."""
    kind: str
    """Name of its SourceKind."""
    run_ms: int = 0
    """Files: the run they are scored as. Live: 0, the decoder opens runs."""
    height: int
    """Analysis height in pixels."""
    decode: DecodeConfig
    models: dict[str, ModelSpec]
    alerts: AlertSettings
    stream_mb: float
    max_deliveries: int
    join_wait_s: float
    config_hash: str
    origin: str = ""
    """Live: the configuration file that names it, and its host."""

    @property
    def extractors(self) -> list[str]:
        return sorted({m.features for m in self.models.values() if m.features is not None})

    @property
    def decode_settings(self) -> DecodeSettings:
        """What its decoder is told."""
        return self.decode.settings(self.height)

    def stages(self, stage: str) -> list[str]:
        """What of a stage this camera needs: `features` -> ['features:motion']."""
        if stage == "features":
            return [f"features:{name}" for name in self.extractors]
        if stage == "temporal":
            return [f"temporal:{name}" for name in self.models]
        return [stage]

    def inputs(self, stage: str) -> list[str]:
        """The stream kinds a stage of this camera reads."""
        head, _, name = stage.partition(":")
        if head == "features":
            return ["snippets"]
        if head == "temporal":
            extractor = self.models[name].features
            return ["snippets" if extractor is None else f"features:{extractor}"]
        if head == "alerting":
            return [f"scores:{m}" for m in self.models]
        return []

    def output(self, stage: str) -> str:
        """The stream kind a stage of this camera writes."""
        head, _, name = stage.partition(":")
        return {"decode": "snippets", "features": stage, "temporal": f"scores:{name}", "alerting": "scores"}[head]

    def groups(self, stream_kind: str) -> list[str]:
        """Consumer groups that must exist on a stream before the first entry is written."""
        readers = [s for stage in ("features", "temporal", "alerting") for s in self.stages(stage)]
        return [s for s in readers if stream_kind in self.inputs(s)]

    def all_streams(self) -> list[str]:
        return [self.output(s) for stage in STAGES for s in self.stages(stage)]

    def ensure_streams(self, bus: Bus) -> None:
        """Create all streams and groups of this camera."""
        for kind in self.all_streams():
            bus.ensure_groups(bus.keys.stream(self.camera, kind), self.groups(kind))

    def group_commands(self, keys: Keys) -> list[Command]:
        """The same as commands of a commit; groups that exist answer BUSYGROUP."""
        return [
            ("XGROUP", "CREATE", keys.stream(self.camera, kind), group, "0", "MKSTREAM")
            for kind in self.all_streams()
            for group in self.groups(kind)
        ]


def _check_room(stream_mb: float, frames: int, height: int) -> None:
    """A stream must hold the snippet that is read and the next; a picture is taken to be 16:9."""
    snippet_mb = frames * height * (height * 16 / 9) * 3 / 2**20
    if 2 * snippet_mb > stream_mb:
        raise ConfigError(
            f"redis.stream_mb: {stream_mb:g} is too little for two snippets of {frames} frames of {height} pixels' "
            f"height; set it to {math.ceil(2 * snippet_mb)}, or decode.height or decode.snippet_frames lower"
        )


def make_spec(
    config: Config,
    *,
    camera: str,
    source: str,
    kind: str,
    run_ms: int = 0,
    decode: DecodeConfig | None = None,
    models: Mapping[str, ModelConfig] | None = None,
    alerts: AlertSettings | None = None,
    specs: dict[str, ModelSpec] | None = None,
) -> CameraSpec:
    """The registry entry of a camera under a configuration.

    It is decoded as its models have learned. Raises CheckpointError, or ConfigError: a model that does not exist, a
    decode section that contradicts a checkpoint, or snippets too large for `redis.stream_mb`.
    """
    from stages.features.registry import analysis_height

    alerts = alerts or config.alerts
    specs = specs if specs is not None else model_specs(models or config.models)
    decode = resolve_decode(decode or config.decode, f"cameras.{camera}.decode" if decode else "decode", specs)
    heights = [analysis_height(m.features) for m in specs.values()]
    values: dict[str, Any] = {
        "height": decode.height or max(heights), "decode": decode, "models": specs, "alerts": alerts,
    }  # fmt: skip
    _check_room(config.redis.stream_mb, decode.snippet_frames, values["height"])
    # Where a checkpoint lies does not change a score; what it holds does.
    identity = {n: (m.kind, m.features, m.sha256) for n, m in specs.items()}
    return CameraSpec(
        camera=camera, source=source, kind=kind, live=SOURCES.get(kind).live, run_ms=run_ms,
        stream_mb=config.redis.stream_mb, max_deliveries=config.runtime.max_deliveries,
        join_wait_s=config.runtime.join_wait_s,
        config_hash=settings_hash(decode, alerts, identity, str(values["height"])), **values,
    )  # fmt: skip
