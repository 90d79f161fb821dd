"""The extractors that come with Oddwatch, as others know them before they are built."""

from __future__ import annotations

from functools import partial

from stages.features.registry import ExtractorKind

MOTION = ExtractorKind(
    name="motion", build="stages.features.motion:build", analysis_height=240, rescales=False, sparse=True
)

_network = partial(ExtractorKind, rescales=True, network=True, weights=True)
_torchvision = partial(_network, build="stages.features.torchvision_video:build")

I3D = _network(name="i3d", build="stages.features.i3d:build", analysis_height=224)
EFFICIENTNET_LITE0 = _network(
    name="efficientnet_lite0", build="stages.features.efficientnet:build", analysis_height=224
)
R3D_18 = _torchvision(name="r3d_18", analysis_height=128)
R2PLUS1D_18 = _torchvision(name="r2plus1d_18", analysis_height=128)
S3D = _torchvision(name="s3d", analysis_height=256)
MVIT_V2_S = _torchvision(name="mvit_v2_s", analysis_height=256)
SWIN3D_T = _torchvision(name="swin3d_t", analysis_height=256)
