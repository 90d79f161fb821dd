"""The configuration as a model: every key with its default, what it allows, and the sentence that explains it.

The sentences are the only text about a key: `configs/oddwatch.yaml` and `docs/configuration.md` are made from them
(`pipeline.config.reference`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.alerts.sink import checked_options
from stages.alerting.settings import AlertSettings
from stages.decode.settings import DecodeSettings
from stages.errors import OddwatchError
from stages.messages import CAMERA_NAME


class Section(BaseModel):
    """A part of the file: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RedisConfig(Section):
    """The Redis that all processes share."""

    url: str | None = None
    """redis://, rediss://, unix:// or redis+sentinel://; default $REDIS_URL, else an embedded server."""
    prefix: str = Field(default="oddwatch", pattern=r"^[A-Za-z0-9_.-]+$")
    """First part of every key."""
    stream_mb: float = Field(default=32, gt=0)
    """MiB that one stream of one camera may hold."""
    memory_mb: int | None = Field(default=None, ge=64)
    """MiB of the embedded server; default a quarter of this machine, at most 2048."""


class DecodeConfig(Section):
    """How pictures are read. A model's checkpoint says how it learned; what is left out here is taken from it."""

    height: int | None = Field(default=None, ge=16, le=2160)
    """Analysis height in pixels; default what the feature extractors want (motion: 240)."""
    snippet_frames: int = Field(default=16, ge=1, le=256)
    """Kept frames in a snippet: what travels and is described together."""
    fps: float | None = Field(default=None, gt=0)
    """Keep at most this many frames per second; default all."""
    open_timeout_s: float = Field(default=10, gt=0)
    """Seconds to wait for a camera to open."""
    read_timeout_s: float = Field(default=20, gt=0)
    """Seconds without a packet before a camera counts as dead."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How RTSP carries video: tcp or udp."""

    def settings(self, usual_height: int) -> DecodeSettings:
        """What the decoder is told, for a camera and for footage alike.

        `usual_height`: pixels where this section leaves the height open (`stages.features.registry.analysis_height`).
        """
        return DecodeSettings(
            height=self.height or usual_height, snippet_frames=self.snippet_frames, fps=self.fps,
            open_timeout_s=self.open_timeout_s, read_timeout_s=self.read_timeout_s, transport=self.transport,
        )  # fmt: skip


class ModelConfig(Section):
    """A temporal model."""

    checkpoint: Path | None = None
    """File made by 'oddwatch fit' or 'oddwatch train'; default: learn from the camera itself."""
    kind: str = "novelty"
    """Which temporal model, where no checkpoint says so."""
    features: str = "motion"
    """Which feature extractor, where no checkpoint says so."""


class CameraConfig(Section):
    """A live camera."""

    source: str
    """Address: rtsp(s)://, http(s)://, udp:// and the like, or /dev/videoN."""
    enabled: bool = True
    """Whether to watch it; false: known, but not watched."""
    decode: DecodeConfig | None = None
    """Replaces the global decode section for this camera."""
    models: dict[str, ModelConfig] | None = None
    """Replaces the global models for this camera."""
    alerts: AlertSettings | None = None
    """Replaces the global alerts section for this camera."""


class WorkersConfig(Section):
    """Workers of 'run' and 'score' on this host."""

    features: int = Field(default=1, ge=1, le=64)
    """Feature workers."""
    temporal: int = Field(default=1, ge=1, le=64)
    """Temporal-model workers."""
    alerting: int = Field(default=1, ge=1, le=64)
    """Alerting workers."""
    decode_files: int | None = Field(default=None, ge=1)
    """Files decoded at once; default one per core."""
    batch: int = Field(default=16, ge=1, le=1024)
    """Snippets given to a model at once, at most; they come from as many cameras."""
    batch_wait_ms: float | None = Field(default=None, ge=0, le=1000)
    """Milliseconds the first of a batch waits for more; default 0 on a CPU, 10 on a GPU."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """auto, cpu, cuda or cuda:N, for features and temporal models."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """In which feature networks compute: fp32; bf16; fp16, GPUs only. docs/features.md has the difference."""
    engine: Literal["torch", "openvino"] = "torch"
    """What computes feature networks: torch; openvino, CPUs only, faster (pip install openvino)."""


class FramesConfig(Section):
    """How pixels get from the decoder to their readers."""

    transport: Literal["auto", "shared", "inline"] = "auto"
    """shared (memory of one host: /dev/shm or $ODDWATCH_SHM), inline (in Redis), or auto: shared while all their
    readers are on the decoder's host."""


