"""The same decode and the same models in one plain loop in one process: no Redis, no accounting, nothing written.

    python scripts/bench/plain.py CHECKPOINT LOOPS VIDEO...    # prints {"frames": ..., "seconds": ..., "cpu_s": ...}

`LOOPS` loops run at a time, each over files of its own; imports and model loading are not counted.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from pipeline.processes.this_process import single_thread_libraries  # noqa: E402

single_thread_libraries()

from stages.decode.read import DecodeSettings, read_messages  # noqa: E402
from stages.decode.source import expand  # noqa: E402
from stages.features.registry import build_extractor  # noqa: E402
from stages.files.checkpoint import load_checkpoint  # noqa: E402
from stages.messages import Gap  # noqa: E402
from stages.stage import StageProcessor  # noqa: E402
from stages.temporal.registry import build_model  # noqa: E402


class Loop:
    """Decode, features and model, one snippet after the other."""

    def __init__(self, checkpoint: Path) -> None:
        self._features = StageProcessor(build_extractor("motion"))
        self._model = StageProcessor(build_model("novelty", "novelty", load_checkpoint(checkpoint)))

    def score(self, path: str) -> int:
        """The frames scored of a file."""
        feature_state, model_state, frames = {}, {}, 0
        for message in read_messages(expand([path])[0], DecodeSettings(), 0, time.time):
            described = self._features.run([({"snippets": message}, feature_state)])[0]
            feature_state = described.state
            for item in described.messages:
                model_state = self._model.run([({"features:motion": item}, model_state)])[0].state
            frames += 0 if isinstance(message, Gap) else len(message.times_s)
        return frames


def main() -> None:
    checkpoint, loops, paths = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    made = [Loop(checkpoint) for _ in range(loops)]
    begun_s, cpu_s = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(loops) as pool:
        shares = [pool.submit(lambda i=i: [made[i].score(p) for p in paths[i::loops]]) for i in range(loops)]
        frames = sum(sum(share.result()) for share in shares)
    seconds, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    print(json.dumps({"frames": frames, "seconds": seconds, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
