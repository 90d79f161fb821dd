"""Snippets from one process to another over the real bus, against a plain copy of the same bytes and against inline.

python scripts/bench/handoff.py [REPEATS]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from pipeline.bus.commit import Left
from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect
from pipeline.cameras.spec import CameraSpec, make_spec
from pipeline.config.schema import Config
from pipeline.ingest.publish import Publisher
from pipeline.pixels.reader import FrameReader
from pipeline.pixels.route import PixelRoute
from pipeline.pixels.sweep import swept
from pipeline.processes.this_process import die_with_parent
from stages.decode.sources.kinds import FILE
from stages.messages import Snippet

SHAPE = (16, 224, 224, 3)
SNIPPETS = {"shared": 800, "copied": 600, "inline": 120}
WARM_UP = 20
COPIES = 200
RING = 14
"""Snippets of this size that `redis.stream_mb` allows, and the one that is being made."""
GROUP = "features:motion"


def measure(repeats: int = 5) -> dict:
    """Ratios of a hand-off's bandwidth to that of `np.copyto` and of shared memory to inline: median, least, greatest.

    A copy to one place again and again stays in the processor's cache; one to as many places in turn as the ring has
    is what a hand-off has to do. Each repeat measures all right after one another, so that what else the machine does
    weighs on all.
    """
    pixels = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)
    rounds = []
    with EmbeddedServer(memory_mb=512) as server:
        for n in range(repeats):
            rounds.append(
                {
                    "copy_cached_s": _copy_s(pixels, 1),
                    "copy_s": _copy_s(pixels, RING),
                    "shared_s": _handoff_s(server.url, f"shared{n}", "shared", pixels),
                    "copied_s": _handoff_s(server.url, f"copied{n}", "copied", pixels),
                    "inline_s": _handoff_s(server.url, f"inline{n}", "inline", pixels),
                }
            )
    bandwidths = {name[:-1] + "gb_s": _spread([pixels.nbytes / r[name] / 1e9 for r in rounds]) for name in rounds[0]}
    return bandwidths | {
        "bytes": pixels.nbytes,
        "shared_to_copy": _spread([r["copy_s"] / r["shared_s"] for r in rounds]),
        "shared_to_copy_cached": _spread([r["copy_cached_s"] / r["shared_s"] for r in rounds]),
        "copied_to_copy": _spread([r["copy_s"] / r["copied_s"] for r in rounds]),
        "shared_to_inline": _spread([r["inline_s"] / r["shared_s"] for r in rounds]),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def _copy_s(pixels: np.ndarray, places: int) -> float:
    """Seconds of one copy into memory that is there already, into `places` places in turn."""
    to = [np.zeros_like(pixels) for _ in range(places)]
    begun = time.perf_counter()
    for n in range(COPIES):
        np.copyto(to[n % places], pixels)
    return (time.perf_counter() - begun) / COPIES


def _handoff_s(url: str, prefix: str, how: str, pixels: np.ndarray) -> float:
    """Seconds per snippet from a decoder's `Publisher` in another process to a reader that acknowledges each."""
    bus = Bus(connect(url), Keys(prefix))
    spec = make_spec(Config(), camera="bench", source="/bench", kind=FILE.name, run_ms=1)
    spec.ensure_streams(bus)
    lease = (bus.keys.lease(spec.camera, GROUP), "reader")
    bus.client.set(*lease)
    bus.client.set(bus.keys.lease(spec.camera, "decode"), "writer")
    count = SNIPPETS[how]
    parent = os.getpid()
    with swept(bus, True):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                die_with_parent(parent)
                _write(url, prefix, how, spec, pixels, count)
                code = 0
            finally:
                os._exit(code)
        frames, reader = FrameReader(), (bus.keys.stream(spec.camera, "snippets"), GROUP)
        done, begun, ahead = 0, 0.0, {}
        while done < count:
            # As a worker does: what is next comes with the acknowledgement of what was last.
            entry = (ahead or bus.read_new([reader], 1.0)).get(reader)
            if entry is None:
                continue
            message = frames.message(entry.fields)
            assert isinstance(message, Snippet)
            assert message.pixels[3, 5, 7, 1] == pixels[3, 5, 7, 1]
            assert tuple(message.pixels[0, 0, 0]) == stamp(message.seq)
            committed, ahead = bus.commit_and_read([bus.make_commit(lease, acks=[(*reader, entry.id_text)])], [reader])
            assert isinstance(committed[0], Left)
            done += 1
            if done == WARM_UP:
                begun = time.perf_counter()
        took_s = time.perf_counter() - begun
        os.waitpid(pid, 0)
        frames.close()
    bus.client.flushall()
    bus.client.close()
    return took_s / (count - WARM_UP)


def _write(url: str, prefix: str, how: str, spec: CameraSpec, pixels: np.ndarray, count: int) -> None:
    """`shared`: pixels are where a decoder would have put them, in the memory that it is given for each snippet."""
    bus = Bus(connect(url), Keys(prefix))
    frames = PixelRoute(bus, "inline" if how == "inline" else "shared", url).writer(bus, spec, lambda: True)
    publisher = Publisher(bus, spec, "writer", lambda: None, frames)
    first = Snippet(
        camera=spec.camera, run_ms=1, seq=0, first_frame=0, times_s=np.arange(SHAPE[0]) / 25.0, pixels=pixels,
        picked=np.arange(SHAPE[0], dtype=np.int32), thumb=bytes(8000),
    )  # fmt: skip
    filled: set[int] = set()
    for seq in range(count):
        own = pixels
        if how == "shared" and frames is not None:
            own = frames.allocate(SHAPE)
            if own.ctypes.data not in filled:
                filled.add(own.ctypes.data)
                own[:] = pixels
        own[0, 0, 0] = stamp(seq)
        publisher.publish(replace(first, seq=seq, first_frame=seq * SHAPE[0], pixels=own), {"next_frame": seq})


def stamp(seq: int) -> tuple[int, int, int]:
    """What tells a snippet's pixels from another's."""
    return seq % 256, seq // 256 % 256, 77


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5), indent=1))
