"""The feature cache: what makes features is their address, and nothing half-written is ever read. A few seconds."""

import multiprocessing
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from makers_video import write_video
from means_extractor import Means

from stages.decode.settings import DecodeSettings
from stages.decode.source import expand
from stages.errors import ConfigError, OddwatchError, SourceError
from stages.training.cache import FeatureCache, content_sha256
from stages.training.mirrored import Mirrored

SETTINGS = DecodeSettings(height=48)


@pytest.fixture
def source(tmp_path):
    return one(write_video(tmp_path / "clip.mp4", 40))


def one(path):
    (source,) = expand([str(path)])
    return source


def test_features_are_extracted_once_and_equal_ever_after(tmp_path, source):
    extractor, cache = Means(), FeatureCache(tmp_path / "cache")
    first = cache.features(source, extractor, SETTINGS)
    again = FeatureCache(tmp_path / "cache").features(source, extractor, SETTINGS)
    assert extractor.seen == 3
    assert first.values.shape == (3, 6)
    assert first.frames.tolist() == [16, 16, 8]
    np.testing.assert_array_equal(again.values, first.values)
    np.testing.assert_array_equal(again.frames, first.frames)


def test_a_copy_elsewhere_under_another_name_is_known_by_its_content(tmp_path, source):
    extractor, cache = Means(), FeatureCache(tmp_path / "cache")
    cache.features(source, extractor, SETTINGS)
    copy = tmp_path / "sub" / "other.mp4"
    copy.parent.mkdir()
    shutil.copy(source.uri, copy)
    cache.features(one(copy), extractor, SETTINGS)
    assert extractor.seen == 3


def test_a_file_replaced_under_its_name_is_extracted_anew(tmp_path, source):
    extractor, cache = Means(), FeatureCache(tmp_path / "cache")
    before = cache.features(source, extractor, SETTINGS).values
    write_video(tmp_path / "clip.mp4", 40, first=10)
    after = cache.features(source, extractor, SETTINGS).values
    assert extractor.seen == 6
    assert not np.array_equal(before, after)


@pytest.mark.parametrize(
    "change", [{"height": 24}, {"snippet_frames": 8}, {"fps": 5.0}], ids=["height", "snippet length", "rate"]
)
def test_other_decoding_means_other_features(tmp_path, source, change):
    extractor, cache = Means(), FeatureCache(tmp_path / "cache")
    cache.features(source, extractor, SETTINGS)
    cache.features(source, extractor, replace(SETTINGS, **change))
    assert extractor.seen > 3


def test_settings_that_change_no_picture_change_nothing(tmp_path, source):
    extractor, cache = Means(), FeatureCache(tmp_path / "cache")
    cache.features(source, extractor, SETTINGS)
    cache.features(source, extractor, replace(SETTINGS, threads=1, read_timeout_s=3.0))
    assert extractor.seen == 3


def test_another_version_of_an_extractor_has_its_own_features(tmp_path, source):
    cache, other = FeatureCache(tmp_path / "cache"), Means("means@2")
    cache.features(source, Means(), SETTINGS)
    cache.features(source, other, SETTINGS)
    assert other.seen == 3


def test_a_mirrored_view_is_other_pixels_under_its_own_address(tmp_path, source):
    extractor, cache = Means(), FeatureCache(tmp_path / "cache")
    plain = cache.features(source, extractor, SETTINGS).values
    mirrored = cache.features(source, Mirrored(extractor), SETTINGS).values
    assert extractor.seen == 6
    np.testing.assert_allclose(mirrored[:, :3], plain[:, :3], atol=1e-3)
    # The whole is the mean of its halves, and the left one is now the right one.
    np.testing.assert_allclose(mirrored[:, 3:], 2 * plain[:, :3] - plain[:, 3:], atol=1e-3)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * len(b)])
def test_a_damaged_entry_is_made_again(tmp_path, source, damage):
    extractor, cache = Means(), FeatureCache(tmp_path / "cache")
    first = cache.features(source, extractor, SETTINGS)
    (entry,) = (tmp_path / "cache").rglob("*.safetensors")
    entry.write_bytes(damage(entry.read_bytes()))
    np.testing.assert_array_equal(cache.features(source, extractor, SETTINGS).values, first.values)
    assert extractor.seen == 6
    cache.features(source, extractor, SETTINGS)
    assert extractor.seen == 6


def test_processes_that_write_the_same_entry_do_not_harm_each_other(tmp_path, source):
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=store_often, args=(tmp_path / "cache", source.uri)) for _ in range(2)]
    for worker in workers:
        worker.start()
    expected, extractor = FeatureCache(tmp_path / "cache").features(source, Means(), SETTINGS), Means()
    while any(worker.is_alive() for worker in workers):
        for entry in (tmp_path / "cache").rglob("*.safetensors"):
            entry.write_bytes(b"damaged")  # as the workers do: on a fast machine they alone would repair everything
        got = FeatureCache(tmp_path / "cache").features(source, extractor, SETTINGS)
        np.testing.assert_array_equal(got.values, expected.values)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert extractor.seen > 0
    assert not list((tmp_path / "cache").rglob("*.part"))


def store_often(folder, path):
    source, extractor = one(path), Means()
    for _ in range(10):
        for entry in folder.rglob("*.safetensors"):
            entry.write_bytes(b"damaged")
        FeatureCache(folder).features(source, extractor, SETTINGS)


def test_features_of_cells_are_refused_with_a_remedy(tmp_path, source):
    extractor = Means()
    extractor.sparse = True
    with pytest.raises(ConfigError, match=r"means gives features of cells.*use --features i3d"):
        FeatureCache(tmp_path).features(source, extractor, SETTINGS)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"a\.mp4"):
        FeatureCache(tmp_path / "cache").features(one(tmp_path / "a.mp4"), Means(), SETTINGS)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, source):
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(OddwatchError, match=r"cannot be kept .*ODDWATCH_FEATURE_CACHE"):
        FeatureCache(tmp_path / "cache").features(source, Means(), SETTINGS)


def test_a_folder_of_pictures_is_known_by_names_and_content(tmp_path):
    for i in range(3):
        (tmp_path / "seq").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "seq" / f"{i}.png"), np.full((32, 32, 3), 40 * i, np.uint8))
    before = content_sha256(one(tmp_path / "seq"))
    assert content_sha256(one(tmp_path / "seq")) == before
    cv2.imwrite(str(tmp_path / "seq" / "1.png"), np.full((32, 32, 3), 7, np.uint8))
    assert content_sha256(one(tmp_path / "seq")) != before
