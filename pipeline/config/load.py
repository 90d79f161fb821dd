"""The configuration: one YAML file, every key checked, every error naming file, line, key and remedy."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stages.alerting.settings import AlertSettings
from stages.errors import ConfigError
from stages.messages import CAMERA_NAME


class Section(BaseModel):
    """A part of the file: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RedisSettings(Section):
    url: str | None = None
    """Address: redis://, rediss://, unix:// or redis+sentinel://; default $REDIS_URL, else embedded."""
    prefix: str = Field(default="oddwatch", pattern=r"^[A-Za-z0-9_.-]+$")
    """First part of every key."""
    stream_mb: float = Field(default=32, gt=0)
    """MiB that one stream of one camera may hold."""
    memory_mb: int | None = Field(default=None, ge=64)
    """MiB of the embedded server; default a quarter of this machine."""


class DecodeConfig(Section):
    height: int | None = Field(default=None, ge=16, le=2160)
    """Analysis height in pixels; default: what the extractors want."""
    snippet_frames: int = Field(default=16, ge=1, le=256)
    """Kept frames in a snippet."""
    fps: float | None = Field(default=None, gt=0)
    """Keep at most this many frames per second; default all."""
    open_timeout_s: float = Field(default=10, gt=0)
    """Seconds to wait for a camera to open."""
    read_timeout_s: float = Field(default=20, gt=0)
    """Seconds without a packet before a camera counts as dead."""
    transport: Literal["tcp", "udp"] = "tcp"
    """RTSP transport."""


class ModelConfig(Section):
    checkpoint: Path | None = None
    """File made by fit or train; default: learn from the camera itself."""
    kind: str = "novelty"
    """Temporal model, where no checkpoint says so."""
    features: str = "motion"
    """Feature extractor, where no checkpoint says so."""


class CameraConfig(Section):
    source: str
    """Address: rtsp(s)://, http(s)://, /dev/videoN, or a file."""
    enabled: bool = True
    """Whether to watch it; false: known, but not watched."""
    decode: DecodeConfig | None = None
    """Replaces the global decode section for this camera."""
    models: dict[str, ModelConfig] | None = None
    """Replaces the global models for this camera."""
    alerts: AlertSettings | None = None
    """Replaces the global alerts section for this camera."""


class WorkersConfig(Section):
    features: int = Field(default=1, ge=1, le=64)
    """Feature workers on this host."""
    temporal: int = Field(default=1, ge=1, le=64)
    """Temporal-model workers on this host."""
    alerting: int = Field(default=1, ge=1, le=64)
    """Alerting workers on this host."""
    decode_files: int | None = Field(default=None, ge=1)
    """Files decoded at once on this host; default one per core."""
    batch: int = Field(default=16, ge=1, le=1024)
    """Snippets given to a model at once, at most; they come from as many cameras."""
    batch_wait_ms: float | None = Field(default=None, ge=0, le=1000)
    """Milliseconds the first of a batch waits for more; default 0 on a CPU, 10 on a GPU."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """One of auto, cpu, cuda or cuda:N, for features and temporal models."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """In which feature networks compute: fp32; bf16 and fp16 are faster, fp16 on GPUs only."""
    engine: Literal["torch", "openvino"] = "torch"
    """What computes feature networks: torch, or openvino, which is faster on CPUs and installed apart."""


class FramesConfig(Section):
    transport: Literal["auto", "shared", "inline"] = "auto"
    """How pixels get to their readers: shared (memory of one host), inline (in Redis), or auto."""


class RuntimeConfig(Section):
    lease_s: float = Field(default=8, ge=1)
    """Seconds after which a silent worker's cameras go to another."""
    max_deliveries: int = Field(default=5, ge=1)
    """Attempts at one message before it is buried in dead letters."""
    join_wait_s: float = Field(default=5, gt=0)
    """Seconds a live camera waits for a slower model before going on without."""


class OutputConfig(Section):
    folder: Path | None = None
    """`run` writes alerts.jsonl and snapshots/ here; default nowhere."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """`run` serves Prometheus /metrics and /healthz here."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged to stderr."""


