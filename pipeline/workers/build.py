"""Builds what a worker runs: once for all cameras that share it, importing a stage's libraries only where needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pipeline.cameras.spec import CameraSpec
from pipeline.config.schema import WorkersConfig
from pipeline.leases.lease import TaskId
from stages.errors import CheckpointError, OddwatchError
from stages.stage import Processor, StageProcessor

log = logging.getLogger(__name__)

GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""One of them is there wherever a GPU is: on Linux, and under Windows' own Linux."""
AGAIN_S = 5.0
"""How soon a stage that could not be built is tried again: its weights or checkpoint may come later."""
FOREIGN_S = 60.0
"""How long a task is left to workers on the host whose memory holds its pictures."""
ProcessorFor = Callable[[CameraSpec, str], Processor]
"""Builds the stage of a camera. Raises OddwatchError when something it needs is missing, or what a library raises."""


class Processors:
    """What a worker can do: processors by `processor_key`, and why some tasks cannot be done here now."""

    def __init__(self, processor_for: ProcessorFor) -> None:
        self._processor_for = processor_for
        self._built: dict[str, Processor] = {}
        self._missing: dict[str, tuple[float, str]] = {}
        """When to try again, and why."""
        self._kept_for: Mapping[TaskId, CameraSpec] | None = None
        self._foreign: dict[TaskId, tuple[float, str]] = {}
        """Tasks that only workers on another host can do: until when they are left to those, and why."""

    def of(self, spec: CameraSpec, stage: str) -> Processor:
        """What was built for a camera's stage."""
        return self._built[processor_key(spec, stage)]

    def error_at(self, now_s: float) -> str:
        """One line about everything that cannot be done now; empty if all can."""
        self._foreign = {task: (until_s, why) for task, (until_s, why) in self._foreign.items() if until_s > now_s}
        missing = sorted({why for _, why in self._missing.values()})
        return "; ".join([*missing, *{why for _, why in self._foreign.values()}])

    def can_do(self, task: TaskId, spec: CameraSpec, now_s: float) -> bool:
        """Whether this worker can do a task now; builds what it needs for that."""
        until_s, _ = self._foreign.get(task, (0.0, ""))
        return now_s >= until_s and self.ready(spec, task.stage, now_s)

    def leave_to_others(self, task: TaskId, why: str, now_s: float) -> None:
        """A task can only be done on another host, as far as is known for a while."""
        if why not in {why for until_s, why in self._foreign.values() if until_s > now_s}:
            log.warning("%s %s: %s", *task, why)
        self._foreign[task] = now_s + FOREIGN_S, why

    def ready(self, spec: CameraSpec, stage: str, now_s: float) -> bool:
        """Whether the stage is built; builds it now if it is not."""
        key = processor_key(spec, stage)
        if key in self._built:
            return True
        again_s, before = self._missing.get(key, (now_s, ""))
        if now_s < again_s:
            return False
        try:
            self._built[key] = self._processor_for(spec, stage)
        except Exception as error:
            # Whatever it is (weights that are missing, a GPU that is not there or full): the others must go on.
            why = _in_one_line(error)
            if why != before:
                log.error("%s %s: %s", spec.camera, stage, why)
                log.debug("%s %s", spec.camera, stage, exc_info=error)
            self._missing[key] = (now_s + AGAIN_S, why)
            return False
        self._missing.pop(key, None)
        return True

    def keep(self, wanted: Mapping[TaskId, CameraSpec]) -> None:
        """Let go of what no task needs any more; costs something only where `wanted` is another object than before."""
        if wanted is self._kept_for:
            return
        self._kept_for = wanted
        in_use = {processor_key(spec, stage) for (_, stage), spec in wanted.items()}
        self._built = {k: p for k, p in self._built.items() if k in in_use}
        self._missing = {k: why for k, why in self._missing.items() if k in in_use}


def _in_one_line(error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    return said if isinstance(error, OddwatchError) and said else f"cannot be built: {type(error).__name__}: {said}"


def processor_key(spec: CameraSpec, stage: str) -> str:
    """Equal for tasks that one processor can serve together."""
    head, _, name = stage.partition(":")
    if head == "features":
        return stage
    return f"{stage} {spec.models[name].model_dump_json()}" if head == "temporal" else f"{stage} {spec.config_hash}"


def processor_builder(device: str, is_cluster: bool, precision: str = "fp32", engine: str = "torch") -> ProcessorFor:
    """How a worker on this host builds a stage; raises OddwatchError when weights or a checkpoint are missing.

    `device` is what the configuration says; `auto` is decided here, in the workers that compute.
    `precision` is that of feature networks; models were learned on features in fp32, so another one is logged.
    `engine` is what computes them.
    """

    def build(spec: CameraSpec, stage: str) -> Processor:
        head, _, name = stage.partition(":")
        if head == "features":
            from stages.features.registry import EXTRACTORS, build_extractor

            extractor = build_extractor(name, resolve_device(device), precision, engine)
            if precision != "fp32" and EXTRACTORS.get(name).network:
                log.info("%s computes in %s; models learned its features in fp32 (docs/features.md)", name, precision)
            return StageProcessor(extractor)
        if head == "temporal":
            return StageProcessor(_model(spec, name, resolve_device(device)))
        from pipeline.workers.alerting import AlertingProcessor

        return AlertingProcessor(spec, to_all=not is_cluster)

    return build


def _model(spec: CameraSpec, name: str, device: str):  # type: ignore[no-untyped-def]
    from stages.files.checkpoint import load_checkpoint
    from stages.temporal.registry import build_model

    model = spec.models[name]
    checkpoint = None
    if model.checkpoint is not None:
        checkpoint = load_checkpoint(Path(model.checkpoint), model.kind)
        if checkpoint.sha256 != model.sha256:
            raise CheckpointError(
                f"{model.checkpoint}: not the file that {spec.camera} was registered with; copy that one here"
            )
    try:
        return build_model(model.kind, name, checkpoint, device)
    except CheckpointError as error:
        raise CheckpointError(f"{model.checkpoint}: {error}") from error


def check_engine(workers: WorkersConfig, specs: Iterable[CameraSpec] | None) -> None:
    """Raises ConfigError if the feature networks of `specs` cannot be computed here as `workers` says.

    None: of cameras that are not known yet.
    """
    if workers.engine == "torch":
        return
    from stages.features.registry import EXTRACTORS, check_engine

    used = {name for spec in specs or () for name in spec.extractors}
    if specs is None or any(EXTRACTORS.get(name).network for name in used):
        check_engine(workers.engine, resolve_device(workers.device), workers.precision)


def may_use_gpu(device: str) -> bool:
    """Whether a GPU is likely to be used; without asking it."""
    return device.startswith("cuda") or (device == "auto" and any(path.exists() for path in GPU_DRIVERS))


def resolve_device(wanted: str) -> str:
    """`auto` -> `cuda` where torch can use a GPU, else `cpu`."""
    if wanted != "auto":
        return wanted
    # Importing torch takes seconds: ask it only where there is a driver at all.
    if not any(path.exists() for path in GPU_DRIVERS):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
