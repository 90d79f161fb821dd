"""Builds what a worker runs, importing a stage's libraries only in the workers that need them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from pipeline.cameras.spec import CameraSpec
from pipeline.config.schema import WorkersConfig
from pipeline.workers.workshop import ProcessorFor
from stages.errors import CheckpointError
from stages.stage import Processor, StageProcessor

log = logging.getLogger(__name__)

GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""One of them is there wherever a GPU is: on Linux, and under Windows' own Linux."""


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
