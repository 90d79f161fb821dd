"""What a user may set about alerts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Level = Annotated[float, Field(gt=0, lt=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class AlertSettings(BaseModel):
    """When a camera's scores become an alert. Scores are calibrated: the highest score of normal footage is 0.5."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    fusion: Literal["mean", "max"] = "mean"
    """How models become one score: `mean` of their odds (evidence adds up), or `max` (the oddest model decides)."""
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Weight of each model by name, 1 where absent; 0 shows a model without letting it decide."""
    raise_at: Level = 0.6
    """Score in (0, 1) at which an event begins; 0.5 is the highest score of normal footage."""
    clear_at: Level = 0.5
    """Score in (0, 1) below which an event pauses; must be lower than raise_at."""
    min_length_s: Annotated[Seconds, Field(le=10)] = 0.4
    """Seconds the score must be at raise_at (but for the share that min_fraction forgives) before an alert opens."""
    min_fraction: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of the frames within min_length_s that must be at raise_at; 1 forgives no dip."""
    merge_gap_s: Seconds = 2.0
    """Seconds: an event that is raised again this soon after clearing goes on; a longer silence closes it."""
    cooldown_s: Seconds = 5.0
    """Seconds after an event's end in which no new one opens; what is still raised then opens at once."""
    update_every_s: Annotated[Seconds, Field(ge=0.1)] = 10.0
    """Seconds between updates of an open alert; live cameras only."""
    max_length_s: Annotated[Seconds, Field(gt=0)] = 300.0
    """Seconds after which an event is closed even if still raised; it opens anew after the cool-down."""

    @model_validator(mode="after")
    def _fits_together(self) -> AlertSettings:
        if self.clear_at >= self.raise_at:
            raise ValueError(f"clear_at ({self.clear_at}) must be lower than raise_at ({self.raise_at})")
        if self.min_length_s >= self.max_length_s:
            raise ValueError(
                f"min_length_s ({self.min_length_s}) must be shorter than max_length_s ({self.max_length_s})"
            )
        return self
