"""Features that others extracted, in the layouts research publishes them. Under a second."""

import os
from pathlib import Path

import numpy as np
import pytest
from places import shared

from stages.errors import SourceError
from stages.features.feature_files import is_feature_file, read_features

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        pytest.param((6,), (1, 1, 6), id="one vector"),
        pytest.param((5, 6), (5, 1, 6), id="snippets"),
        pytest.param((5, 10, 6), (5, 10, 6), id="ten crops, as RTFM for UCF-Crime and ShanghaiTech"),
        pytest.param((5, 6, 1, 1, 1), (5, 1, 6), id="pooled axes left in"),
        pytest.param((1, 1, 1), (1, 1, 1), id="one number"),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
def test_npy_layouts_become_snippets_crops_features(tmp_path, shape, expected, dtype):
    x = RNG.uniform(0, 9, shape).astype(dtype)
    np.save(tmp_path / "a.npy", x)
    got = read_features(tmp_path / "a.npy")
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, x.astype(np.float32).reshape(expected))


def test_one_file_per_crop_as_for_xd_violence_is_one_video(tmp_path):
    x = RNG.random((7, 5, 3), np.float32)
    for crop in range(5):
        np.save(tmp_path / f"a.b__{crop}.npy", x[:, crop])
    np.testing.assert_array_equal(read_features(tmp_path / "a.b.npy"), x)
    np.testing.assert_array_equal(read_features(tmp_path / "a.b__2.npy"), x[:, 2:3])


def test_crops_of_unequal_length_are_refused(tmp_path):
    np.save(tmp_path / "a__0.npy", np.zeros((4, 3)))
    np.save(tmp_path / "a__1.npy", np.zeros((5, 3)))
    with pytest.raises(SourceError, match=r"equal shapes \(T, D\), got \(4, 3\), \(5, 3\)"):
        read_features(tmp_path / "a.npy")


@pytest.mark.parametrize("separator", [" ", ", ", "\t"])
def test_text_of_a_row_per_segment(tmp_path, separator):
    (tmp_path / "a.txt").write_text(f"1{separator}2.5{separator}-3e-2\n4{separator}5{separator}6\n")
    np.testing.assert_array_equal(read_features(tmp_path / "a.txt"), np.float32([[[1, 2.5, -0.03]], [[4, 5, 6]]]))


def test_an_npz_of_one_array_needs_no_name_and_one_of_several_does(tmp_path):
    x, y = RNG.random((4, 3), np.float32), RNG.random((2, 3), np.float32)
    np.savez(tmp_path / "one.npz", x)
    np.testing.assert_array_equal(read_features(tmp_path / "one.npz")[:, 0], x)
    np.savez(tmp_path / "all.npz", x=x, y=y)
    np.testing.assert_array_equal(read_features(tmp_path / "all.npz#y")[:, 0], y)
    with pytest.raises(SourceError, match=r"2 arrays; write all.npz#NAME with one of: x, y"):
        read_features(tmp_path / "all.npz")
    with pytest.raises(SourceError, match=r"no array 'z'"):
        read_features(tmp_path / "all.npz#z")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param(np.zeros((10, 40, 6)), r"at most 10 crops, got \(10, 40, 6\); transpose", id="crops first"),
        pytest.param(np.zeros((0, 6)), "expected", id="no snippets"),
        pytest.param(np.array([[1.0, np.nan]]), "not finite", id="nan"),
        pytest.param(np.array([[1.0, np.inf]]), "not finite", id="infinite"),
        pytest.param(np.array([[1e7]]), "beyond", id="damaged"),
        pytest.param(np.array([["a"]]), "expected numbers", id="text"),
        pytest.param(np.array(3.0), "expected", id="a scalar"),
    ],
)
def test_what_is_not_features_is_refused_by_name(tmp_path, values, says):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(SourceError, match=rf"a\.npy.*{says}"):
        read_features(tmp_path / "a.npy")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickled_arrays_are_refused_and_never_run(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    bomb = np.array([Bomb()], object)
    path = tmp_path / f"a{suffix}"
    np.save(path, bomb) if suffix == ".npy" else np.savez(path, bomb)
    with pytest.raises(SourceError, match="plain numbers"):
        read_features(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.txt"])
def test_absent_and_damaged_files_are_named(tmp_path, name):
    with pytest.raises(SourceError, match=rf"{name}: cannot be read"):
        read_features(tmp_path / name)
    (tmp_path / name).write_bytes(b"not numbers")
    with pytest.raises(SourceError, match=rf"{name}: not an array of plain numbers"):
        read_features(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "b/all.npz#Abuse001", "c.TXT"])
def test_a_manifest_tells_features_by_the_name(name):
    assert is_feature_file(Path(name))


@pytest.mark.parametrize("name", ["d.mp4", "npy/d", "e.npy.mp4"])
def test_anything_else_is_footage(name):
    assert not is_feature_file(Path(name))


def test_real_c3d_features_of_ucf_crime():
    values = read_features(Path(f"{shared('data/ucfcrime_c3d/sultani_c3d_fc6_32x4096.npz')}#Shooting008_x264"))
    assert values.shape == (32, 1, 4096)
    np.testing.assert_allclose(np.linalg.norm(values, axis=2), 1, rtol=1e-3)