class Config(Section):
    """Everything Oddwatch can be told."""

    redis: RedisSettings = RedisSettings()
    decode: DecodeConfig = DecodeConfig()
    models: dict[str, ModelConfig] = Field(default_factory=lambda: {"novelty": ModelConfig()}, min_length=1)
    alerts: AlertSettings = AlertSettings()
    cameras: dict[str, CameraConfig] = {}
    workers: WorkersConfig = WorkersConfig()
    frames: FramesConfig = FramesConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    output: OutputConfig = OutputConfig()

    @field_validator("cameras", "models")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not CAMERA_NAME.match(name):
                raise ValueError(f"the name {name!r} must be 1 to 64 of A-Z a-z 0-9 _ . -")
        return value

    @model_validator(mode="after")
    def _no_reserved_model(self) -> Config:
        reserved = {"frame", "time_s", "score"} & set(self.models)
        if reserved:
            raise ValueError(f"models: {reserved.pop()!r} is a column of the score files; choose another name")
        return self


def settings_hash(*parts: BaseModel | Mapping[str, Any] | str) -> str:
    """Eight hex digits that change with any setting."""
    digest = hashlib.sha256()
    for part in parts:
        text = part.model_dump_json() if isinstance(part, BaseModel) else repr(part)
        digest.update(text.encode())
    return digest.hexdigest()[:8]


def load_config(path: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and check a file; None gives the defaults. `${NAME}` and `${NAME:-default}` are taken from `environ`.

    Paths in the file are relative to it. Raises ConfigError, one line per problem.
    """
    if path is None:
        return Config()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot read the configuration ({getattr(error, 'strerror', None) or error})"
        ) from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: it holds a character that is not allowed") from error
    _refuse_repeats(path, node)
    if data is None:
        return Config()
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping of sections ({', '.join(Config.model_fields)})")
    data = _substitute(data, environ, path, node, [])
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        lines = [_explain(path, node, e) for e in error.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None
    return _resolve_paths(config, path.parent)


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def _substitute(value: Any, environ: Mapping[str, str], path: Path, node: yaml.Node | None, loc: list[str]) -> Any:
    if isinstance(value, dict):
        return {k: _substitute(v, environ, path, node, [*loc, str(k)]) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, environ, path, node, loc) for v in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = environ.get(match[1], match[2])
        if found is None:
            raise ConfigError(
                f"{path}:{_line_of(node, loc)}: {'.'.join(loc)}: ${{{match[1]}}} is not set; "
                f"export it, or write ${{{match[1]}:-default}}"
            )
        return found

    return _VARIABLE.sub(replace, value)


def _refuse_repeats(path: Path, node: yaml.Node | None) -> None:
    """YAML lets the last of two equal keys win; here one of them is a mistake."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    first = seen[key.value]
                    raise ConfigError(f"{path}:{line}: {key.value}: is also on line {first}; remove one of them")
                seen[key.value] = line
            _refuse_repeats(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeats(path, value)


def _resolve_paths(config: Config, folder: Path) -> Config:
    def model(m: ModelConfig) -> ModelConfig:
        return m.model_copy(update={"checkpoint": folder / m.checkpoint}) if m.checkpoint else m

    def camera(c: CameraConfig) -> CameraConfig:
        source = c.source
        if "://" not in source and not source.startswith("/"):
            source = str(folder / source)
        models = {n: model(m) for n, m in c.models.items()} if c.models else None
        return c.model_copy(update={"source": source, "models": models})

    output = config.output
    if output.folder:
        output = output.model_copy(update={"folder": folder / output.folder})
    return config.model_copy(
        update={
            "models": {n: model(m) for n, m in config.models.items()},
            "cameras": {n: camera(c) for n, c in config.cameras.items()},
            "output": output,
        }
    )


def _explain(path: Path, node: yaml.Node | None, error: Any) -> str:
    """`file:line: key: what is wrong; remedy` for one pydantic error. Values are never shown: they may be secrets."""
    loc = [str(part) for part in error["loc"]]
    line = _line_of(node, loc)
    key = ".".join(loc) or "file"
    if error["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        close = difflib.get_close_matches(loc[-1], known, 1)
        remedy = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(known)}"
        return f"{path}:{line}: unknown key '{key}'; {remedy}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{path}:{line}: {key}: {message[0].lower() + message[1:]}"


def _line_of(node: yaml.Node | None, loc: list[str]) -> int:
    line = node.start_mark.line + 1 if node is not None else 1
    for part in loc:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if key.value == part:
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return line


def _known_keys(loc: list[str]) -> list[str]:
    section: Any = Config
    for part in loc:
        fields = getattr(section, "model_fields", None)
        if fields is None:
            break
        if part in fields:
            section = _section_in(fields[part].annotation)
    return list(getattr(section, "model_fields", {}))


def _section_in(annotation: Any) -> Any:
    """The settings class in an annotation: of `X | None` and `dict[str, X]` it is X."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_section_in(a) for a in getattr(annotation, "__args__", ())]
    return next((f for f in found if f is not None), None)
