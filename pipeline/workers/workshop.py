"""Builds what a worker runs, once for all cameras that share it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.cameras.spec import CameraSpec
from pipeline.workers.task import processor_key
from stages.errors import OddwatchError
from stages.stage import Processor

log = logging.getLogger(__name__)

AGAIN_S = 5.0
"""How soon a stage that could not be built is tried again: its weights or checkpoint may come later."""

ProcessorFor = Callable[[CameraSpec, str], Processor]
"""Builds the stage of a camera. Raises OddwatchError when something it needs is missing, or what a library raises."""


class Workshop:
    """Stages by `processor_key`, and why some could not be built."""

    def __init__(self, processor_for: ProcessorFor) -> None:
        self._work_for = processor_for
        self._built: dict[str, Processor] = {}
        self._missing: dict[str, tuple[float, str]] = {}
        """When to try again, and why."""

    def __getitem__(self, key: str) -> Processor:
        return self._built[key]

    @property
    def error(self) -> str:
        """One line about everything that could not be built; empty if all could."""
        return "; ".join(sorted({why for _, why in self._missing.values()}))

    def ready(self, spec: CameraSpec, stage: str, now_s: float) -> bool:
        """Whether the stage is built; builds it now if it is not."""
        key = processor_key(spec, stage)
        if key in self._built:
            return True
        again_s, before = self._missing.get(key, (now_s, ""))
        if now_s < again_s:
            return False
        try:
            self._built[key] = self._work_for(spec, stage)
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

    def keep(self, in_use: set[str]) -> None:
        """Let go of what no camera needs any more."""
        self._built = {k: w for k, w in self._built.items() if k in in_use}
        self._missing = {k: w for k, w in self._missing.items() if k in in_use}


def _in_one_line(error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    return said if isinstance(error, OddwatchError) and said else f"cannot be built: {type(error).__name__}: {said}"
