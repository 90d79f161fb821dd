"""What decoding, features and models cost on this machine, measured on a sample through the real stages.

CPU seconds, not wall seconds: what a stage takes from the machine, however many threads it spreads it over. Only a
stage on a GPU is timed by the clock, since it has the GPU to itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import av

from stages.costs.stubs import SampleOutputs, StageOutput, looped
from stages.decode.containers.opening import open_file, picture_stream
from stages.decode.read import DecodeSettings, read_messages
from stages.decode.source import Source, expand
from stages.errors import SourceError, UsageError
from stages.features.registry import build_extractor
from stages.files.checkpoint import load_checkpoint
from stages.messages import Features, Scores, Snippet
from stages.stage import StageProcessor, State
from stages.temporal.registry import build_model

DECODE_S, STAGE_S = 3.0, 6.0
"""A measurement is repeated for so long, in seconds of wall time."""
WARM_S = 30.0
"""Seconds of footage that a model has seen before it is measured: longer than a usual warm-up."""
DECODER_CUTS = 5
"""Snippets after which a decoder's memory is looked at."""
MOST_SNIPPETS = 64
"""Snippets of the sample that are used; more would only take memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSetup:
    """A temporal model to measure."""

    kind: str
    features: str | None
    checkpoint: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSetup:
    """What to measure, and with what."""

    sample: Path
    decode: DecodeSettings
    models: Mapping[str, ModelSetup]
    fps: float
    device: str
    precision: str = "fp32"
    engine: str = "torch"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCosts:
    """Seconds of a CPU core (of the GPU where `device` is one), by frame of the camera or by snippet."""

    decode_s: float
    """Per frame: decoding, scaling and cutting, on one thread."""
    decoder_mb: float
    """Memory that one more decoder process takes."""
    stages: Mapping[str, float]
    """`features:motion`, `temporal:novelty` -> seconds per snippet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFacts:
    """What the file says of itself."""

    width: int
    height: int
    codec: str
    fps: float
    mbit: float
    """Megabit per second."""


def sample_facts(path: Path) -> SampleFacts:
    """Read the header of a video. Raises SourceError."""
    source = _source(path)
    with open_file(source, 10, 20) as container:
        stream = picture_stream(container, source)
        seconds = (container.duration or 0) / av.time_base
        return SampleFacts(
            width=stream.codec_context.width, height=stream.codec_context.height,
            codec=stream.codec_context.name.removeprefix("lib"), fps=float(stream.average_rate or 25),
            mbit=path.stat().st_size * 8 / 1e6 / seconds if seconds > 0 else 0.0,
        )  # fmt: skip


def measure(setup: MeasureSetup, at_once: int) -> tuple[StageCosts, SampleOutputs]:
    """Costs with `at_once` processes measuring the same at the same time: cores share caches, memory and clock speed,
    so a core among busy ones is slower than one alone, and at capacity all are busy.

    Raises SourceError, WeightsError, CheckpointError.
    """
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn")) as pool:
        found = [f.result() for f in [pool.submit(_measure, setup, n == 0) for n in range(at_once)]]
    costs = [c for c, _ in found]
    mean = StageCosts(
        decode_s=_mean(c.decode_s for c in costs),
        decoder_mb=_mean(c.decoder_mb for c in costs),
        stages={name: _mean(c.stages[name] for c in costs) for name in costs[0].stages},
    )
    sample = next(r for _, r in found if r is not None)
    return mean, sample


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _measure(setup: MeasureSetup, record: bool) -> tuple[StageCosts, SampleOutputs | None]:
    source = _source(setup.sample)
    decoder_mb = _decoder_mb(source, setup.decode)
    decode_s, snippets = _decode(source, setup.decode)
    stages: dict[str, float] = {}
    outputs: dict[str, Sequence[StageOutput]] = {}
    for name in sorted({m.features for m in setup.models.values() if m.features is not None}):
        extractor = StageProcessor(build_extractor(name, setup.device, setup.precision, setup.engine))
        passed = _pass(extractor, looped(snippets, camera="sample", run_ms=0, fps=setup.fps), len(snippets), setup)
        stages[f"features:{name}"], outputs[f"features:{name}"] = passed
    for name, model in setup.models.items():
        checkpoint = load_checkpoint(model.checkpoint, model.kind) if model.checkpoint is not None else None
        work = StageProcessor(build_model(model.kind, name, checkpoint, setup.device))
        inputs: Iterator[Snippet | Features] = looped(snippets, camera="sample", run_ms=0, fps=setup.fps)
        if model.features is not None:
            inputs = _described(inputs, outputs[f"features:{model.features}"])
        stages[f"temporal:{name}"], outputs[f"temporal:{name}"] = _pass(work, inputs, len(snippets), setup, WARM_S)
    costs = StageCosts(decode_s=decode_s, decoder_mb=decoder_mb, stages=stages)
    return costs, SampleOutputs(snippets, outputs) if record else None


