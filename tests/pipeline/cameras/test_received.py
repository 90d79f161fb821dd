"""A registry entry is checked like what a user configures; one that is none stops no other camera."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from makers import announce, spec

from pipeline.bus.codec import encode, parse_id
from pipeline.bus.streams import Bus
from pipeline.cameras.registry import Registry
from pipeline.ingest.file import publish_file
from pipeline.leases.lease import Leases
from pipeline.pixels.reader import FrameReader

GOOD = json.loads(spec("bad").model_dump_json())
MODEL = GOOD["models"]["novelty"]
BAD: dict[str, tuple[bytes, bytes]] = {
    "not JSON": (b"bad", b"hello"),
    "a list": (b"bad", b"[]"),
    "not UTF-8": (b"bad", b"\xff"),
    "too large": (b"bad", json.dumps(GOOD | {"origin": "x" * (1 << 20)}).encode()),
    "a name that is not UTF-8": (b"\xff\xfe", json.dumps(GOOD).encode()),
    "a name that is a pattern": (b"*", json.dumps(GOOD | {"camera": "*"}).encode()),
    "a name that is a path": (b"../../x", json.dumps(GOOD | {"camera": "../../x"}).encode()),
    "another's name": (b"other", json.dumps(GOOD).encode()),
    **{
        what: (b"bad", json.dumps(GOOD | changed).encode())
        for what, changed in {
            "a relative source": {"source": "etc/passwd"},
            "a source that climbs": {"source": "/videos/../etc/passwd"},
            "a source of another protocol": {"source": "concat://a|b"},
            "a file by address": {"source": "file:///etc/passwd"},
            "a source that is no text": {"source": 7},
            "a source with a zero byte": {"source": "/a\0b"},
            "bytes that climb": {"source": "bytes:/videos/%FF/../../etc/passwd"},
            "bytes that are relative": {"source": "bytes:%FF"},
            "no source": {"source": ""},
            "an unknown kind": {"kind": "teleport"},
            "a live file": {"live": True},
            "no height": {"height": 0},
            "a height that fills the memory": {"height": 10**9},
            "NaN": {"join_wait_s": "nan"},
            "no attempts": {"max_deliveries": 0},
            "no models": {"models": {}},
            "a model's name with a colon": {"models": {"a:b}": MODEL}},
            "a checkpoint's hash that is none": {"models": {"m": MODEL | {"checkpoint": "/x", "sha256": "?"}}},
            "a relative checkpoint": {"models": {"m": MODEL | {"checkpoint": "x", "sha256": "0" * 64}}},
            "a hash that is none": {"config_hash": "\x1b[2J"},
            "a run before time": {"run_ms": -1},
        }.items()
    },
}


@pytest.mark.parametrize(("name", "text"), BAD.values(), ids=BAD.keys())
def test_what_no_user_could_configure_is_no_camera_and_said_once(
    one_bus: Bus, name: bytes, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    announce(one_bus, spec("good"))
    one_bus.client.hset(one_bus.keys.cameras, name, text)
    registry = Registry(one_bus.client, one_bus.keys)
    with caplog.at_level(logging.ERROR):
        for version in range(3):
            one_bus.client.set(one_bus.keys.cameras_version, version)
            registry.refresh()
    assert list(registry.specs) == ["good"]
    assert len(registry.refused) == 1
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().isprintable()


def test_a_pipe_or_a_device_is_not_read(one_bus: Bus, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for n, source in enumerate([str(tmp_path / "pipe"), "/dev/zero"]):
        camera = announce(one_bus, spec(f"c{n}", source=source))
        leases = Leases(one_bus.client, one_bus.keys, name="d", stage="decode", token="d:1", lease_s=60)
        assert leases.acquire(camera.camera, "decode")
        publish_file(one_bus, camera, "d:1", lambda: None)
        ((_, fields),) = one_bus.client.xrange(one_bus.keys.stream(camera.camera, "snippets"))
        assert b"neither a file nor a folder" in fields[b"status"]


@pytest.mark.parametrize(
    "changed",
    [{b"pixels:array": None}, {b"pixels:array": b"uint8 -1,2,3"}, {b"pixels:array": b"uint8 " + b"9," * 40 + b"9"}],
    ids=["no shape", "a size below 0", "beyond all memory"],
)
def test_a_reference_to_pixels_that_cannot_be_is_no_message(changed: dict[bytes, bytes | None], tmp_path: Path) -> None:
    reader = FrameReader(tmp_path / "own", "host")
    reference = b"host 1-0123456789ab/cam.0123456789ab.ring 0 2"
    fields = {b"schema": b"1", b"kind": b"snippet", b"pixels:array": b"uint8 1,2,3", b"pixels:shared": reference}
    with pytest.raises(ValueError, match=r"."):
        reader.message({k: v for k, v in (fields | changed).items() if v is not None})


def test_a_field_nested_without_end_is_no_message() -> None:
    from makers import end

    from pipeline.bus.codec import decode

    fields = {k.encode(): v if isinstance(v, bytes) else v.encode() for k, v in encode(end(1)).items()}
    with pytest.raises(ValueError, match="not an Oddwatch message"):
        decode(fields | {b"seq": b"[" * 100_000})
    assert parse_id("1-2") == (1, 2)
