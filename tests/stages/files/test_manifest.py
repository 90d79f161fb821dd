"""A manifest says which videos there are and what is known; a bad line is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import shared

from stages.errors import ConfigError
from stages.files.manifest import ManifestEntry, manifest_line, read_manifest


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_entries_are_read_with_paths_relative_to_the_manifest(tmp_path: Path) -> None:
    line = '{"video": "testing/01.mp4", "split": "test", "label": 1, "anomalies": [[9, 9], [0, 4]], "group": "src7"}'
    assert read_manifest(written(tmp_path, line, "", '{"video": "b.mp4", "_fps": 25}')) == [
        ManifestEntry(
            video="testing/01.mp4",
            path=tmp_path / "testing/01.mp4",
            split="test",
            label=1,
            anomalies=((0, 4), (9, 9)),
            group="src7",
        ),
        ManifestEntry(video="b.mp4", path=tmp_path / "b.mp4"),
    ]


def test_a_line_written_is_the_line_read(tmp_path: Path) -> None:
    path = written(tmp_path, '{"video": "ä.mp4", "label": 1, "anomalies": [[0, 4]]}', '{"video": "b.mp4", "label": 0}')
    assert [manifest_line(entry) for entry in read_manifest(path)] == path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("line", "truth"),
    [
        pytest.param('{"video": "a", "label": 0}', (), id="normal throughout"),
        pytest.param('{"video": "a", "label": 1}', None, id="anomalous somewhere, nobody said where"),
        pytest.param('{"video": "a"}', None, id="nothing known"),
        pytest.param('{"video": "a", "anomalies": []}', (), id="no anomalies"),
        pytest.param('{"video": "a", "anomalies": [[3, 5]]}', ((3, 5),), id="anomalies"),
    ],
)
def test_truth_is_none_where_nobody_has_said(tmp_path: Path, line: str, truth: object) -> None:
    assert read_manifest(written(tmp_path, line))[0].truth == truth


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param('{"video": "a"', "not JSON", id="cut off"),
        pytest.param("[1]", "expected an object", id="not an object"),
        pytest.param('{"label": 1}', "video: missing", id="no video"),
        pytest.param('{"video": 3}', "video: expected text", id="video is a number"),
        pytest.param('{"video": "a", "anomolies": [[1, 2]]}', "did you mean 'anomalies'", id="misspelt"),
        pytest.param('{"video": "a", "fps": 25}', "fps: unknown key; known keys are", id="unknown"),
        pytest.param('{"video": "a", "label": true}', "label: expected 0", id="label is true"),
        pytest.param('{"video": "a", "label": 2}', "label: expected 0", id="label is 2"),
        pytest.param('{"video": "a", "label": 0, "anomalies": [[1, 2]]}', "label: 0 contradicts", id="contradiction"),
        pytest.param('{"video": "a", "anomalies": [1, 2]}', "anomalies: expected pairs", id="not pairs"),
        pytest.param('{"video": "a", "anomalies": [[5, 2]]}', "anomalies: .* first <= last; got", id="backwards"),
        pytest.param('{"video": "a", "anomalies": [[-1, 2]]}', "anomalies: .* counted from 0", id="negative"),
        pytest.param('{"video": "a", "anomalies": [[1.5, 2]]}', "anomalies: expected pairs", id="fraction"),
        pytest.param('{"video": "first.mp4"}', "listed before", id="twice"),
    ],
)
def test_a_bad_line_is_named_with_key_and_remedy(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"manifest\.jsonl:2: .*{message}"):
        read_manifest(written(tmp_path, '{"video": "first.mp4"}', line))


def test_a_split_nobody_has_names_those_there_are(tmp_path: Path) -> None:
    path = written(tmp_path, '{"video": "a", "split": "train"}', '{"video": "b", "split": "test"}')
    assert [entry.video for entry in read_manifest(path, "test")] == ["b"]
    with pytest.raises(ConfigError, match=r"no video has split 'val'; the splits here are \['test', 'train'\]"):
        read_manifest(path, "val")
    with pytest.raises(ConfigError, match="split: no video has one, so none has 'val'; leave out --split"):
        read_manifest(written(tmp_path, '{"video": "a"}'), "val")


def test_an_empty_absent_or_binary_manifest_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lists no videos"):
        read_manifest(written(tmp_path, ""))
    with pytest.raises(ConfigError, match="cannot read the manifest"):
        read_manifest(tmp_path / "absent.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_manifest(tmp_path / "binary")


@pytest.mark.parametrize(("name", "count"), [("ucsd_ped2", 28), ("cctv_fights", 132)])
def test_the_shared_manifests_are_read(name: str, count: int) -> None:
    entries = read_manifest(shared(f"data/{name}/manifest.jsonl"))
    assert len(entries) == count
    assert all(entry.path.exists() for entry in entries)
