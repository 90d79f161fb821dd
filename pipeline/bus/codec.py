"""What streams hold: entries, their ids and bounds, and messages and states <-> their fields.

Headers are readable, arrays are raw bytes; no pickle.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

import numpy as np

from stages.alerting.alert import received_alert
from stages.messages import SCHEMA, End, Features, Fused, Gap, Message, Prior, Scores, Snippet
from stages.stage import State

EntryId = tuple[int, int]
Reader = tuple[str, str]
"""(stream, consumer group)."""


def parse_id(text: bytes | str) -> EntryId:
    """`<run_ms>-<seq>` as numbers, which order as Redis orders them."""
    ms, _, seq = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return int(ms), int(seq or 0)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An entry delivered and not yet acknowledged. `fields` is empty if it was trimmed while pending."""

    id: EntryId
    fields: Mapping[bytes, bytes]

    @property
    def id_text(self) -> str:
        return f"{self.id[0]}-{self.id[1]}"


def entry_of_reply(entry_id: bytes, flat: list[bytes]) -> Entry:
    """An entry as Redis writes it."""
    return Entry(parse_id(entry_id), dict(zip(flat[::2], flat[1::2], strict=True)))


@dataclass(frozen=True, slots=True)
class Bound:
    """How many entries a stream may hold, and what happens beyond."""

    entries: int
    drop_oldest: bool
    """True (live): the oldest goes. False (archive): the writer waits until readers have acknowledged."""

    @classmethod
    def of(cls, message: Message, stream_mb: float, *, drop_oldest: bool) -> Bound:
        """The entries of this kind and size that fit into `stream_mb` MiB; at least 2, at most 4096."""
        entries = int(stream_mb * 2**20 // max(1, payload_bytes(message)))
        return cls(max(2, min(4096, entries)), drop_oldest)


def payload_bytes(message: Message) -> int:
    """Bytes an entry takes, near enough for a bound: its arrays and a header."""
    size = 600 + message.times_s.nbytes
    if isinstance(message, Snippet):
        size += message.pixels.nbytes + len(message.thumb)
    elif isinstance(message, Features):
        size += message.values.nbytes + len(message.thumb) + (0 if message.cells is None else message.cells.nbytes)
    elif isinstance(message, Scores):
        size += message.raw.nbytes + message.reference.nbytes + len(message.thumb)
    elif isinstance(message, Fused):
        size += message.score.nbytes * (1 + 2 * len(message.raw))
    return size


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A message as the fields of its entry: one whose pixels lie elsewhere."""

    id: str
    fields: Mapping[str, bytes | str]


log = logging.getLogger(__name__)

KINDS: dict[str, type] = {c.__name__.lower(): c for c in (Snippet, Features, Scores, Fused, Gap, End)}
LAYOUTS = {kind: {f.name: str(f.type) for f in fields(cls)} for kind, cls in KINDS.items()}
"""Kind -> its fields and what they are."""
NOTHING: Mapping[str, str] = {}
DTYPE = re.compile(r"(bool|u?int(8|16|32|64)|float(16|32|64))\Z")


def encode(message: Message, shared: Mapping[str, str] = NOTHING) -> dict[str, bytes | str]:
    """Stream fields of a message. An array `a` becomes `a` (raw bytes) and `a:array` (`float32 16,240,320`).

    An array that lies elsewhere is named in `shared` with where: instead of `a` there is `a:shared`.
    """
    kind = type(message).__name__.lower()
    out: dict[str, bytes | str] = {"schema": str(SCHEMA), "kind": kind}
    for name in LAYOUTS[kind]:
        value = getattr(message, name)
        if name in shared:
            out[f"{name}:array"] = f"{_dtype_name(value.dtype)} {','.join(map(str, value.shape))}"
            out[f"{name}:shared"] = shared[name]
        else:
            _put(out, name, value)
    return out


def _put(out: dict[str, bytes | str], name: str, value: object) -> None:
    if isinstance(value, np.ndarray):
        dtype = _dtype_name(value.dtype)
        if not dtype:
            raise ValueError(f"{name}: an array of {value.dtype.name} cannot be sent")
        out[name] = value.tobytes()
        out[f"{name}:array"] = f"{dtype} {','.join(map(str, value.shape))}"
    elif isinstance(value, bytes | str):
        out[name] = value
    elif isinstance(value, Prior):
        out[name] = json.dumps(asdict(value))
    elif isinstance(value, dict):
        for key, array in value.items():
            _put(out, f"{name}.{key}", array)
    elif value is not None:
        out[name] = json.dumps(value)


@cache
def _dtype_name(dtype: np.dtype) -> str:
    """Empty for a type that is not sent."""
    return dtype.name if DTYPE.match(dtype.name) else ""


def _array(fields_: Mapping[bytes, bytes], name: str) -> np.ndarray:
    dtype, _, shape = fields_[f"{name}:array".encode()].decode().partition(" ")
    if not DTYPE.match(dtype):
        raise ValueError(f"{name}: {dtype[:40]!r} is not a type of numbers")
    return np.frombuffer(fields_[name.encode()], dtype).reshape([int(n) for n in shape.split(",") if n])


def decode(raw: Mapping[bytes, bytes]) -> Message:
    """The message in stream fields. Arrays are read-only views.

    Raises ValueError when fields are missing, malformed, or of another schema.
    """
    try:
        if int(raw[b"schema"]) != SCHEMA:
            raise ValueError(f"schema {raw[b'schema'].decode()} is not {SCHEMA}: workers of different versions?")
        kind = raw[b"kind"].decode()
        cls = KINDS[kind]
        values: dict[str, object] = {}
        for name, annotation in LAYOUTS[kind].items():
            if f"{name}:array".encode() in raw:
                values[name] = _array(raw, name)
            elif name in ("raw", "calibrated") and cls is Fused:
                prefix = f"{name}.".encode()
                keys = [k for k in raw if k.startswith(prefix) and not k.endswith(b":array")]
                values[name] = {k[len(prefix) :].decode(): _array(raw, k.decode()) for k in sorted(keys)}
            elif name == "thumb":
                values[name] = raw[b"thumb"]
            elif name == "prior":
                values[name] = Prior(**json.loads(raw[b"prior"])) if b"prior" in raw else None
            elif (key := name.encode()) in raw:
                values[name] = _value(raw[key].decode(), annotation)
        if values.get("grid") is not None:
            values["grid"] = tuple(values["grid"])  # type: ignore[arg-type]
        return cls(**values)
    except ValueError:
        raise
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not an Oddwatch message: {type(error).__name__} {error}") from error


def _value(text: str, wanted: str) -> object:
    """A field that is not an array. `wanted` is its annotation in `messages`."""
    if wanted == "str":
        return text
    value = json.loads(text)
    if type(value) is not {"int": int, "bool": bool}.get(wanted, type(value)):
        raise ValueError(f"expected {wanted}, got {text[:40]!r}")
    return value


def encode_state(state: State) -> dict[str, bytes | str]:
    """Hash fields of what a stage remembers of a camera."""
    out: dict[str, bytes | str] = {}
    for name, array in state.items():
        _put(out, name, np.asarray(array))
    return out


def decode_state(raw: Mapping[bytes, bytes]) -> State:
    """The state in hash fields; writable copies."""
    names = [k.decode() for k in raw if not k.endswith(b":array") and k + b":array" in raw]
    return {name: _array(raw, name).copy() for name in names}


class AlertEntries:
    """Entries of the stream of alerts as alerts; what is none is skipped, counted and said once."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._last_refused: EntryId = (0, 0)
        self.skipped = 0
        """Entries that were no alerts, each counted once however often it is read."""

    def read(self, entry_id: bytes, fields: Mapping[bytes, bytes]) -> dict[str, Any] | None:
        """The alert of an entry; None if it is none."""
        try:
            return received_alert(fields.get(b"alert"))
        except ValueError as error:
            id_ = parse_id(entry_id)
            if id_ > self._last_refused:
                self._last_refused = id_
                self.skipped += 1
                if self.skipped == 1:
                    log.warning(
                        "%s: entry %s is not an alert (%s); skipped, as are others like it, which are only counted",
                        self._stream, entry_id.decode(), error,
                    )  # fmt: skip
            return None
