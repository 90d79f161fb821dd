"""`<stem>.scores.csv`: one row for every decoded frame. Empty = not scored, which is not the same as normal.

    frame,time_s,score,<model>...
    0,0.0,0.0123,1.7
    1,0.04,,

`frame` counts from 0 in decode order, `time_s` is to the microsecond, `score` is fused and calibrated, each
model's column is its raw score. Scores are the shortest text that reads back as the same float32, so the same
scores give the same bytes.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from stages.errors import ConfigError
from stages.files.atomic import cannot_write, part_of

BLOCK_LINES = 4096
FIXED = ("frame", "time_s", "score")
MODEL_NAME = re.compile(r"[^\s,\"\0]([^,\"\r\n\0]*[^\s,\"\0])?\Z")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoresTable:
    """The scores of one video, as its CSV holds them. NaN = not scored."""

    times_s: np.ndarray
    """float64 (N,): of frames 0 .. N-1."""
    score: np.ndarray
    """float32 (N,): fused and calibrated."""
    models: dict[str, np.ndarray]
    """model -> float32 (N,): raw."""

    def __post_init__(self) -> None:
        if self.times_s.dtype != np.float64 or self.times_s.ndim != 1:
            raise ValueError(f"times_s must be float64 (N,), got {self.times_s.dtype} {self.times_s.shape}")
        for name, values in {"score": self.score, **self.models}.items():
            if values.dtype != np.float32 or values.shape != self.times_s.shape:
                raise ValueError(f"{name} must be float32 {self.times_s.shape}, got {values.dtype} {values.shape}")


class ScoresCsv:
    """Writes a scores file as frames come: to `<name>.part`, which `close` renames and `abort` removes.

    As a context manager it closes at the end of the block and aborts when the block raises.
    Raises OddwatchError when the folder cannot be written or the disk is full.
    """

    def __init__(self, path: Path, models: Sequence[str]) -> None:
        for model in models:
            if not MODEL_NAME.match(model) or model in FIXED:
                raise ValueError(f"{model!r} cannot be a column of {path.name}")
        self.path = path
        self.models = tuple(models)
        self.next_frame = 0
        """The frame that the next row is about; at the end, the number of frames."""
        self._part = part_of(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("w", encoding="utf-8", newline="\n")
            self._file.write(",".join((*FIXED, *self.models)) + "\n")
        except OSError as error:
            raise cannot_write(path, error) from error

    def append(
        self,
        first_frame: int,
        times_s: np.ndarray,
        score: np.ndarray | None = None,
        raw: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Rows for frames `first_frame ..`: times float64 (N,), score and each raw float32 (N,), NaN = not scored.

        Without `score` or a model's `raw` its column stays empty, so a gap is `append(first_frame, times_s)`.
        Raises ValueError unless the frames follow the last ones: every decoded frame has exactly one row.
        """
        raw = raw or {}
        if first_frame != self.next_frame:
            raise ValueError(f"{self.path.name}: expected frame {self.next_frame}, got {first_frame}")
        if unknown := set(raw) - set(self.models):
            raise ValueError(f"{self.path.name}: no column for {sorted(unknown)}, only for {self.models}")
        count = len(times_s)
        columns: list[Iterable[str]] = [
            map(str, range(first_frame, first_frame + count)),
            map(repr, np.round(times_s, 6).tolist()),
        ]
        columns += [_texts(values, count) for values in (score, *(raw.get(model) for model in self.models))]
        try:
            self._file.writelines(row + "\n" for row in map(",".join, zip(*columns, strict=True)))
        except OSError as error:
            self.abort()
            raise cannot_write(self.path, error) from error
        self.next_frame += count

    def close(self) -> None:
        """Everything to the disk, then to its name."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._part, self.path)
        except OSError as error:
            self.abort()
            raise cannot_write(self.path, error) from error

    def abort(self) -> None:
        """Leave nothing behind; an older file of that name stays."""
        # A full disk refuses the last buffer a second time; the file goes away anyway.
        with suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort() if kind else self.close()


def _texts(values: np.ndarray | None, count: int) -> list[str]:
    if values is None:
        return [""] * count
    if values.dtype != np.float32 or values.shape != (count,):
        raise ValueError(f"scores must be float32 ({count},), got {values.dtype} {values.shape}")
    texts: list[str] = values.astype("U").tolist()
    for i in np.flatnonzero(np.isnan(values)).tolist():
        texts[i] = ""
    return texts


def read_scores(path: Path) -> ScoresTable:
    """Read what `ScoresCsv` wrote. Raises ConfigError naming the file and what is wrong with it."""
    damaged = f"{path}: damaged (frames are missing or out of order); score the video again"
    # Arrays that grow where they are: blocks put together at the end would be there twice.
    times_s, columns, rows = array("d"), array("f"), 0
    try:
        with path.open(encoding="utf-8") as f:
            header = f.readline().rstrip("\n")
            names = header.split(",")
            if tuple(names[:3]) != FIXED:
                raise ConfigError(
                    f"{path}: not a scores file: the header must begin {','.join(FIXED)}, got {header[:80]!r}"
                )
            for cells in _blocks(f):
                if cells.shape[1] != len(names) or not np.array_equal(cells[:, 0], rows + np.arange(len(cells))):
                    raise ConfigError(damaged)
                times_s.frombytes(cells[:, 1].tobytes())
                columns.frombytes(cells[:, 2:].astype(np.float32).tobytes())
                rows += len(cells)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the scores ({error}); score the video again") from error
    except ValueError as error:
        raise ConfigError(f"{path}: damaged ({error}); score the video again") from error
    score, *raw = np.frombuffer(columns, np.float32).reshape(rows, len(names) - 2).T
    models = dict(zip(names[3:], raw, strict=True))
    return ScoresTable(times_s=np.frombuffer(times_s, np.float64), score=score, models=models)


def _blocks(lines: Iterator[str]) -> Iterator[np.ndarray]:
    """float64 (N, columns): the numbers in lines of CSV, NaN for an empty cell. Hours of them never lie in memory."""
    while block := [_filled(line) for line in islice(lines, BLOCK_LINES) if line.strip()]:
        yield np.loadtxt(block, delimiter=",", ndmin=2, comments=None)


def _filled(line: str) -> str:
    # Twice, because the two commas of neighbouring empty cells overlap.
    return line.replace(",,", ",nan,").replace(",,", ",nan,").replace(",\n", ",nan\n")
