"""Published weights become checkpoints with the published numbers; all else is one line. 20 s, for commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dense_makers import relative_error, seed_weights
from e2e import Ended, film, oddwatch
from places import DATA
from scipy.io import savemat

from stages.errors import CheckpointError
from stages.files.checkpoint import load_checkpoint
from stages.temporal.registry import whole_video_scorer
from stages.temporal.weak.imported_weights import import_mil, import_rtfm, imported_checkpoint
from stages.temporal.weak.rtfm import RTFM, RTFMConfig
from stages.temporal.weak.segments import pool_sultani, segments_to_frames

GOLDEN_RTFM = np.load(DATA / "golden_rtfm_seeded64.npz")
GOLDEN_MIL = np.load(DATA / "golden_mil_small.npz")
FORM = RTFMConfig(mode="paper")


def rtfm_file(path: Path) -> Path:
    """The golden weights, in a file as the published code writes it."""
    torch.save(seed_weights(RTFM(RTFMConfig(input_dim=64)), 20210).state_dict(), path)
    return path


def mil_file(path: Path, **instead: object) -> Path:
    """The golden weights, in a file as the published code writes it: a cell for each layer, dropouts empty."""
    content: dict[str, object] = {"1": np.zeros((0, 0)), "3": np.zeros((0, 0))}
    for name, layer in (("fc1", "0"), ("fc2", "2"), ("fc3", "4")):
        cell = np.empty(2, object)
        cell[:] = [GOLDEN_MIL[f"sd/{name}.weight"].T, GOLDEN_MIL[f"sd/{name}.bias"]]
        content[layer] = cell
    savemat(path, content | instead)
    return path


def golden_input(crops: int = 10) -> dict[int, np.ndarray]:
    """The golden inputs (T, crops, 64) by length, drawn again from their seed."""
    rs = np.random.RandomState(7)
    drawn = {t: np.abs(rs.standard_normal((1, crops, t, 64))).astype(np.float32) for t in (3, 7, 20, 32, 45)}
    return {t: x[0].transpose(1, 0, 2) for t, x in drawn.items()}


@pytest.mark.parametrize("snippets", [7, 32])
def test_an_imported_rtfm_gives_the_golden_scores(tmp_path: Path, snippets: int) -> None:
    path = rtfm_file(tmp_path / "rtfm-i3d.pkl")
    normal = golden_input()[20]
    checkpoint = imported_checkpoint(import_rtfm(path, FORM), path, "file@64", {}, [normal])
    scores = whole_video_scorer("rtfm", checkpoint, paper=True)(golden_input()[snippets])
    assert relative_error(torch.from_numpy(scores), GOLDEN_RTFM[f"eval_T{snippets}/scores"].ravel()) < 1e-4
    assert checkpoint.meta["reference"][-1] == pytest.approx(whole_video_scorer("rtfm", checkpoint)(normal).max())


def test_an_imported_mil_gives_the_golden_scores(tmp_path: Path) -> None:
    path = mil_file(tmp_path / "weights_L1L2.mat")
    checkpoint = imported_checkpoint(import_mil(path), path, "file@128", {}, [GOLDEN_MIL["x"][0][:, None]])
    for x, wanted in zip(GOLDEN_MIL["x"], GOLDEN_MIL["scores"], strict=True):
        assert relative_error(torch.from_numpy(whole_video_scorer("mil", checkpoint)(x[:, None])), wanted) < 1e-4


def test_mil_is_evaluated_on_segments_as_published(tmp_path: Path) -> None:
    path = mil_file(tmp_path / "weights.mat")
    made = import_mil(path)
    checkpoint = imported_checkpoint(made, path, "file@128", {}, [GOLDEN_MIL["x"][0][:, None]])
    clips = np.random.default_rng(0).random((50, 128)).astype(np.float32)
    segments = made.net(torch.from_numpy(pool_sultani(clips, paper=True))).detach().numpy()
    frames = np.repeat(whole_video_scorer("mil", checkpoint, paper=True)(clips[:, None]), 16)
    np.testing.assert_allclose(frames, segments_to_frames(segments, 50, 800, paper=True), rtol=1e-6)
    assert not frames[-16:].any()
    assert whole_video_scorer("mil", checkpoint)(clips[:, None])[-1] > 0


def test_whole_videos_are_scored_in_the_streamed_form_unless_asked(tmp_path: Path) -> None:
    path, x = rtfm_file(tmp_path / "w.pkl"), golden_input()[45]
    stream = imported_checkpoint(import_rtfm(path, RTFMConfig(window=11)), path, "file@64", {}, [x])
    streamed, whole = (whole_video_scorer("rtfm", stream, paper=paper)(x) for paper in (False, True))
    assert np.abs(streamed - whole).max() > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda sd: sd.pop("fc2.bias"), r"fc2\.bias is missing", id="missing"),
        pytest.param(lambda sd: sd.update(extra=torch.zeros(1)), "extra is unknown", id="unknown"),
        pytest.param(lambda sd: sd.update({"fc3.bias": torch.zeros(2)}), r"fc3\.bias is \(2,\), not \(1,\)", id="size"),
        pytest.param(lambda sd: sd.pop("fc1.weight"), r"no fc1\.weight", id="another network"),
        pytest.param(lambda sd: sd["fc1.bias"].fill_(float("nan")), "not finite", id="nan"),
    ],
)
def test_weights_of_another_layout_are_refused_in_a_line(tmp_path: Path, change, message: str) -> None:
    weights = seed_weights(RTFM(RTFMConfig(input_dim=8)), 1).state_dict()
    change(weights)
    torch.save(weights, tmp_path / "w.pkl")
    with pytest.raises(CheckpointError, match=rf"w\.pkl: .*{message}") as error:
        import_rtfm(tmp_path / "w.pkl", FORM)
    assert "\n" not in str(error.value)


def test_mat_files_of_another_layout_are_refused_in_a_line(tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", {"gt": np.zeros(3)})
    (tmp_path / "y.mat").write_bytes(b"not matlab at all")
    mil_file(tmp_path / "z.mat", **{"2": np.zeros((3, 3))})
    with pytest.raises(CheckpointError, match=r"x\.mat: not Sultani's weights: '0' must be a cell .* has gt"):
        import_mil(tmp_path / "x.mat")
    with pytest.raises(CheckpointError, match=r"y\.mat: cannot be read"):
        import_mil(tmp_path / "y.mat")
    with pytest.raises(CheckpointError, match=r"z\.mat: not Sultani's weights: '2'"):
        import_mil(tmp_path / "z.mat")
    with pytest.raises(CheckpointError, match=r"none\.mat: cannot be read"):
        import_mil(tmp_path / "none.mat")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A folder with an imported checkpoint, and normal features."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "normal").mkdir()
    np.save(folder / "normal/a.npy", golden_input()[20])
    weights = rtfm_file(folder / "rtfm.pkl")
    done = oddwatch("import", "rtfm", weights, "--normal", folder / "normal", "--out", folder / "rtfm.safetensors")
    return folder, done


def test_the_command_says_what_to_do_next(imported: tuple[Path, Ended]) -> None:
    folder, done = imported
    assert done.code == 0, done.err
    assert "rtfm on file@64, calibrated on 20 normal snippets of 1 video" in done.out
    assert "oddwatch evaluate --manifest" in done.out
    meta = load_checkpoint(folder / "rtfm.safetensors", "rtfm").meta
    assert (meta["architecture"]["mode"], meta["training"]["published"]) == ("lookahead", "rtfm.pkl")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--mode", "causal"), "--mode causal", id="a form that must be trained"),
        pytest.param(("--normal", "nowhere"), "nowhere: no feature files", id="no normal features"),
        pytest.param(("--normal", "wide.npy"), "holds vectors of 65, but these weights read vectors of 64", id="wide"),
        pytest.param(("--features", "motion"), "motion: gives cells", id="features that do not fit"),
    ],
)
def test_mistakes_are_one_line(imported: tuple[Path, Ended], tmp_path: Path, arguments: tuple, said: str) -> None:
    folder, _ = imported
    options = {"--normal": str(folder / "normal/a.npy"), "--out": str(tmp_path / "out.safetensors")} | dict([arguments])
    if arguments[1].endswith(".npy"):
        np.save(tmp_path / arguments[1], np.ones((3, 65), np.float32))
        options["--normal"] = str(tmp_path / arguments[1])
    if arguments[0] == "--features":
        options["--normal"] = str(Path(__file__))
    done = oddwatch("import", "rtfm", folder / "rtfm.pkl", *[word for pair in options.items() for word in pair])
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err


def test_a_model_of_feature_files_says_that_it_cannot_score_footage(
    imported: tuple[Path, Ended], tmp_path: Path
) -> None:
    folder, _ = imported
    film(tmp_path / "a.mp4", 20)
    done = oddwatch("score", tmp_path / "a.mp4", "--model", folder / "rtfm.safetensors", "--out", tmp_path / "out")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "rtfm.safetensors: reads features that others extracted" in done.err
