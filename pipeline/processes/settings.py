"""What the worker processes of one host are told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict


class WorkerSettings(BaseModel):
    """The same for all workers of a host; handed to their supervisor as JSON."""

    model_config = ConfigDict(frozen=True)
    url: str
    """Of Redis, with the login."""
    prefix: str
    """Of its keys."""
    lease_s: float
    device: str = "cpu"
    precision: str = "fp32"
    engine: str = "torch"
    decode_files: int
    """Files decoded at once by one decode worker."""
    config_path: Path | None = None
    """Where a decode worker finds the addresses of live cameras, with their logins."""
    frames: Literal["auto", "shared", "inline"] = "auto"
    """How a decode worker hands pixels on."""
    batch: int = 16
    """Messages given to a stage at once, at most."""
    batch_wait_ms: float | None = None
    """How long the first message of a batch waits for more; None: 0 on a CPU, 10 on a GPU."""
    log_level: str = "info"
