"""What a report is told about one video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stages.files.manifest import Interval


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportVideo:
    """One scored, or failed, video. Give zero frames for a file that could not be opened."""

    name: str
    times_s: np.ndarray
    """float64 (N,): of the decoded frames."""
    score: np.ndarray
    """float32 (N,) in [0, 1]: fused and calibrated, NaN = not scored."""
    models: Mapping[str, np.ndarray] = field(default_factory=dict)
    """model -> float32 (N,): raw, NaN = not scored."""
    alerts: Sequence[Mapping] = ()
    """As in `alerts.jsonl`, with an optional `thumb`: JPEG bytes. Of one id the last message counts."""
    gaps: Sequence[tuple[float, float, str]] = ()
    """(start_s, end_s, cause) of stretches that were not scored."""
    warmup_until_s: float = 0.0
    """Until when scores were provisional; 0 if there was no warm-up."""
    truth: Sequence[Interval] | None = None
    """Anomalous [first, last] frames; None if unknown."""
    decoded: int = 0
    scored: int = 0
    gap_frames: Mapping[str, int] = field(default_factory=dict)
    """cause -> frames."""
    status: str = "complete"
    """`complete`, or what is wrong: `truncated: ...`, `failed`."""
    error: str = ""
    """One line about what went wrong."""
    seconds: float = 0.0
    """Wall-clock seconds of work."""
    kept: bool = False
    """Whether an earlier run scored it, and this one only shows it."""

    def __post_init__(self) -> None:
        if self.times_s.dtype != np.float64 or self.times_s.ndim != 1:
            raise ValueError(f"times_s must be float64 (N,), got {self.times_s.dtype} {self.times_s.shape}")
        for name, values in {"score": self.score, **self.models}.items():
            if values.dtype != np.float32 or values.shape != self.times_s.shape:
                raise ValueError(f"{name} must be float32 {self.times_s.shape}, got {values.dtype} {values.shape}")
