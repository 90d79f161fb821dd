"""What a future-frame predictor is trained with: settings, and the sizes that users choose from."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from stages.decode.learned import LearnedDecode
from stages.temporal.future_frame.conv_transformer import ConvTransformerConfig
from stages.temporal.future_frame.format import FrameFormat
from stages.temporal.future_frame.scorer import Squares
from stages.temporal.future_frame.stage import check_sizes
from stages.temporal.future_frame.unet import LossWeights, UNetConfig

Arch = Literal["unet", "conv_transformer"]
Size = Literal["small", "medium", "paper"]
Score = Literal["place", "square", "picture"]
"""How frames are scored: squares by what is normal at their place, the worst square, the whole picture (published)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What is trained and how. The defaults train and run on a CPU."""

    network: UNetConfig | ConvTransformerConfig = field(
        default_factory=lambda: UNetConfig(channels=1, widths=(16, 32, 64, 128))
    )
    form: FrameFormat = field(default_factory=lambda: FrameFormat(height=128, width=192, order="gray"))
    decode: LearnedDecode | None = None
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
    score: Score = "place"
    mixed: bool = False
    """Convolutions in bfloat16, losses and weights in float32."""

    @property
    def arch(self) -> Arch:
        """Name of the network's form in checkpoints."""
        return "unet" if isinstance(self.network, UNetConfig) else "conv_transformer"

    @property
    def squares(self) -> Squares:
        """The squares that `score` looks at."""
        return Squares.of_height(self.form.height)

    def __post_init__(self) -> None:
        check_sizes(self.network, self.form)
        rates, weights = (self.rate, self.critic_rate), asdict(self.weights)
        if self.batch < 1 or not all(0 < r < math.inf for r in rates):
            raise ValueError(f"need batch of 1 or more and positive rates, got {self.batch} and {rates}")
        if not all(0 <= weight < math.inf for weight in weights.values()):
            raise ValueError(f"need no negative weight, got {weights}")
        if self.score not in ("place", "square", "picture"):
            raise ValueError(f"score must be place, square or picture, got {self.score!r}")


STEPS: dict[Size, int] = {"small": 2000, "medium": 20_000, "paper": 40_000}
"""Length of a training unless told otherwise."""


def preset(size: Size, arch: Arch = "unet") -> TrainSettings:
    """Settings of a size. `small` is real time on one CPU core; `paper` is Liu et al. for Ped2, and needs a GPU.

    At `medium` and `paper` the convolutional transformer is half as wide as the U-Net, as it costs twice as much.
    """
    small = TrainSettings()
    sizes = {
        "small": small,
        "medium": replace(
            small,
            network=UNetConfig(channels=1, widths=(32, 64, 128, 256)),
            form=FrameFormat(height=192, width=288, order="gray"),
            weights=LossWeights(),
            critic_widths=(64, 128, 256, 256),
            rate=4e-4,
        ),
        "paper": replace(
            small,
            network=UNetConfig(),
            form=FrameFormat(order="bgr", interpolation="linear"),
            weights=LossWeights(),
            critic_widths=(128, 256, 512, 512),
            rate=1e-4,
            critic_rate=1e-5,
            score="picture",
        ),
    }
    settings = sizes[size]
    if arch == "unet":
        return settings
    widths = settings.network.widths if size == "small" else tuple(w // 2 for w in settings.network.widths)
    head_width = max(8, widths[-1] // 16)
    network = ConvTransformerConfig(channels=settings.form.channels, widths=widths, head_width=head_width)
    return replace(settings, network=network)


def describe(settings: TrainSettings) -> dict:
    """The settings as JSON gives them back."""
    return json.loads(json.dumps(asdict(settings) | {"arch": settings.arch}))
