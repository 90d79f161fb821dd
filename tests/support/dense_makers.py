"""Tiny dense features, seeded networks and a stand-in runtime for the trained models' tests."""

import numpy as np
import torch

from pipeline.bus.codec import decode_state, encode_state
from stages.messages import REFERENCE_LEVELS, Features
from stages.temporal.network_checkpoint import make_checkpoint

torch.set_num_threads(1)  # on a busy machine two threads wait for each other: ten times slower
EXTRACTOR = "i3d@0123abcd"


def features(values, *, seq=0, camera="cam", frames=16, extractor=EXTRACTOR, **fields):
    """One snippet of `frames` frames at 25 fps, of which every second one was kept."""
    first = seq * frames
    return Features(
        camera=camera,
        run_ms=1000,
        seq=seq,
        first_frame=first,
        times_s=(first + np.arange(frames)) / 25,
        picked=np.arange(0, frames, 2, dtype=np.int32),
        extractor=extractor,
        values=np.asarray(values, np.float32),
        **fields,
    )


def seed_weights(net, seed):
    """Fill a network by the rule of golden/GOLDEN.md, so that no branch of it is idle."""
    rs = np.random.RandomState(seed)
    state = net.state_dict()
    for key in sorted(state):
        shape = tuple(state[key].shape)
        if key.endswith("num_batches_tracked"):
            continue
        if key.endswith("running_var"):
            value = 0.5 + rs.random_sample(shape)
        elif key.endswith("running_mean") or len(shape) <= 1:
            batch_norm = key.endswith("weight") and len(shape) == 1
            value = 0.1 * rs.standard_normal(shape) + batch_norm
        else:
            value = rs.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        state[key] = torch.from_numpy(np.asarray(value, np.float32))
    net.load_state_dict(state)
    return net


def checkpoint_of(kind, net, config, **changes):
    about = {
        "extractor": EXTRACTOR,
        "preprocessing": {"size": 224},
        "reference": REFERENCE_LEVELS.astype(np.float32),
        "training": {},
    }
    return make_checkpoint(kind, net, config, **(about | changes))


def run_cameras(stage, videos, rng):
    """Feed videos {camera: (T, D)} in random batches, states through the codec; {camera: [Scores]} as they came."""
    scores = {camera: [] for camera in videos}
    states = {camera: {} for camera in videos}
    at = dict.fromkeys(videos, 0)
    while left := [camera for camera in videos if at[camera] < len(videos[camera])]:
        chosen = rng.permutation(left)[: rng.integers(1, len(left) + 1)].tolist()
        batch = [(features(videos[c][at[c]], seq=at[c], camera=c), states[c]) for c in chosen]
        for array in (array for _, state in batch for array in state.values()):
            array.setflags(write=False)
        for camera, (out, state) in zip(chosen, stage.process(batch), strict=True):
            scores[camera] += out
            states[camera] = through_redis(state)
            at[camera] += 1
    for camera, state in states.items():
        out, rest = stage.finish(state)
        assert rest == {}
        scores[camera] += out
    return scores


def through_redis(state):
    return decode_state({k.encode(): v if isinstance(v, bytes) else v.encode() for k, v in encode_state(state).items()})


def relative_error(got, expected):
    """Largest difference, relative to the largest expected value. Shapes may differ in axes of length 1."""
    got = got.detach().numpy() if isinstance(got, torch.Tensor) else np.asarray(got)
    expected = np.asarray(expected)
    assert np.squeeze(got).shape == np.squeeze(expected).shape
    return np.abs(np.squeeze(got) - np.squeeze(expected)).max() / np.abs(expected).max()