class RuntimeConfig(Section):
    """What happens when something fails or is slow."""

    lease_s: float = Field(default=8, ge=1)
    """Seconds after which a silent worker's cameras go to another."""
    max_deliveries: int = Field(default=5, ge=1)
    """Attempts at one message before it becomes a dead letter (oddwatch:dead)."""
    join_wait_s: float = Field(default=5, gt=0)
    """Seconds a live camera waits for a slower model before it goes on without."""


class OutputConfig(Section):
    """What 'run' shows of itself."""

    folder: Path | None = None
    """'run' writes alerts.jsonl and snapshots/ here; default nowhere."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """'run' serves Prometheus /metrics and /healthz here; default nowhere."""
    metrics_host: str = Field(default="127.0.0.1", pattern=r"^[A-Za-z0-9_.:-]{1,255}$")
    """Address on which it does; 0.0.0.0 for every interface (nobody is asked for a password there)."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged to stderr: debug, info, warning or error."""


class SinkConfig(Section):
    """A sink: its kind, and the options of that kind."""

    model_config = ConfigDict(extra="allow")
    kind: str
    """Which kind of sink; 'folder' takes a folder: alerts.jsonl and snapshots/ in it. Its options stand beside it."""

    @model_validator(mode="after")
    def _options_fit(self) -> SinkConfig:
        try:
            self.options()
        except OddwatchError as error:
            raise ValueError(str(error)) from error
        return self

    def options(self) -> BaseModel:
        """As the sink's own model checks them. Raises ConfigError."""
        return checked_options(self.kind, self.model_extra or {})

    def below(self, folder: Path) -> SinkConfig:
        """With relative paths taken from that folder."""
        paths = {key: str(folder / value) for key, value in self.options() if isinstance(value, Path)}
        return SinkConfig.model_validate({"kind": self.kind, **(self.model_extra or {}), **paths})


class Config(Section):
    """Everything Oddwatch can be told."""

    cameras: dict[str, CameraConfig] = {}
    """Name -> live camera; see cameras.example.yaml."""
    redis: RedisConfig = RedisConfig()
    decode: DecodeConfig = DecodeConfig()
    models: dict[str, ModelConfig] = Field(default_factory=lambda: {ModelConfig().kind: ModelConfig()}, min_length=1)
    """Name -> temporal model; the name is the model's column in the score files."""
    alerts: AlertSettings = AlertSettings()
    sinks: dict[str, SinkConfig] = {}
    """Name -> where 'run' and 'score --deliver' tell alerts, besides the stream."""
    workers: WorkersConfig = WorkersConfig()
    frames: FramesConfig = FramesConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    output: OutputConfig = OutputConfig()

    @field_validator("cameras", "models", "sinks")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not CAMERA_NAME.match(name):
                raise ValueError(f"the name {name!r} must be 1 to 64 of A-Z a-z 0-9 _ . -")
        return value

    def sinks_with_options(self) -> dict[str, tuple[str, BaseModel]]:
        """Name -> kind and checked options, for `open_sinks`."""
        return {name: (sink.kind, sink.options()) for name, sink in self.sinks.items()}

    @model_validator(mode="after")
    def _no_reserved_model(self) -> Config:
        reserved = {"frame", "time_s", "score"} & set(self.models)
        if reserved:
            raise ValueError(f"models: {reserved.pop()!r} is a column of the score files; choose another name")
        return self


def section_in(annotation: Any) -> Any:
    """The section in a field's annotation, of `X | None` and `dict[str, X]` too; None where there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [section_in(one) for one in get_args(annotation)]
    return next((section for section in found if section is not None), None)


def settings_hash(*parts: BaseModel | Mapping[str, Any] | str) -> str:
    """Eight hex digits that change with any setting."""
    digest = hashlib.sha256()
    for part in parts:
        text = part.model_dump_json() if isinstance(part, BaseModel) else repr(part)
        digest.update(text.encode())
    return digest.hexdigest()[:8]