def _described(snippets: Iterator[Snippet | Features], made: Sequence[StageOutput]) -> Iterator[Features]:
    for snippet in snippets:
        output = made[snippet.seq % len(made)].made
        assert isinstance(output, Features)
        yield replace(output, **snippet.header())


def _source(path: Path) -> Source:
    sources = expand([str(path)])
    if len(sources) != 1 or sources[0].live or path.is_dir():
        raise UsageError(f"{path}: give one video file as --sample")
    return sources[0]


def _read(source: Source, settings: DecodeSettings) -> list[Snippet]:
    cuts = read_messages(source, settings, 0, lambda: 0.0)
    return [c for c in islice(cuts, MOST_SNIPPETS) if isinstance(c, Snippet)]


def _decode(source: Source, settings: DecodeSettings) -> tuple[float, list[Snippet]]:
    """CPU seconds per frame, over several readings, and the whole snippets. Raises SourceError."""
    deadline, frames = time.monotonic() + DECODE_S, 0
    snippets: list[Snippet] = []
    begun_s = time.process_time()
    while not snippets or time.monotonic() < deadline:
        snippets = _read(source, settings)
        if not snippets:
            raise SourceError(f"{source.redacted}: holds no sound picture; give another --sample")
        frames += sum(len(s.times_s) for s in snippets)
    spent_s = time.process_time() - begun_s
    whole = [s for s in snippets if len(s.picked) == settings.snippet_frames]
    if not whole:
        raise SourceError(
            f"{source.redacted}: shorter than one snippet of {settings.snippet_frames} frames; give another --sample"
        )
    return spent_s / frames, whole


def _pass(
    work: StageProcessor, inputs: Iterable[Snippet | Features], length: int, setup: MeasureSetup, warm_s: float = 0.0
) -> tuple[float, list[StageOutput]]:
    """Seconds per snippet once warm, and the outputs for the last `length` snippets (fewer where time runs out)."""
    clock = _clock(setup.device)
    state: State = {}
    outputs: list[StageOutput] = []
    spent: list[float] = []
    deadline = time.monotonic() + STAGE_S
    made: list[Features | Scores] = []
    for message in inputs:
        begun_s = clock()
        result = work.run([({"": message}, state)])[0]
        spent.append(clock() - begun_s)
        state = result.state
        made += [m for m in result.messages if isinstance(m, Features | Scores)]
        # A model that looks ahead says nothing at first; its outputs are of one size anyway.
        if made:
            outputs = [*outputs, StageOutput(made[-1], state)][-length:]
        is_warm = float(message.times_s[-1]) >= warm_s and len(outputs) == length
        if len(outputs) > 1 and (is_warm or time.monotonic() > deadline):
            break
    # The first ones include what is done once; a run's first snippet costs less or more than the others.
    usual = spent[-max(1, min(length, len(spent) - 2)) :]
    return sum(usual) / len(usual), outputs


def _clock(device: str) -> Callable[[], float]:
    if not device.startswith("cuda"):
        return time.process_time
    import torch

    def now_s() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now_s


def _decoder_mb(source: Source, settings: DecodeSettings) -> float:
    """MiB that a fork of this process has to itself amid decoding, as a decoder has; 0 where that is not known."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            cuts = read_messages(source, settings, 0, lambda: 0.0)
            for _ in islice(cuts, DECODER_CUTS):
                pass
            text = Path("/proc/self/smaps_rollup").read_text()
            kib = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))
            os.write(writer, str(kib).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as said:
        text = said.read()
    os.waitpid(pid, 0)
    return int(text) / 1024 if text else 0.0
