"""The fight detector that is shipped: it fits the published I3D weights and streams. A second."""

import hashlib
import json

import numpy as np
from dense_makers import features
from places import ROOT

from pipeline.config.load import load_config
from stages.features.i3d import PREPROCESSING
from stages.files.checkpoint import load_checkpoint
from stages.temporal.registry import build_model
from stages.weights.arrays import I3D


def shipped():
    config = load_config(ROOT / "configs" / "fights.yaml")
    return config, load_checkpoint(config.models["fights"].checkpoint, "mil")


def test_it_was_trained_on_the_features_that_published_weights_give_today():
    published = next(iter(I3D.contents))
    version = json.dumps({"weights": published, "preprocessing": PREPROCESSING}, sort_keys=True)
    assert shipped()[1].meta["extractor"] == f"i3d@{hashlib.sha256(version.encode()).hexdigest()[:8]}"


def test_it_is_used_as_it_was_trained():
    config, checkpoint = shipped()
    assert checkpoint.meta["preprocessing"]["height"] == config.decode.height
    assert checkpoint.meta["preprocessing"]["decode"]["snippet_frames"] == config.decode.snippet_frames
    assert checkpoint.meta["preprocessing"]["decode"]["fps"] == config.decode.fps


def test_it_scores_every_snippet_alone():
    _, checkpoint = shipped()
    stage = build_model("mil", "fights", checkpoint)
    x = np.abs(np.random.default_rng(0).normal(size=(5, 1024))).astype(np.float32)
    batch = [(features(row, seq=i, extractor=checkpoint.meta["extractor"]), {}) for i, row in enumerate(x)]
    raw = [out[0].raw[0] for out, _ in stage.process(batch)]
    assert len(set(raw)) == 5
    assert all(0 <= score <= 1 for score in raw)


def test_it_is_small_enough_for_the_repository():
    assert (ROOT / "configs" / "fights.safetensors").stat().st_size < 3e6
