"""One peer over several video files, with Oddwatch's features and model on every frame it delivers.

    python scripts/bench/peer.py opencv|vidgear|inference CHECKPOINT VIDEO...

Prints {"frames": ..., "seconds": ..., "cpu_s": ...} as its last line. Runs in the peers' own environment; imports and
model loading are not counted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from pipeline.processes.this_process import single_thread_libraries  # noqa: E402

single_thread_libraries()

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from stages.features.registry import build_extractor  # noqa: E402
from stages.files.checkpoint import load_checkpoint  # noqa: E402
from stages.messages import Snippet  # noqa: E402
from stages.stage import StageProcessor  # noqa: E402
from stages.temporal.registry import build_model  # noqa: E402

HEIGHT, FRAMES = 240, 16


class Watched:
    """A source's frames to scores: 16 at a time, as Oddwatch does, which is kinder than one by one."""

    def __init__(self, checkpoint: Path) -> None:
        self._features = StageProcessor(build_extractor("motion"))
        self._model = StageProcessor(build_model("novelty", "novelty", load_checkpoint(checkpoint)))
        self._feature_state, self._model_state = {}, {}
        self._pictures: list[np.ndarray] = []
        self.frames = 0

    def add(self, picture: np.ndarray) -> None:
        """Take the next frame, uint8 BGR of any size."""
        height, width = picture.shape[:2]
        if height > HEIGHT:
            size = (2 * round(width * HEIGHT / height / 2), HEIGHT)
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        self._pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        if len(self._pictures) == FRAMES:
            self.flush()

    def flush(self) -> None:
        """Score what is there."""
        if not self._pictures:
            return
        count = len(self._pictures)
        snippet = Snippet(
            camera="cam", run_ms=1, seq=self.frames // FRAMES, first_frame=self.frames,
            times_s=(self.frames + np.arange(count)) / 25, picked=np.arange(count, dtype=np.int32),
            pixels=np.stack(self._pictures),
        )  # fmt: skip
        described = self._features.run([({"snippets": snippet}, self._feature_state)])[0]
        self._feature_state = described.state
        for item in described.messages:
            self._model_state = self._model.run([({"features:motion": item}, self._model_state)])[0].state
        self.frames += count
        self._pictures = []


def opencv(paths: Sequence[str], watched: Sequence[Watched]) -> None:
    """One loop: a frame of each source in turn."""
    open_now = {i: cv2.VideoCapture(path) for i, path in enumerate(paths)}
    while open_now:
        for index, capture in list(open_now.items()):
            there, picture = capture.read()
            if there:
                watched[index].add(picture)
            else:
                open_now.pop(index).release()


def vidgear(paths: Sequence[str], watched: Sequence[Watched]) -> None:
    """A CamGear (its own reading thread) for each source, a frame of each in turn."""
    from vidgear.gears import CamGear

    open_now = {i: CamGear(source=path).start() for i, path in enumerate(paths)}
    while open_now:
        for index, gear in list(open_now.items()):
            picture = gear.read()
            if picture is not None:
                watched[index].add(picture)
            else:
                open_now.pop(index).stop()


def inference(paths: Sequence[str], watched: Sequence[Watched]) -> None:
    """Roboflow's InferencePipeline with custom logic."""
    from inference import InferencePipeline

    def on_frames(frames: list) -> list:
        for frame in frames:
            watched[frame.source_id or 0].add(frame.image)
        return [{} for _ in frames]

    pipeline = InferencePipeline.init_with_custom_logic(
        video_reference=list(paths), on_video_frame=on_frames, on_prediction=lambda *_: None
    )
    pipeline.start()
    pipeline.join()


PEERS: dict[str, Callable[[Sequence[str], Sequence[Watched]], None]] = {
    "opencv": opencv, "vidgear": vidgear, "inference": inference,
}  # fmt: skip


def main() -> None:
    name, checkpoint, paths = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    import_module({"opencv": "cv2", "vidgear": "vidgear.gears", "inference": "inference"}[name])
    watched = [Watched(checkpoint) for _ in paths]
    begun_s, cpu_s = time.perf_counter(), time.process_time()
    PEERS[name](paths, watched)
    for source in watched:
        source.flush()
    seconds, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    print(json.dumps({"frames": sum(w.frames for w in watched), "seconds": seconds, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    main()
