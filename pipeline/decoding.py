"""A camera is decoded as the footage was that its models learned from: live and offline cannot differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.config import DecodeConfig
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.spec import ModelSpec


def decode_as_learned(section: DecodeConfig, key: str, models: Mapping[str, ModelSpec]) -> DecodeConfig:
    """The decode section, with what it leaves open taken from the models' checkpoints. `key`: where it stands.

    Raises ConfigError where it contradicts them, or they one another.
    """
    learned = [(str(m.checkpoint), asdict(m.learned)) for m in models.values() if m.learned is not None]
    if not learned:
        return section
    first, values = learned[0]
    for field, value in values.items():
        for other, others in learned[1:]:
            if others[field] != value:
                raise ConfigError(
                    f"{other}: made with {field} {_said(others[field])}, but {first} with {_said(value)}: "
                    "score with one of them alone, or make one again with the decode section of the other"
                )
        own = getattr(section, field)
        if field in section.model_fields_set and own is not None and own != value:
            raise ConfigError(
                f"{key}.{field}: {_said(own)}, but {first} was made with {_said(value)}: "
                f"leave {key}.{field} out, or make the checkpoint again with this configuration"
            )
    return section.model_copy(update=values)


def _said(value: float | None) -> str:
    return "all frames" if value is None else f"{value:g}"
