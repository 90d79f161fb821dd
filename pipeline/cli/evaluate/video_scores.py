"""The scores of a manifest's videos, however they came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.score.result import ScoreResult
from pipeline.config.schema import Config

if TYPE_CHECKING:
    from stages.files.manifest import ManifestEntry
    from stages.files.scores_csv import ScoresTable


@dataclass(frozen=True, slots=True, eq=False)
class VideoScores:
    """Scores by `ManifestEntry.video`."""

    config: Config
    """As used: the decode section is that of the footage."""
    tables: dict[str, ScoresTable]
    alerts: dict[str, list[dict]] | None = None
    """As raised; None: nothing streamed, so what would be raised is worked out."""
    warmup_until_s: Mapping[str, float] | None = None
    result: ScoreResult | None = None
    """The finished `score` that all columns come from; None where some do not."""
    notes: tuple[str, ...] = ()
    failed: bool = False

    @classmethod
    def of(cls, entries: Sequence[ManifestEntry], result: ScoreResult) -> VideoScores:
        """The results of a finished `score`."""
        from stages.files.scores_csv import read_scores

        by_path = {Path(r.file).resolve(): r for r in result.files}
        found = [(e.video, by_path[e.path.resolve()]) for e in entries if e.path.resolve() in by_path]
        return cls(
            config=result.config,
            tables={video: read_scores(result.out / r.csv) for video, r in found if r.csv},
            alerts={video: r.alerts for video, r in found},
            warmup_until_s={video: r.warmup_until_s for video, r in found},
            result=result,
            failed=bool(result.missing) or any(r.failed for r in result.files),
        )

    def warmup_lines(self) -> list[str]:
        return self.result.warmup_lines() if self.result else []
