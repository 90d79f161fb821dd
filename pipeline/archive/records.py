"""What is known about one scored file, and the files that a `score` leaves: records, summary, alerts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.path_text import PathText
from stages.files.atomic import write_whole
from stages.text import is_text, printable

RECORDS = ".oddwatch"
"""Folder in --out that holds one JSON per finished file; what `--resume` goes by."""


class FileResult(BaseModel):
    """One file's outcome. `status` is `complete`, `truncated: ...`, `damaged: ...` or `error: ...`."""

    model_config = ConfigDict(frozen=True)
    file: PathText
    """As the user named it."""
    camera: str
    config_hash: str
    csv: str | None
    """File name of its scores in --out; None if it could not be opened."""
    models: list[str]
    decoded: int = 0
    scored: int = 0
    provisional: int = 0
    """Frames of `scored` within a warm-up."""
    gaps: dict[str, int] = {}
    seconds: float = 0.0
    """Length of the footage."""
    took_s: float = 0.0
    """Wall clock, from its start to its last score."""
    warmup_until_s: float = 0.0
    gap_spans: list[tuple[float, float, str]] = []
    alerts: list[dict] = []
    """Alert messages in order, snapshots as paths relative to --out."""
    status: str
    left_out: str = ""
    """What of the file was not even looked at, in one line."""
    told: list[str] = []
    """Sinks that have been told of the alerts."""
    csv_sha256: str = ""
    """Of the scores, so that another file's are never taken for these."""

    @property
    def failed(self) -> bool:
        """True if something about the file has to be named to the user."""
        return self.status != "complete"

    def summary(self) -> dict:
        """Its entry in `summary.json`."""
        return {
            "file": self.file if is_text(self.file) else printable(self.file), "csv": self.csv, "status": self.status,
            "decoded": self.decoded, "scored": self.scored, "gaps": self.gaps, "provisional": self.provisional,
            "seconds": round(self.seconds, 6), "alerts": sum(a["phase"] == "open" for a in self.alerts),
            "camera": self.camera,
        }  # fmt: skip


def read_record(out: Path, camera: str, config_hash: str) -> FileResult | None:
    """The record of a file that an earlier run finished with the same settings, if its scores are still there."""
    try:
        result = FileResult.model_validate_json((out / RECORDS / f"{camera}.json").read_bytes())
    except (OSError, ValidationError):
        return None
    if result.config_hash != config_hash or result.csv is None or result.status.startswith("error"):
        return None
    try:
        return result if file_sha256(out / result.csv) == result.csv_sha256 else None
    except OSError:
        return None


def csv_owners(out: Path) -> dict[str, str]:
    """CSV name -> camera, of all files that were ever finished into this folder."""
    return {result.csv: result.camera for result in _records(out) if result.csv is not None}


def scored_otherwise(out: Path, config_hash: str) -> dict[str, str]:
    """CSV name -> camera, of the scores in this folder that other models or settings have made."""
    return {
        result.csv: result.camera
        for result in _records(out)
        if result.csv is not None and result.config_hash != config_hash and (out / result.csv).exists()
    }


def _records(out: Path) -> Iterator[FileResult]:
    for record in sorted((out / RECORDS).glob("*.json")):
        try:
            yield FileResult.model_validate_json(record.read_bytes())
        except (OSError, ValidationError):
            continue


def file_sha256(path: Path) -> str:
    """Hash of a file's content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(out: Path, result: FileResult) -> None:
    """Remember a finished file. Raises OddwatchError when --out cannot be written."""
    write_whole(out / RECORDS / f"{result.camera}.json", result.model_dump_json(indent=1).encode())


def write_summary(out: Path, results: Sequence[FileResult], models: Sequence[str], config_hash: str) -> None:
    """`summary.json` and `alerts.jsonl` of all files so far. Raises OddwatchError when --out cannot be written."""
    gaps: dict[str, int] = {}
    for result in results:
        for cause, n in result.gaps.items():
            gaps[cause] = gaps.get(cause, 0) + n
    summary = {
        "files": [r.summary() for r in results],
        "decoded": sum(r.decoded for r in results),
        "scored": sum(r.scored for r in results),
        "gaps": gaps,
        "failed": sum(r.failed for r in results),
        "models": list(models),
        "config_hash": config_hash,
        "schema": 1,
    }
    lines = "".join(json.dumps(alert) + "\n" for result in results for alert in result.alerts)
    write_whole(out / "summary.json", json.dumps(summary, indent=1).encode() + b"\n")
    write_whole(out / "alerts.jsonl", lines.encode())
