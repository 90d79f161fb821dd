"""A model scores footage as decoded as that it learned from, whoever forgets to say so. 25 s."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dense_makers import checkpoint_of, seed_weights
from e2e import Ended, film, oddwatch, rows, score_files_in
from frame_makers import FORM, moving
from frame_makers import clip as frames_of
from novelty_makers import clip
from places import ROOT

from pipeline.cameras.announce import live_specs
from pipeline.cameras.spec import CameraSpec, make_spec
from pipeline.config.schema import CameraConfig, Config, DecodeConfig, ModelConfig
from stages.decode.learned import LearnedDecode
from stages.decode.settings import DecodeSettings
from stages.errors import CheckpointError, ConfigError
from stages.files.checkpoint import load_checkpoint, save_checkpoint
from stages.temporal.future_frame.unet import UNetConfig
from stages.temporal.novelty.fit_checkpoint import fit_novelty
from stages.temporal.registry import build_model
from stages.temporal.weak.mil import MIL, MILConfig
from stages.training.future_frame.settings import TrainSettings
from stages.training.future_frame.train import Budget, train

LEARNED = LearnedDecode(height=96, snippet_frames=8, fps=10)
SHIPPED = ROOT / "configs" / "fights.safetensors"


def novelty(path: Path, learned: LearnedDecode | None = LEARNED) -> Path:
    made = [[replace(f, extractor="motion@made") for f in clip(seed, 2)] for seed in range(4)]
    save_checkpoint(path, fit_novelty(made, learned.meta() if learned else None))
    return path


def spec(
    decode: DecodeConfig | None = None, *, global_: DecodeConfig | None = None, **models: Path | None
) -> CameraSpec:
    config = Config(
        decode=global_ or DecodeConfig(), models={n: ModelConfig(checkpoint=path) for n, path in models.items()}
    )
    return make_spec(config, camera="yard", source="", kind="live", decode=decode)


def decoded(made: CameraSpec) -> LearnedDecode:
    return LearnedDecode(height=made.height, snippet_frames=made.decode.snippet_frames, fps=made.decode.fps)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return novelty(tmp_path_factory.mktemp("models") / "yard.safetensors")


def test_what_the_configuration_leaves_open_is_as_the_model_learned(checkpoint: Path) -> None:
    assert decoded(spec(odd=checkpoint)) == LEARNED
    assert decoded(spec(DecodeConfig(fps=None, height=None), odd=checkpoint)) == LEARNED
    assert decoded(spec(DecodeConfig(fps=10, height=96, snippet_frames=8), odd=checkpoint)) == LEARNED
    assert spec(DecodeConfig(transport="udp"), odd=checkpoint).decode.transport == "udp"


def test_without_a_checkpoint_the_configuration_alone_counts() -> None:
    assert decoded(spec(odd=None)) == LearnedDecode(height=240, snippet_frames=16, fps=None)
    assert decoded(spec(DecodeConfig(fps=5, height=64, snippet_frames=4), odd=None)) == LearnedDecode(
        height=64, snippet_frames=4, fps=5
    )


def test_an_adaptive_model_beside_it_sees_the_same_pictures(checkpoint: Path) -> None:
    assert decoded(spec(own=None, odd=checkpoint)) == LEARNED


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"fps": 25}, r"decode\.fps: 25, but .*yard\.safetensors was made with 10: leave .*decode\.fps out, or make"),
        ({"height": 240}, r"decode\.height: 240, but .*yard\.safetensors was made with 96: leave"),
        ({"snippet_frames": 16}, r"decode\.snippet_frames: 16, but .*yard\.safetensors was made with 8: leave"),
    ],
)
def test_a_configuration_that_contradicts_the_model_is_refused_in_a_line(checkpoint: Path, section, said: str) -> None:
    with pytest.raises(ConfigError, match="^" + said) as error:
        spec(global_=DecodeConfig(**section), odd=checkpoint)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"^cameras\.yard\." + said):
        spec(DecodeConfig(**section), odd=checkpoint)


def test_live_cameras_are_decoded_likewise(checkpoint: Path, tmp_path: Path) -> None:
    config = Config(
        models={"odd": ModelConfig(checkpoint=checkpoint)}, cameras={"yard": CameraConfig(source="rtsp://cam/1")}
    )
    [found] = live_specs(config, tmp_path / "cameras.yaml")
    assert decoded(found) == LEARNED
    assert CameraSpec.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(LEARNED, fps=None), "fps all frames, but .*yard.safetensors with 10"),
        (replace(LEARNED, height=48), "height 48, but .*yard.safetensors with 96"),
        (replace(LEARNED, snippet_frames=16), "snippet_frames 16, but .*yard.safetensors with 8"),
    ],
)
def test_models_that_learned_from_other_pictures_are_not_used_together(checkpoint, tmp_path, other, said) -> None:
    with pytest.raises(ConfigError, match=rf"other\.safetensors: made with {said}: score with one of them alone, or"):
        spec(odd=checkpoint, other=novelty(tmp_path / "other.safetensors", other))
    assert decoded(spec(odd=checkpoint, same=novelty(tmp_path / "same.safetensors"))) == LEARNED


def test_other_preprocessing_is_another_configuration(tmp_path: Path) -> None:
    hashes = {spec(odd=novelty(tmp_path / f"{fps}", replace(LEARNED, fps=fps))).config_hash for fps in (None, 5, 10)}
    assert len(hashes) == 3


def test_trained_models_say_it_in_the_same_way(tmp_path: Path) -> None:
    trained = checkpoint_of("mil", seed_weights(MIL(MILConfig(input_dim=8)), 1), MILConfig(input_dim=8))
    assert LearnedDecode.read(trained.meta) is None
    trained.meta["preprocessing"] = LEARNED.meta()
    save_checkpoint(tmp_path / "mil", trained)
    assert decoded(spec(mil=tmp_path / "mil")) == LEARNED


def test_the_shipped_detector_is_used_as_it_was_trained() -> None:
    assert decoded(spec(fights=SHIPPED)) == LearnedDecode(height=224, snippet_frames=16, fps=None)
    with pytest.raises(ConfigError, match=r"decode\.height: 200, but .*fights\.safetensors was made with 224"):
        spec(global_=DecodeConfig(height=200), fights=SHIPPED)


def test_an_extractor_that_rescales_pictures_itself_takes_taller_ones(tmp_path: Path) -> None:
    motion = novelty(tmp_path / "motion.safetensors", replace(LEARNED, height=240, snippet_frames=16, fps=None))
    for models in ({"fights": SHIPPED, "odd": motion}, {"odd": motion, "fights": SHIPPED}):
        assert decoded(spec(**models)) == LearnedDecode(height=240, snippet_frames=16, fps=None)
    assert decoded(spec(global_=DecodeConfig(height=288), fights=SHIPPED)).height == 288


def test_no_model_is_shown_less_than_it_learned_from(tmp_path: Path) -> None:
    low = novelty(tmp_path / "low.safetensors", replace(LEARNED, snippet_frames=16, fps=None))
    for models in ({"fights": SHIPPED, "odd": low}, {"odd": low, "fights": SHIPPED}):
        with pytest.raises(
            ConfigError, match=r"fights\.safetensors: made with height 224, but .*low\.safetensors with 96"
        ):
            spec(**models)


def test_features_of_others_say_nothing_of_decoding(tmp_path: Path) -> None:
    for stored in ({}, {"preprocessing": {"features": "read from files"}}, {"preprocessing": None}):
        assert LearnedDecode.read(stored) is None
    assert spec(odd=novelty(tmp_path / "any", None)).height == 240


@pytest.mark.parametrize("damage", [None, {}, {"height": "tall"}, {"height": 2}, {"fps": -1}, {"snippet_frames": 0}])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage) -> None:
    made = load_checkpoint(novelty(tmp_path / "odd.safetensors"))
    made.meta["preprocessing"] = {"decode": LEARNED.meta()["decode"] | damage if damage else damage}
    save_checkpoint(tmp_path / "odd.safetensors", made)
    with pytest.raises(CheckpointError, match=r"odd\.safetensors: the checkpoint's preprocessing cannot be read"):
        spec(odd=tmp_path / "odd.safetensors")


def test_the_decoders_settings_are_stored_whole() -> None:
    assert LearnedDecode.of(DecodeSettings(height=96, snippet_frames=8, fps=10)) == LEARNED
    assert LearnedDecode.read({"preprocessing": LEARNED.meta()}) == LEARNED


def test_a_future_frame_predictor_keeps_it_beside_the_form_of_its_frames(tmp_path: Path) -> None:
    settings = TrainSettings(network=UNetConfig(channels=1, widths=(4, 8, 8)), form=FORM, score="picture")
    clips = [frames_of(moving(20, seed)) for seed in range(2)]
    for decode, wanted in ((LEARNED, LEARNED), (None, LearnedDecode(height=240, snippet_frames=16, fps=None))):
        made, _ = train(clips, replace(settings, decode=decode), Budget(steps=1), seed=1)
        save_checkpoint(tmp_path / "ff", made)
        assert build_model("future_frame", "ff", load_checkpoint(tmp_path / "ff")).features is None
        assert decoded(spec(ff=tmp_path / "ff")) == wanted


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of its own preprocessing, the configuration that made it, and footage."""
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "made.yaml").write_text("decode: {fps: 10, height: 96, snippet_frames: 8}")
    film(folder / "normal.mp4", 250, seed=5)
    film(folder / "test.mp4", 60, seed=6)
    made = ("--config", folder / "made.yaml", "--normal", folder / "normal.mp4", "--out", folder / "yard.safetensors")
    done = oddwatch("fit", *made)
    assert done.code == 0, done.err
    return folder


def score(folder: Path, out: Path, *more: object) -> Ended:
    return oddwatch("score", folder / "test.mp4", "--model", folder / "yard.safetensors", "--out", out, *more)


def test_scoring_by_default_is_scoring_as_fitted(fitted: Path, tmp_path: Path) -> None:
    assert load_checkpoint(fitted / "yard.safetensors").meta["preprocessing"] == LEARNED.meta()
    for out, more in (("default", ()), ("same", ("--config", fitted / "made.yaml"))):
        done = score(fitted, tmp_path / out, *more)
        assert done.code == 0, done.err
    assert score_files_in(tmp_path / "default") == score_files_in(tmp_path / "same")
    table = rows(tmp_path / "default" / "test.scores.csv")
    assert len(table) == 60
    assert len({r["novelty"] for r in table}) <= 24, "10 of 25 frames a second are looked at"


def test_score_says_in_one_line_what_contradicts(fitted: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("decode: {fps: 25}")
    done = score(fitted, tmp_path / "out", "--config", tmp_path / "other.yaml")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "decode.fps: 25, but" in done.err
    assert "yard.safetensors was made with 10" in done.err
