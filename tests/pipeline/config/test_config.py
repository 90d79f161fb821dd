"""Every error of a configuration names file, line, key and remedy, and never a secret."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from makers import picked
from places import ROOT

from pipeline.bus.codec import Bound
from pipeline.cameras.spec import CameraSpec, make_spec
from pipeline.config.load import load_config
from pipeline.config.schema import Config, DecodeConfig, settings_hash
from stages.decode.settings import DecodeSettings
from stages.errors import ConfigError
from stages.messages import Snippet

CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "watch.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_file_in_configs_loads(path: Path) -> None:
    assert isinstance(load_config(path, {}), Config)


def test_the_decoder_is_told_what_the_section_says_and_its_defaults_are_the_sections() -> None:
    assert DecodeConfig().settings(240) == DecodeSettings()
    said = {"snippet_frames": 8, "fps": 5, "open_timeout_s": 2, "read_timeout_s": 3, "transport": "udp"}
    assert DecodeConfig(height=96, **said).settings(240) == DecodeSettings(height=96, **said)
    assert set(DecodeConfig.model_fields) == {f.name for f in fields(DecodeSettings)} - {"image_fps", "threads"}


def test_no_file_and_an_empty_file_are_the_defaults(tmp_path: Path) -> None:
    assert load_config(None) == Config()
    assert load_config(write(tmp_path, "# nothing\n")) == Config()


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "models: {m: {checkpoint: a/m.safetensors}}\ncameras: {c: {source: clip.mp4}}\n"
                           "output: {folder: alerts}\n")  # fmt: skip
    config = load_config(path)
    assert config.models["m"].checkpoint == tmp_path / "a/m.safetensors"
    assert config.cameras["c"].source == str(tmp_path / "clip.mp4")
    assert config.output.folder == tmp_path / "alerts"


def test_addresses_and_devices_stay_as_they_are(tmp_path: Path) -> None:
    text = "cameras: {a: {source: 'rtsp://h/1'}, b: {source: /dev/video0}}\n"
    cameras = load_config(write(tmp_path, text)).cameras
    assert [c.source for c in cameras.values()] == ["rtsp://h/1", "/dev/video0"]


def test_variables_come_from_the_environment(tmp_path: Path) -> None:
    text = "cameras: {a: {source: 'rtsp://${LOGIN}@h/${PATH_:-one}'}}\n"
    assert load_config(write(tmp_path, text), {"LOGIN": "u:p"}).cameras["a"].source == "rtsp://u:p@h/one"


SECRET = "hunter2"
FAULTS = {
    "unknown section": ("\nredsi:\n  url: redis://h\n", 2, "unknown key 'redsi'; did you mean 'redis'?"),
    "misspelt key": ("alerts:\n  raise_att: 0.7\n", 2, "unknown key 'alerts.raise_att'; did you mean 'raise_at'?"),
    "misspelt in a camera": (
        "cameras:\n  door:\n    source: /dev/video0\n    decode:\n      fsp: 5\n",
        5,
        "unknown key 'cameras.door.decode.fsp'; did you mean 'fps'?",
    ),
    "nothing like it": ("output:\n  qqqq: 1\n", 2, "known keys: folder, metrics_port, metrics_host, log_level"),
    "wrong type": ("decode:\n  snippet_frames: many\n", 2, "decode.snippet_frames: input should be a valid integer"),
    "out of range": ("runtime:\n  lease_s: 0\n", 2, "runtime.lease_s: input should be greater than or equal to 1"),
    "not a choice": ("decode:\n  transport: carrier\n", 2, "decode.transport: input should be 'tcp' or 'udp'"),
    "bad camera name": ("cameras:\n  'front door': {source: x}\n", 1, "the name 'front door' must be"),
    "reserved model": ("models:\n  score: {}\n", 1, "choose another name"),
    "no models": ("models: {}\n", 1, "models: dictionary should have at least 1 item"),
    "levels crossed": ("alerts:\n  raise_at: 0.4\n", 1, "clear_at (0.5) must be lower than raise_at (0.4)"),
    "camera without source": ("cameras:\n  door: {enabled: true}\n", 2, "cameras.door.source: field required"),
    "section is a list": ("redis: [1]\n", 1, "redis: input should be a valid dictionary"),
    "bad prefix": ("redis:\n  prefix: 'a{b}'\n", 2, "redis.prefix: string should match"),
    "missing variable": (
        "redis:\n  prefix: x\n  url: ${NOWHERE}\n",
        3,
        "redis.url: ${NOWHERE} is not set; export it, or write ${NOWHERE:-default}",
    ),
    "given twice": ("decode:\n  fps: 5\n  fps: 6\n", 3, "fps: is also on line 2; remove one of them"),
    "tab": ("redis:\n\turl: x\n", 2, "not valid YAML: found character '\\t'"),
    "unclosed": ("redis: {url: x\n", 2, "not valid YAML"),
    "unknown alias": ("redis: *nothing\n", 1, "not valid YAML: found undefined alias"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_line_with_file_line_key_and_remedy(tmp_path: Path, fault: str) -> None:
    text, line, says = FAULTS[fault]
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    said = str(caught.value)
    assert said.startswith(f"{path}:{line}: ")
    assert says in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("decode", "stream_mb", "enough"),
    [({"height": 1080}, 32, 190), ({"height": 720, "snippet_frames": 32}, 64, 169), ({}, 9, 10)],
)
def test_a_stream_too_small_for_two_snippets_is_refused_with_the_size_it_needs(
    decode: dict, stream_mb: int, enough: int
) -> None:
    def spec_of(stream_mb: float) -> CameraSpec:
        config = Config.model_validate({"decode": decode, "redis": {"stream_mb": stream_mb}})
        return make_spec(config, camera="c", source="/c.mp4", kind="file")

    with pytest.raises(
        ConfigError, match=rf"redis\.stream_mb: {stream_mb} is too little .* set it to {enough}, or "
    ) as e:
        spec_of(stream_mb)
    assert "\n" not in str(e.value)
    height = spec_of(enough).height
    frames = spec_of(enough).decode.snippet_frames
    made = Snippet(**picked(frames=frames), pixels=np.zeros((frames, height, height * 16 // 9, 3), np.uint8))
    bound = Bound.of(made, spec_of(enough).stream_mb, drop_oldest=spec_of(enough).live)
    assert bound.entries == 2
    assert bound.entries * made.pixels.nbytes <= enough * 2**20


def test_the_defaults_have_room(tmp_path: Path) -> None:
    assert make_spec(Config(), camera="c", source="/c.mp4", kind="live").stream_mb == Config().redis.stream_mb


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "decode:\n  fps: fast\n  hieght: 3\nworkers: {gpu: 1}\n"))
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["2", "3", "4"]


@pytest.mark.parametrize(
    "text",
    [
        f"redis:\n  url: [redis://u:{SECRET}@h]\n",
        f"redis:\n  url: {{a: {SECRET}}}\n",
        f"cameras:\n  door:\n    source: {{rtsp: '{SECRET}'}}\n",
        f"cameras:\n  door: rtsp://u:{SECRET}@h/1\n",
        f"decode:\n  fps: {SECRET}\n",
        f"output:\n  log_level: {SECRET}\n",
    ],
)
def test_no_value_is_shown_for_it_may_be_a_secret(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None  # nor in what is logged along with it
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"\xff\xfe\x00", "cannot read"),
        (b"- a\n- b\n", "must be a mapping of sections"),
        (b"just words\n", "must be a mapping of sections"),
        (b"redis: \x07\n", "not valid YAML"),
    ],
)
def test_what_is_no_configuration_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "watch.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))


def test_the_hash_changes_with_any_setting() -> None:
    one = settings_hash(Config().alerts, {"a": 1})
    assert one == settings_hash(Config().alerts, {"a": 1})
    assert one != settings_hash(Config().alerts.model_copy(update={"raise_at": 0.61}), {"a": 1})
    assert one != settings_hash(Config().alerts, {"a": 2})
