"""How the footage was decoded that a model learned from: kept in its checkpoint, and used again to score."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from stages.decode.settings import DecodeSettings
from stages.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedDecode:
    """The decode settings in a checkpoint: those that change the pictures and snippets a model sees."""

    height: int
    """Pixels, as in DecodeSettings."""
    snippet_frames: int
    fps: float | None
    """None: all frames."""

    def __post_init__(self) -> None:
        DecodeSettings(height=self.height, snippet_frames=self.snippet_frames, fps=self.fps)

    @classmethod
    def of(cls, settings: DecodeSettings) -> LearnedDecode:
        """Those settings of the decoder."""
        return cls(height=settings.height, snippet_frames=settings.snippet_frames, fps=settings.fps)

    @classmethod
    def read(cls, meta: dict) -> LearnedDecode | None:
        """Out of a checkpoint's metadata; None where it says nothing of footage. Raises CheckpointError if damaged."""
        stored = meta.get("preprocessing") or {}
        if "decode" not in stored:
            return None
        try:
            decode = stored["decode"]
            # The first checkpoints keep a height that their extractor chose beside the rest.
            height = decode["height"] or stored["height"]
            return cls(height=height, snippet_frames=decode["snippet_frames"], fps=decode["fps"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint's preprocessing cannot be read ({type(error).__name__}: {error}); make it again"
            ) from error

    def meta(self) -> dict:
        """What a checkpoint keeps as its `preprocessing`."""
        return {"decode": asdict(self)}
