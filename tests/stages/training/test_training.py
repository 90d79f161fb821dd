"""Training of mil and rtfm on made features: reproducible, resumable, honest about groups. About fifteen seconds."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_makers import run_cameras
from makers_video import write_video
from plugged import plug_in

from pipeline.cli.app import main
from stages.errors import CheckpointError, ConfigError, OddwatchError, UsageError
from stages.files.checkpoint import load_checkpoint, save_checkpoint
from stages.files.manifest import ManifestEntry
from stages.messages import REFERENCE_LEVELS
from stages.temporal.registry import build_model
from stages.temporal.weak.mil import MILConfig
from stages.temporal.weak.rtfm import RTFMConfig
from stages.training.bags import Bags, TrainingVideo, grouped_folds, label_of
from stages.training.gather import chosen_split
from stages.training.weak import train as weak
from stages.training.weak.crossval import OutOfFold, cross_validate, mean_and_logistic
from stages.training.weak.curves import curves_figure
from stages.training.weak.loop import Point, Settings
from stages.training.weak.mil import Standard
from stages.training.weak.resume import load_progress, resume_path, save_progress
from stages.training.weak.train import Recipe, make_trainable, reference_of, split, train_weak

D = 6
SETTINGS = Settings(iterations=6, batch=3, learning_rate=0.01, check_every=2)
MIL = Recipe(model=MILConfig(input_dim=D), settings=SETTINGS, segments=4, validation=0.25)
RTFM = Recipe(model=RTFMConfig(input_dim=D, mode="causal", window=4), settings=SETTINGS, segments=4, validation=0.25)
EACH = pytest.mark.parametrize(
    "recipe", [MIL, replace(MIL, standardise=True), RTFM], ids=["mil", "standardised", "rtfm"]
)


def make_videos(count=16, crops=1, seed=0, groups=8):
    """Videos of which the odd-numbered hold a few snippets that point another way."""
    rng = np.random.default_rng(seed)
    videos = []
    for i in range(count):
        t = int(rng.integers(2, 7))
        x = np.abs(rng.normal(1, 0.2, (t, crops, D))).astype(np.float32)
        if i % 2:
            x[rng.integers(t), :, :3] += 2
        frames = np.full(t, 16, np.int32)
        videos.append(TrainingVideo(name=f"v{i}", label=i % 2, group=f"g{i % groups // 2}", values=x, frames=frames))
    return videos


def train(recipe, videos=None, **options):
    about = {"extractor": "i3d@0123abcd", "preprocessing": {"height": 224}}
    return train_weak(make_videos() if videos is None else videos, recipe, **(about | options))


def bytes_of(checkpoint, path):
    save_checkpoint(path, checkpoint)
    return path.read_bytes()


def of_seed(recipe, seed):
    return replace(recipe, settings=replace(recipe.settings, seed=seed))


# -- the same again ------------------------------------------------------------------------------------------------


@EACH
def test_two_trainings_with_one_seed_give_the_same_file_and_another_seed_another(tmp_path, recipe):
    first = bytes_of(train(recipe).checkpoint, tmp_path / "a")
    torch.manual_seed(99)
    np.random.seed(99)
    assert bytes_of(train(recipe).checkpoint, tmp_path / "b") == first
    assert bytes_of(train(of_seed(recipe, 1)).checkpoint, tmp_path / "c") != first


class Killed(Exception):
    pass


@EACH
@pytest.mark.parametrize("checks", [1, 2])
def test_a_killed_training_resumed_ends_like_an_uninterrupted_one(tmp_path, recipe, checks):
    path, seen = resume_path(tmp_path / "m.safetensors"), []

    def keep_then_die(progress):
        save_progress(path, progress, "id")
        seen.append(progress.iteration)
        if len(seen) == checks:
            raise Killed

    with pytest.raises(Killed):
        train(recipe, keep=keep_then_die)
    resumed = []
    start = load_progress(path, "id")
    assert start.iteration == 2 * checks
    again = train(recipe, start=start, report=lambda iteration, *_: resumed.append(iteration))
    whole = train(recipe)
    assert resumed == list(range(2 * checks + 1, 7))
    assert bytes_of(again.checkpoint, tmp_path / "a") == bytes_of(whole.checkpoint, tmp_path / "b")
    assert again.progress.curve == whole.progress.curve


def test_training_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(MIL)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda p: "other", "other settings, features or videos", id="of another training"),
        pytest.param(lambda p: p.write_bytes(b"x") and "id", "damaged", id="damaged"),
    ],
)
def test_progress_that_does_not_belong_is_refused(tmp_path, change, says):
    path = tmp_path / "m.resume"
    save_progress(path, train(MIL).progress, "id")
    with pytest.raises(CheckpointError, match=rf"m\.resume.*{says}.*without --resume"):
        load_progress(path, change(path))
    assert load_progress(tmp_path / "none", "id") is None


def test_the_identity_of_a_training_changes_with_data_settings_and_extractor():
    videos = make_videos()
    same = weak.identity(videos, MIL, "i3d@1")
    relabelled = [replace(videos[0], label=1), *videos[1:]]
    others = [
        weak.identity(relabelled, MIL, "i3d@1"),
        weak.identity(videos, MIL, "i3d@2"),
        weak.identity(videos, of_seed(MIL, 3), "i3d@1"),
        weak.identity(videos, replace(MIL, model=MILConfig(input_dim=D, dropout=0.1)), "i3d@1"),
    ]
    assert weak.identity(make_videos(), MIL, "i3d@1") == same
    assert same not in others
    assert len(set(others)) == len(others)


# -- what is learnt ------------------------------------------------------------------------------------------------


@EACH
def test_the_checkpoint_streams_what_training_measured(tmp_path, recipe):
    videos = make_videos()
    outcome = train(recipe, videos)
    save_checkpoint(tmp_path / "m", outcome.checkpoint)
    stage = build_model(recipe.kind, "m", load_checkpoint(tmp_path / "m", recipe.kind))
    learn, held = split(videos, recipe)
    trainable = make_trainable(recipe, learn)
    trainable.net.load_state_dict({name: torch.from_numpy(a) for name, a in outcome.progress.best.items()})
    expected = {video.name: trainable.scores(video.values) for video in held}
    streamed = run_cameras(stage, {v.name: v.values[:, 0] for v in held}, np.random.default_rng(0))
    for name, scores in streamed.items():
        np.testing.assert_allclose([s.raw[0] for s in scores], expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("recipe", [replace(MIL, standardise=True), RTFM], ids=["mil", "rtfm"])
def test_what_can_be_told_apart_is_learnt(recipe, crops):
    longer = replace(recipe, settings=replace(SETTINGS, iterations=40, batch=8, check_every=10, learning_rate=3e-3))
    assert train(longer, make_videos(40, crops)).roc_auc > 0.95


@EACH
def test_the_iterate_that_ranks_held_out_videos_best_is_kept(recipe):
    outcome = train(recipe)
    best = max(outcome.progress.curve, key=lambda point: point.roc_auc)
    assert outcome.progress.best_iteration == best.iteration
    assert outcome.roc_auc == pytest.approx(best.roc_auc)
    assert outcome.checkpoint.meta["training"]["kept_iteration"] == best.iteration
    assert [point.iteration for point in outcome.progress.curve] == [2, 4, 6]


def test_without_validation_the_last_iterate_of_all_videos_is_kept():
    outcome = train(replace(MIL, validation=0))
    assert (outcome.progress.best_iteration, outcome.held_out, outcome.roc_auc) == (6, (), None)
    assert outcome.checkpoint.meta["training"]["reference_from"].endswith("too kind")


def test_the_reference_is_of_held_out_normal_frames_each_snippet_by_its_length():
    videos = [replace(v, frames=np.arange(1, len(v.values) + 1, dtype=np.int32)) for v in make_videos()]
    outcome = train(MIL, videos)
    learn, held = split(videos, MIL)
    trainable = make_trainable(MIL, learn)
    trainable.net.load_state_dict({name: torch.from_numpy(a) for name, a in outcome.progress.best.items()})
    scores = [
        s
        for v in held
        if v.label == 0
        for s, n in zip(trainable.scores(v.values), v.frames, strict=True)
        for _ in range(n)
    ]
    np.testing.assert_allclose(outcome.checkpoint.meta["reference"], np.quantile(scores, REFERENCE_LEVELS), rtol=1e-5)
    given = train(MIL, videos, normal_scores=np.linspace(0, 1, 1001, dtype=np.float32))
    np.testing.assert_allclose(given.checkpoint.meta["reference"], REFERENCE_LEVELS, atol=1e-6)
    assert len(reference_of(np.float32([0.3]))) == len(REFERENCE_LEVELS)


def test_standardised_inputs_end_up_in_the_first_layer():
    videos = make_videos(crops=2)
    trainable = make_trainable(replace(MIL, standardise=True), videos)
    x = videos[3].values
    unit = torch.nn.functional.normalize(torch.from_numpy(x), dim=2)
    with torch.no_grad():
        plain = trainable.finished()(unit).mean(1).numpy()
    np.testing.assert_allclose(plain, trainable.scores(x), rtol=1e-5)
    standard = Standard.of(videos)
    rows = np.concatenate([v.values.reshape(-1, D) for v in videos])
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True) - standard.mean) * standard.scale
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(rows.std(0), rows.std(0)[0], rtol=1e-3)


def test_features_that_never_vary_are_not_blown_up():
    videos = [replace(v, values=np.ones_like(v.values)) for v in make_videos()]
    assert np.isfinite(Standard.of(videos).scale).all()
    assert np.isfinite(train(replace(MIL, standardise=True), videos).progress.curve[-1].loss)


# -- bags and splits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_no_group_is_on_both_sides_of_a_split(seed):
    rng = np.random.default_rng(seed)
    videos = make_videos(60, seed=seed)
    videos = [replace(v, group=f"g{rng.integers(20)}") for v in videos]
    held_once = []
    for learn, held in grouped_folds(videos, 5, seed):
        assert not {v.group for v in learn} & {v.group for v in held}
        assert len(learn) + len(held) == len(videos)
        assert {v.label for v in held} == {0, 1}
        held_once += [v.name for v in held]
    assert sorted(held_once) == sorted(v.name for v in videos)


def test_too_few_groups_are_told_with_a_remedy():
    with pytest.raises(OddwatchError, match=r"only 2 groups .*--validation 0"):
        train(MIL, make_videos(groups=4))


def test_too_few_groups_are_told_before_anything_is_extracted(tmp_path, monkeypatch, capsys):
    for i in range(8):
        (tmp_path / f"{i}.mp4").write_text("never opened")
    lines = [{"video": f"{i}.mp4", "label": i % 2, "group": f"g{i % 4}"} for i in range(8)]
    manifest = write_lines(tmp_path / "m.jsonl", lines)
    command = ("train", "mil", "--manifest", manifest, "--out", tmp_path / "m.safetensors", "--features", "i3d")
    assert oddwatch(monkeypatch, *command) == 1
    assert "only 2 groups" in capsys.readouterr().err


def numbered(count, length=2):
    """Videos whose every feature is their number, in one view, and its negative in another."""
    values = [np.full((length, 1, 1), i, np.float32) for i in range(1, count + 1)]
    frames = np.full(length, 16, np.int32)
    return [TrainingVideo(name=f"{x[0]}", label=1, group="", values=x, frames=frames, views=(-x,)) for x in values]


def test_no_video_comes_twice_in_a_batch_before_all_have_come():
    bags = Bags(numbered(10), 1, lambda x: x)
    for seed in range(20):
        drawn = np.abs(bags.draw(15, np.random.default_rng(seed))[:, 0, 0, 0])
        assert sorted(drawn[:10]) == list(range(1, 11))
        assert len(set(drawn[10:])) == 5


def test_a_chained_bag_is_its_videos_end_to_end_in_one_view_each():
    bags = Bags(numbered(6), 3, lambda x: x)
    drawn = bags.draw(2, np.random.default_rng(0))
    assert drawn.shape == (2, 1, 6, 1)
    np.testing.assert_array_equal(drawn[..., 0::2, :], drawn[..., 1::2, :])
    assert sorted(np.abs(drawn[:, 0, ::2, 0]).ravel()) == list(range(1, 7))


def test_views_are_drawn_alike_often():
    bags = Bags(numbered(10), 1, lambda x: x)
    drawn = np.concatenate([bags.draw(10, np.random.default_rng(s))[:, 0, 0, 0] for s in range(50)])
    assert 0.4 < np.mean(drawn < 0) < 0.6


@EACH
def test_a_bag_holds_videos_of_its_class_only(recipe, monkeypatch):
    seen = {}

    class Spy(Bags):
        def __init__(self, videos, chain, pool):
            seen[videos[0].label] = {v.label for v in videos}
            super().__init__(videos, chain, pool)

    monkeypatch.setattr("stages.training.weak.loop.Bags", Spy)
    train(recipe)
    assert seen == {0: {0}, 1: {1}}


@pytest.mark.parametrize(
    ("entry", "label"),
    [
        pytest.param({"label": 1}, 1, id="said"),
        pytest.param({"anomalies": ((3, 9),)}, 1, id="told by its anomalies"),
        pytest.param({"anomalies": ()}, 0, id="told by having none"),
    ],
)
def test_the_label_of_a_bag(entry, label):
    assert label_of(ManifestEntry(video="a", path=Path("a"), **entry)) == label


def test_a_video_without_a_label_is_named():
    with pytest.raises(ConfigError, match=r'a\.mp4: label: missing; training needs "label"'):
        label_of(ManifestEntry(video="a.mp4", path=Path("a.mp4")))


def test_the_test_split_is_never_trained_on():
    entries = [ManifestEntry(video=s, path=Path(s), split=s) for s in ("train", "test", "val")]
    assert [e.video for e in chosen_split(entries, None)] == ["train"]
    assert [e.video for e in chosen_split(entries, "val")] == ["val"]
    with pytest.raises(UsageError, match="for 'oddwatch evaluate' alone"):
        chosen_split(entries, "test")
    with pytest.raises(UsageError, match=r"--split train: .* the manifest has \['test'\]"):
        chosen_split(entries[1:2], None)
    assert len(chosen_split([ManifestEntry(video="a", path=Path("a"))], None)) == 1


# -- cross-validation ----------------------------------------------------------------------------------------------


def test_every_clip_is_judged_by_a_method_that_has_not_seen_its_group():
    videos = make_videos(40, groups=20)

    def peeping(training, seed):
        groups = {v.group for v in training}
        return lambda video: np.float32([video.group in groups])

    first, second = cross_validate(videos, {"peeping": peeping, "baseline": mean_and_logistic()}, 5, 0)
    assert not np.any(first.clip_scores())
    assert second.roc_auc() > 0.9
    np.testing.assert_array_equal(first.folds, second.folds)
    assert first.names == tuple(v.name for v in videos)


def test_clip_figures_by_mean_and_by_highest_snippet():
    run = OutOfFold(
        method="m",
        seed=0,
        names=("a", "b", "c", "d"),
        labels=np.array([0, 1, 0, 1]),
        folds=np.array([0, 0, 1, 1]),
        scores=tuple(np.float32(s) for s in ([0.3, 0.3], [0.0, 0.5], [0.7, 0.7], [0.8])),
    )
    assert run.roc_auc("mean") == 0.5
    assert run.roc_auc("max") == 0.75
    assert run.fold_roc_auc("max") == 1.0


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path):
    lines = []
    for video in make_videos():
        np.save(tmp_path / f"{video.name}.npy", video.values[:, 0])
        lines.append({"video": f"{video.name}.npy", "label": video.label, "group": video.group})
    return write_lines(tmp_path / "m.jsonl", lines)


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def oddwatch(monkeypatch, *arguments):
    """Exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["oddwatch", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0


SHORT = ("--iterations", 4, "--batch", 3, "--segments", 4, "--validation", 0.25)


@pytest.mark.parametrize("kind", [("mil",), ("rtfm", "--mode", "causal", "--window", 4)], ids=["mil", "rtfm"])
def test_train_writes_a_model_and_its_curves(tmp_path, monkeypatch, capsys, manifest, kind):
    out = tmp_path / "out" / "m.safetensors"
    assert oddwatch(monkeypatch, "train", *kind, "--manifest", manifest, "--out", out, *SHORT) == 0
    said = capsys.readouterr()
    assert "held-out ROC-AUC" in said.out
    assert "training: iteration 4 of 4" in said.err
    assert load_checkpoint(out, kind[0]).meta["extractor"] == "file@6"
    assert out.with_name("m.curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in out.parent.iterdir()) == ["m.curves.png", "m.safetensors"]


def test_a_figure_of_few_held_out_videos_is_called_noisy(tmp_path, monkeypatch, capsys, manifest):
    command = ("train", "mil", "--manifest", manifest, "--out", tmp_path / "m.safetensors", *SHORT)
    assert oddwatch(monkeypatch, *command) == 0
    assert "noisy: of fewer than 10 held-out videos each decides much" in capsys.readouterr().out
    monkeypatch.setattr("pipeline.cli.train.weak.FEW", 2)
    assert oddwatch(monkeypatch, *command) == 0
    assert "noisy" not in capsys.readouterr().out


def test_train_goes_on_after_a_kill(tmp_path, monkeypatch, capsys, manifest):
    whole, out = tmp_path / "whole.safetensors", tmp_path / "m.safetensors"
    command = ("train", "mil", "--manifest", manifest, *SHORT)
    assert oddwatch(monkeypatch, *command, "--out", whole) == 0

    def save_and_die(*arguments):
        save_progress(*arguments)
        raise Killed

    monkeypatch.setattr("stages.training.weak.resume.save_progress", save_and_die)
    with pytest.raises(Killed):
        oddwatch(monkeypatch, *command, "--out", out)
    monkeypatch.setattr("stages.training.weak.resume.save_progress", save_progress)
    assert oddwatch(monkeypatch, *command, "--out", out, "--resume") == 0
    assert "going on after iteration 1 of 4" in capsys.readouterr().err
    assert out.read_bytes() == whole.read_bytes()
    assert not resume_path(out).exists()


def test_train_on_footage_uses_the_live_extractor_and_decoder(tmp_path, monkeypatch, capsys):
    plug_in(monkeypatch, tmp_path / "installed", "means", "oddwatch.extractors", means="means_extractor:KIND")
    monkeypatch.setenv("ODDWATCH_HOME", str(tmp_path / "home"))
    lines = []
    for i in range(4):
        write_video(tmp_path / f"{i}.mp4", 34, first=7 * i)
        lines.append({"video": f"{i}.mp4", "label": i % 2})
    manifest, out = write_lines(tmp_path / "m.jsonl", lines), tmp_path / "m.safetensors"
    command = ("train", "mil", "--manifest", manifest, "--out", out, "--features", "means", "--mirror")
    assert oddwatch(monkeypatch, *command, *SHORT[:-2], "--validation", 0) == 0
    assert "not validated" in capsys.readouterr().out
    meta = load_checkpoint(out, "mil").meta
    assert meta["extractor"] == "means@1"
    assert meta["preprocessing"] == {"decode": {"height": 48, "snippet_frames": 16, "fps": None}}
    assert len(list((tmp_path / "home" / "features").rglob("*.safetensors"))) == 8


NORMAL = {"video": "v0.npy", "label": 0}


@pytest.mark.parametrize(
    ("lines", "code", "says"),
    [
        pytest.param([{"video": "v0.npy"}], 2, "v0.npy: label: missing", id="no label"),
        pytest.param([NORMAL], 2, "normal and anomalous videos, .* 1 and 0", id="one class"),
        pytest.param([NORMAL, {"video": "v1.mp4", "label": 1}], 2, "mixes footage", id="mixture"),
        pytest.param([NORMAL, {"video": "no.npy", "label": 1}], 1, "no.npy: cannot be read", id="absent"),
        pytest.param([NORMAL, {"video": "wide.npy", "label": 1}], 2, "wide.npy: features of shape", id="other size"),
        pytest.param([NORMAL, {"video": "v1.npy", "label": 1}], 1, "only 1 group ", id="two videos"),
    ],
)
def test_a_manifest_that_cannot_be_trained_on_is_told_in_one_line(
    tmp_path, monkeypatch, capsys, manifest, lines, code, says
):
    np.save(tmp_path / "wide.npy", np.ones((3, D + 1)))
    write_lines(manifest, lines)
    command = ("train", "mil", "--manifest", manifest, "--out", tmp_path / "m.safetensors", *SHORT)
    assert oddwatch(monkeypatch, *command) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(says, line)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(("--mirror",), "--mirror: feature files", id="mirrored features"),
        pytest.param(("--split", "test"), "for 'oddwatch evaluate' alone", id="the test split"),
        pytest.param(("--learning-rate", 0), "--learning-rate: must be positive", id="no rate"),
        pytest.param(("--out", "."), "is a folder", id="a folder as checkpoint"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(tmp_path, monkeypatch, capsys, manifest, options, says):
    command = ("train", "mil", "--manifest", manifest, "--out", tmp_path / "m.safetensors", *SHORT, *options)
    assert oddwatch(monkeypatch, *command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(says, line)


def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(tmp_path, monkeypatch, capsys, manifest):
    monkeypatch.setattr("pipeline.cli.train.weak._videos", None)
    (tmp_path / "file").touch()
    command = ("train", "mil", "--manifest", manifest, "--out", tmp_path / "file" / "m.safetensors", *SHORT)
    assert oddwatch(monkeypatch, *command) == 1
    assert "file: is a file, not a folder" in capsys.readouterr().err


def test_a_wrong_form_of_rtfm_is_told_before_anything_is_read(tmp_path, monkeypatch, capsys, manifest):
    command = ("train", "rtfm", "--manifest", manifest, "--out", tmp_path / "m", "--mode", "live")
    assert oddwatch(monkeypatch, *command) == 2
    assert "mode must be paper, lookahead or causal" in capsys.readouterr().err


def test_curves_are_drawn_with_and_without_validation():
    for auc in (None, 0.7):
        curve = [Point(i, 1 / i, auc) for i in (1, 2, 3)]
        assert curves_figure(curve, 2, "mil").startswith(b"\x89PNG")
