"""A registry entry as it comes out of Redis, where anybody may have written it: checked like what a user configures."""

from __future__ import annotations

import math
import re

from pydantic import ValidationError

from pipeline.cameras.models import ModelSpec
from pipeline.cameras.spec import CameraSpec
from stages.decode.sources.registry import SOURCES
from stages.errors import ConfigError
from stages.messages import CAMERA_NAME

MOST_BYTES = 1 << 20
CONFIG_HASH = re.compile(r"[0-9a-f]{8}\Z")
SHA256 = re.compile(r"[A-Za-z0-9]{1,64}\Z")
LONGEST_PATH = 4096


def received_spec(name: bytes, text: bytes) -> CameraSpec:
    """The camera in an entry of the registry. Raises ValueError with the reason if no user could have it."""
    camera = name.decode("utf-8", "replace")
    if CAMERA_NAME.match(camera) is None:
        raise ValueError("its name must be 1 to 64 of A-Z a-z 0-9 _ . -")
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has {len(text)} bytes")
    try:
        spec = CameraSpec.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from None
    if spec.camera != camera:
        raise ValueError("it is that of another camera")
    _check_source(spec)
    _check_numbers(spec)
    if not spec.models:
        raise ValueError("it has no model")
    for model_name, model in spec.models.items():
        _check_model(model_name, model)
    if not spec.origin.isprintable():
        raise ValueError("its origin holds what cannot be printed")
    return spec


def _check_source(spec: CameraSpec) -> None:
    source = spec.source
    try:
        kind = SOURCES.get(spec.kind)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if kind.live != spec.live:
        raise ValueError(f"its kind {spec.kind!r} is {'' if kind.live else 'not '}live")
    is_address = spec.live or "://" in source
    # A file may be called anything, line breaks and bytes that are no text included.
    if not 0 < len(source) <= LONGEST_PATH or "\0" in source or (is_address and not source.isprintable()):
        raise ValueError("its source is not a path or an address")
    if spec.live:
        return  # Its address is opened only where a configuration has the very same.
    if "://" in source:
        if not kind.claims_address(source):
            raise ValueError("its source is an address that no recording has")
    elif not source.startswith("/") or ".." in source.split("/"):
        raise ValueError("its source is not an absolute path")


def _check_numbers(spec: CameraSpec) -> None:
    sound = (
        0 <= spec.run_ms < 2**53 and 16 <= spec.height <= 2160 and 0 < spec.stream_mb <= 1 << 20
        and 1 <= spec.max_deliveries <= 1 << 20 and spec.join_wait_s > 0 and math.isfinite(spec.join_wait_s)
    )  # fmt: skip
    if not sound or CONFIG_HASH.match(spec.config_hash) is None:
        raise ValueError("it has a number out of range")


def _check_model(name: str, model: ModelSpec) -> None:
    kinds = [name, model.kind, *([model.features] if model.features is not None else [])]
    if not all(map(CAMERA_NAME.match, kinds)):
        raise ValueError("one of its models has a name that none can have")
    if model.checkpoint is not None:
        if not model.checkpoint.startswith("/") or "\0" in model.checkpoint:
            raise ValueError(f"the checkpoint of its model {name} is not an absolute path")
        if model.sha256 is not None and SHA256.match(model.sha256) is None:  # without one it will not be loaded
            raise ValueError(f"the checkpoint of its model {name} has a hash that is none")
