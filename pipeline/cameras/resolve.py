"""The decode section, resolved against the checkpoints: a camera is decoded as its models learned, live and offline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.cameras.models import ModelSpec
from pipeline.config.schema import DecodeConfig
from stages.errors import ConfigError


@dataclass(frozen=True, slots=True)
class _Requirement:
    """What one checkpoint requires of a setting."""

    checkpoint: str
    value: float | None
    at_least: bool = False
    """A higher value will do as well."""

    def allows(self, value: float | None) -> bool:
        return value == self.value or (self.at_least and (value or 0) > (self.value or 0))


def resolve_decode(section: DecodeConfig, key: str, models: Mapping[str, ModelSpec]) -> DecodeConfig:
    """The decode section, with what it leaves open taken from the models' checkpoints. `key`: where it stands.

    Snippets and rate must be those every model learned from; so must the height of pictures, but for models whose
    extractor brings any picture to one size itself: for them it may be greater. Raises ConfigError where the section
    contradicts the models, or they one another.
    """
    from stages.features.registry import EXTRACTORS

    learned = [(m, m.learned) for m in models.values() if m.learned is not None]
    if not learned:
        return section
    requirements = {
        "height": [
            _Requirement(str(m.checkpoint), p.height, m.features is not None and EXTRACTORS.get(m.features).rescales)
            for m, p in learned
        ],
        "snippet_frames": [_Requirement(str(m.checkpoint), p.snippet_frames) for m, p in learned],
        "fps": [_Requirement(str(m.checkpoint), p.fps) for m, p in learned],
    }
    return section.model_copy(
        update={field: _agreed(section, key, field, said) for field, said in requirements.items()}
    )


def _agreed(section: DecodeConfig, key: str, field: str, requirements: list[_Requirement]) -> float | None:
    # Those that allow one value only first, then the greatest: if any value suits all, it is the first.
    first, *rest = sorted(requirements, key=lambda c: (c.at_least, -(c.value or 0) if c.at_least else 0))
    for other in rest:
        if not other.allows(first.value):
            raise ConfigError(
                f"{other.checkpoint}: made with {field} {_said(other.value)}, but {first.checkpoint} with "
                f"{_said(first.value)}: score with one of them alone, or make one again with the decode section of "
                "the other"
            )
    own = getattr(section, field)
    if own is None or field not in section.model_fields_set:
        return first.value
    for requirement in requirements:
        if not requirement.allows(own):
            raise ConfigError(
                f"{key}.{field}: {_said(own)}, but {requirement.checkpoint} was made with {_said(requirement.value)}: "
                f"leave {key}.{field} out, or make the checkpoint again with this configuration"
            )
    return own


def _said(value: float | None) -> str:
    return "all frames" if value is None else f"{value:g}"
