"""What every registered temporal model promises before and while it is built."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from stages.errors import CheckpointError, ConfigError
from stages.files.checkpoint import Checkpoint
from stages.messages import Features
from stages.plugins import load
from stages.temporal.registry import MODELS, build_model, reads_features, whole_video_scorer

every_kind = pytest.mark.parametrize("name", MODELS.names())


def made_by(kind: str) -> Checkpoint:
    return Checkpoint(kind=kind, meta={"extractor": "motion@1", "architecture": {}}, arrays={})


def test_there_are_those_that_the_documentation_names() -> None:
    assert {"novelty", "mil", "rtfm", "future_frame"} <= {*MODELS.names()}


@every_kind
def test_what_it_refers_to_is_there(name: str) -> None:
    kind = MODELS.get(name)
    assert list(inspect.signature(load(kind.build)).parameters)[:3] == ["name", "checkpoint", "device"]
    if kind.whole_video:
        assert list(inspect.signature(load(kind.whole_video)).parameters) == ["name", "checkpoint", "paper", "device"]


@every_kind
def test_without_a_checkpoint_it_learns_by_itself_or_says_how_to_make_one(name: str) -> None:
    kind = MODELS.get(name)
    if kind.adaptive:
        model = build_model(name, "mine")
        assert model.name == "mine"
        assert model.hash
        assert (model.features is None) == kind.reads_snippets
        return
    remedy = kind.made_by.split(" --")[0] if kind.made_by else "needs --model CKPT"
    with pytest.raises(ConfigError, match=f"mine: {name} needs --model CKPT.*{remedy if kind.made_by else ''}"):
        build_model(name, "mine")


@every_kind
def test_a_checkpoint_of_another_kind_or_without_substance_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"holds a 'other' model, expected '{name}'"):
        build_model(name, "mine", made_by("other"))
    with pytest.raises(CheckpointError):
        build_model(name, "mine", made_by(name))


@every_kind
def test_it_says_what_it_reads(name: str) -> None:
    kind = MODELS.get(name)
    assert reads_features(name, None, "i3d") == (None if kind.reads_snippets else "i3d")
    assert reads_features(name, made_by(name), "i3d") == (None if kind.reads_snippets else "motion")
    if not kind.whole_video:
        with pytest.raises(CheckpointError, match=f"a '{name}' model scores footage only"):
            whole_video_scorer("mine", made_by(name))


@pytest.mark.parametrize("name", [k.name for k in MODELS.all() if k.adaptive and not k.reads_snippets])
def test_an_adaptive_one_scores_every_kept_frame(name: str) -> None:
    model = build_model(name, "mine")
    features = Features(
        camera="cam", run_ms=5, seq=0, first_frame=0, times_s=np.arange(16) / 25,
        picked=np.arange(0, 16, 2, dtype=np.int32), extractor=f"{model.features}@1",
        values=np.zeros((0, 11), np.float32), cells=np.zeros((0, 3), np.int16), grid=(4, 4),
    )  # fmt: skip
    (((scores,), state),) = model.process([(features, {})])
    assert scores.raw.shape == (8,)
    assert (scores.model, scores.model_hash) == ("mine", model.hash)
    assert np.isfinite(scores.raw).all()
    owed, _ = model.finish(state)
    assert owed == []
