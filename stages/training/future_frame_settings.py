"""What a future-frame predictor is trained with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from stages.preprocessing import Preprocessing
from stages.temporal.conv_transformer import ConvTransformerConfig
from stages.temporal.frame_format import FrameFormat
from stages.temporal.future_frame import LossWeights, UNetConfig
from stages.temporal.future_frame_stream import check_sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What is trained and how. The defaults train and run on a CPU; the paper's are in `paper_settings`."""

    network: UNetConfig | ConvTransformerConfig = field(
        default_factory=lambda: UNetConfig(channels=1, widths=(16, 32, 64, 128))
    )
    form: FrameFormat = field(default_factory=lambda: FrameFormat(height=96, width=144, order="gray"))
    decode: Preprocessing | None = None
    """How the clips were decoded, if the same must be done to score."""
    weights: LossWeights = field(default_factory=lambda: LossWeights(flow=0.2, adversarial=0))
    """An adversarial weight of 0 leaves the discriminators out, which saves a third of the time."""
    critic_widths: tuple[int, ...] = (32, 64, 128, 128)
    batch: int = 4
    rate: float = 1e-3
    """Of Adam, for the generator."""
    critic_rate: float = 2e-5
    decay_from: float = 0.8
    """Part of the training after which both rates are a tenth."""
    patch_px: int = 16
    """Score by the worst square of this size; 0: by the whole frame, as published."""

    @property
    def arch(self) -> str:
        """Name of the network's form in checkpoints."""
        return "unet" if isinstance(self.network, UNetConfig) else "conv_transformer"

    def __post_init__(self) -> None:
        check_sizes(self.network, self.form, self.patch_px)
        if self.batch < 1 or min(self.rate, self.critic_rate) <= 0:
            raise ValueError(f"need batch of 1 or more and positive rates, got {self}")


def paper_settings() -> TrainSettings:
    """Liu et al. for gray footage: 256 x 256, full widths. Needs a GPU."""
    return TrainSettings(
        network=UNetConfig(),
        form=FrameFormat(order="bgr", interpolation="linear"),
        weights=LossWeights(),
        critic_widths=(128, 256, 512, 512),
        rate=1e-4,
        critic_rate=1e-5,
        patch_px=0,
    )


def describe(settings: TrainSettings) -> dict:
    """The settings as JSON gives them back."""
    return json.loads(json.dumps(asdict(settings) | {"arch": settings.arch}))
