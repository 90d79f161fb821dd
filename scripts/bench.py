"""What the pipeline costs on top of its stages: ratios, each measured side by side in this run.

    python scripts/bench.py [--repeats 3] [--json FILE]

Footage is made, nothing is fetched. A ratio of 1 means that Redis, processes and accounting cost nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.threads import single_thread_libraries  # noqa: E402

single_thread_libraries()

from pipeline.cli.fit import fit_checkpoint  # noqa: E402
from pipeline.cli.score import score_files  # noqa: E402
from pipeline.cli.session import named_models  # noqa: E402
from pipeline.config import Config  # noqa: E402
from pipeline.messages import Gap  # noqa: E402
from pipeline.work import TransformWork  # noqa: E402
from stages.checkpoint import load_checkpoint  # noqa: E402
from stages.decode import DecodeSettings, read_messages  # noqa: E402
from stages.demo_footage import make_demo  # noqa: E402
from stages.features import build_extractor  # noqa: E402
from stages.sources import expand  # noqa: E402
from stages.temporal import build_model  # noqa: E402


def plain_loop(path: Path, checkpoint: Path) -> int:
    """Decode, features and model in one process, no Redis; returns the frames scored."""
    features = TransformWork(build_extractor("motion"))
    model = TransformWork(build_model("novelty", "novelty", load_checkpoint(checkpoint)))
    feature_state, model_state, frames = {}, {}, 0
    for message in read_messages(expand([str(path)])[0], DecodeSettings(), 0, time.time):
        described = features.run([({"snippets": message}, feature_state)])[0]
        feature_state = described.state
        for item in described.messages:
            scored = model.run([({"features:motion": item}, model_state)])[0]
            model_state = scored.state
        frames += 0 if isinstance(message, Gap) else len(message.times_s)
    return frames


def pipeline(paths: list[Path], checkpoint: Path, out: Path) -> int:
    """The same files through all stages over the embedded server, start-up included; returns the frames scored."""
    config = Config().model_copy(update={"models": named_models([checkpoint])})
    scoring = score_files([str(p) for p in paths], out, config, resume=False, quiet=True)
    return sum(r.scored for r in scoring.results)


def frames_per_s(work: Callable[[], int]) -> float:
    begun_s = time.perf_counter()
    return work() / (time.perf_counter() - begun_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        footage = make_demo(base)
        checkpoint = base / "model.safetensors"
        fit_checkpoint([str(p) for p in footage.normal], checkpoint, "motion")
        for name, files in (("one file", [footage.test]), ("two files", [footage.test, footage.normal[0]])):
            ratios, speeds = [], []
            for repeat in range(arguments.repeats):
                plain = frames_per_s(lambda files=files: sum(plain_loop(f, checkpoint) for f in files))
                ours = frames_per_s(lambda files=files, out=base / f"{name}{repeat}": pipeline(files, checkpoint, out))
                ratios.append(ours / plain)
                speeds.append(ours)
            rows.append(
                {
                    "figure": f"whole pipeline over Redis, {name}, start-up included",
                    "against": "plain loop in one process",
                    "ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)],
                    "frames_per_s": statistics.median(speeds),
                }
            )  # fmt: skip
    for row in rows:
        low, high = row["spread"]
        print(f"{row['figure']} / {row['against']}:")
        print(f"  {row['ratio']:.2f} ({low:.2f}-{high:.2f}); {row['frames_per_s']:.0f} frames/s")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
