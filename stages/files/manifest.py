"""Manifests: which videos, and what is known about them. JSON lines, one video each.

`{"video": "testing/01.mp4", "split": "test", "label": 1, "anomalies": [[60, 179]], "group": "src7"}`
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from stages.errors import ConfigError

KEYS = ("video", "split", "label", "anomalies", "group")
Interval = tuple[int, int]
"""The first and the last frame of something, counted from 0, both inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntry:
    """One video of a manifest. A key that was absent is None."""

    video: str
    """As written in the manifest: the name of the video in results."""
    path: Path
    """Where it is: `video`, relative to the manifest."""
    split: str | None = None
    label: int | None = None
    """1: holds something anomalous somewhere. 0: normal throughout."""
    anomalies: tuple[Interval, ...] | None = None
    group: str | None = None
    """Videos of one group (source, scene, person) must stay on one side of every split."""

    @property
    def truth(self) -> tuple[Interval, ...] | None:
        """The anomalous frames, () for a video that is normal throughout, None where nobody has said."""
        return () if self.anomalies is None and self.label == 0 else self.anomalies


def read_manifest(path: Path, split: str | None = None) -> list[ManifestEntry]:
    """The entries of a manifest, of one split if asked. Raises ConfigError naming file, line, key and remedy.

    An unknown key is refused, because a misspelt `anomalies` would turn a video into one without truth;
    keys that start with `_` are the user's own and are passed over. Blank lines are too.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the manifest ({error.strerror}); check --manifest") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason}); a manifest is JSON lines") from error
    entries: dict[str, ManifestEntry] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = _entry(line, path, f"{path}:{number}")
        if entry.video in entries:
            raise ConfigError(f"{path}:{number}: video: {entry.video!r} is listed before; keep one of the two lines")
        entries[entry.video] = entry
    chosen = [entry for entry in entries.values() if split is None or entry.split == split]
    if not chosen:
        raise ConfigError(_nothing(path, split, list(entries.values())))
    return chosen


def _nothing(path: Path, split: str | None, entries: list[ManifestEntry]) -> str:
    if not entries:
        return f'{path}: lists no videos; write one line per video, for example {{"video": "a.mp4", "label": 0}}'
    known = sorted({entry.split for entry in entries if entry.split is not None})
    if not known:
        return (
            f'{path}: split: no video has one, so none has {split!r}; leave out --split, or write "split" on each line'
        )
    return f"{path}: split: no video has split {split!r}; the splits here are {known}; choose one with --split"


def _entry(line: str, manifest: Path, where: str) -> ManifestEntry:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where}: not JSON ({error.msg} at column {error.colno}); put one object on a line"
        ) from error
    if not isinstance(record, dict):
        raise ConfigError(f'{where}: expected an object like {{"video": "a.mp4"}}, got {type(record).__name__}')
    for key in record:
        if key not in KEYS and not key.startswith("_"):
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(KEYS)};"
            raise ConfigError(f"{where}: {key}: unknown key; {hint} Keys of your own start with '_'")
    video = _text(record, "video", where)
    if not video:
        raise ConfigError(f"{where}: video: missing; give the path of the video, relative to the manifest")
    label = record.get("label")
    if label is not None and (type(label) is not int or label not in (0, 1)):
        raise ConfigError(f"{where}: label: expected 0 (normal) or 1 (anomalous), got {label!r}")
    anomalies = _intervals(record.get("anomalies"), where)
    if anomalies is not None and label is not None and bool(anomalies) != bool(label):
        raise ConfigError(f"{where}: label: {label} contradicts the {len(anomalies)} anomalies; correct one of them")
    return ManifestEntry(
        video=video,
        path=manifest.parent / video,
        split=_text(record, "split", where),
        label=label,
        anomalies=anomalies,
        group=_text(record, "group", where),
    )


def _text(record: dict, key: str, where: str) -> str | None:
    value = record.get(key)
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise ConfigError(f"{where}: {key}: expected text, got {value!r}")
    return value


def _intervals(value: object, where: str) -> tuple[Interval, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise ConfigError(f"{where}: anomalies: expected a list like [[60, 179]], got {value!r}")
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)):
            raise ConfigError(f"{where}: anomalies: expected pairs of frame numbers like [60, 179], got {pair!r}")
        if not 0 <= pair[0] <= pair[1]:
            hint = "expected [first, last] frame, counted from 0, both inside, first <= last"
            raise ConfigError(f"{where}: anomalies: {hint}; got {pair}")
    return tuple(sorted((first, last) for first, last in value))


def manifest_line(entry: ManifestEntry) -> str:
    """One line of a manifest; absent keys stay absent."""
    record: dict = {"video": entry.video, "split": entry.split, "label": entry.label, "group": entry.group}
    record["anomalies"] = None if entry.anomalies is None else [list(pair) for pair in entry.anomalies]
    return json.dumps({key: record[key] for key in KEYS if record[key] is not None}, ensure_ascii=False)
