"""Messages and states survive Redis; what is not one is refused with a ValueError and nothing else."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from makers import PRIOR, end, features, fused, gap, picked, scores, snippet

from pipeline.bus.codec import decode, decode_state, encode, encode_state
from stages.messages import Features, Message
from stages.stage import as_array, number

KINDS: dict[str, Callable[..., Message]] = {
    "snippet": snippet, "features": features, "scores": scores, "fused": fused, "gap": gap, "end": end,
}  # fmt: skip


def wire(message: Message) -> dict[bytes, bytes]:
    """As Redis gives it back."""
    return _bytes(encode(message))


def _bytes(raw: dict) -> dict[bytes, bytes]:
    return {k.encode(): v.encode() if isinstance(v, str) else v for k, v in raw.items()}


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    return type(a) is type(b) and a == b


def assert_same(a: Message, b: Message) -> None:
    assert type(a) is type(b)
    for f in fields(a):
        assert same(getattr(a, f.name), getattr(b, f.name)), f.name


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_as_it_was(kind: str) -> None:
    message = KINDS[kind](3, made_ms=12, prior=PRIOR, live=True)
    assert_same(decode(wire(message)), message)


def test_sparse_features_keep_their_cells_and_grid() -> None:
    cells = np.array([[0, 1, 2], [3, 4, 5]], np.int16)
    message = Features(**picked(1), extractor="m@1", values=np.ones((2, 7), np.float32), cells=cells, grid=(6, 8))
    assert_same(decode(wire(message)), message)
    none = Features(
        **picked(1), extractor="m@1", values=np.ones((0, 7), np.float32), cells=np.empty((0, 3), np.int16), grid=(6, 8)
    )
    assert_same(decode(wire(none)), none)


def test_headers_are_readable_and_arrays_are_raw() -> None:
    raw = encode(snippet(3))
    assert (raw["kind"], raw["camera"], raw["seq"]) == ("snippet", "cam", "3")
    assert raw["pixels:array"] == "uint8 4,2,3,3"
    assert len(raw["pixels"]) == 4 * 2 * 3 * 3


def test_random_messages_come_back_as_they_were() -> None:
    rng = random.Random(7)
    for _ in range(300):
        make = rng.choice(list(KINDS.values()))
        more = {
            "camera": "".join(rng.choices("aZ9_.-", k=rng.randint(1, 64))),
            "run_ms": rng.randrange(2**43),
            "live": rng.random() < 0.5,
        }
        if make is not end:
            more["frames"] = rng.randint(1, 40)
        message = make(rng.randrange(1000), **more)
        assert_same(decode(wire(message)), message)


DAMAGE: dict[str, Callable[[dict[bytes, bytes]], object]] = {
    "another schema": lambda raw: raw.update({b"schema": b"2"}),
    "schema no number": lambda raw: raw.update({b"schema": b"x"}),
    "no schema": lambda raw: raw.pop(b"schema"),
    "unknown kind": lambda raw: raw.update({b"kind": b"pickle"}),
    "no kind": lambda raw: raw.pop(b"kind"),
    "no pixels": lambda raw: raw.pop(b"pixels"),
    "no array header": lambda raw: raw.pop(b"times_s:array"),
    "no thumb": lambda raw: raw.pop(b"thumb"),
    "no camera": lambda raw: raw.pop(b"camera"),
    "bad camera": lambda raw: raw.update({b"camera": b"a b"}),
    "short pixels": lambda raw: raw.update({b"pixels": raw[b"pixels"][:-1]}),
    "wrong type": lambda raw: raw.update({b"pixels:array": b"float32 1,3,3"}),
    "no such type": lambda raw: raw.update({b"pixels:array": b"nonsense 4"}),
    "objects": lambda raw: raw.update({b"pixels:array": b"object 4,2,3,3"}),
    "negative shape": lambda raw: raw.update({b"pixels:array": b"uint8 -1,-1"}),
    "giant shape": lambda raw: raw.update({b"pixels:array": b"uint8 99999999999999999999"}),
    "seq is text": lambda raw: raw.update({b"seq": b'"7"'}),
    "seq is a fraction": lambda raw: raw.update({b"seq": b"1.5"}),
    "seq is negative": lambda raw: raw.update({b"seq": b"-1"}),
    "seq is no JSON": lambda raw: raw.update({b"seq": b"{"}),
    "live is a number": lambda raw: raw.update({b"live": b"1"}),
    "not UTF-8": lambda raw: raw.update({b"camera": b"\xff\xfe"}),
    "prior is a list": lambda raw: raw.update({b"prior": b"[1]"}),
    "prior is incomplete": lambda raw: raw.update({b"prior": b"{}"}),
    "nothing": lambda raw: raw.clear(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_message_is_refused(damage: str) -> None:
    raw = wire(snippet(1))
    DAMAGE[damage](raw)
    with pytest.raises(ValueError):  # noqa: PT011 (the text differs; the class is the promise)
        decode(raw)


def test_random_damage_never_raises_anything_else() -> None:
    rng = random.Random(11)
    for _ in range(3000):
        raw = wire(rng.choice(list(KINDS.values()))(rng.randrange(9)))
        for _ in range(rng.randint(1, 3)):
            key = rng.choice(list(raw))
            if rng.random() < 0.3:
                raw.pop(key)
            elif raw[key]:
                value = bytearray(raw[key])
                value[rng.randrange(len(value))] = rng.randrange(256)
                raw[key] = bytes(value)
            if not raw:
                break
        with contextlib.suppress(ValueError):
            decode(raw)


def test_an_array_that_could_not_be_read_back_is_not_sent() -> None:
    with pytest.raises(ValueError, match="names: an array of str"):
        encode_state({"names": np.array(["a"])})


def test_a_state_comes_back_writable() -> None:
    state = {"n": as_array(5), "window": np.arange(6, dtype=np.float32).reshape(2, 3), "none": np.empty((0, 4))}
    back = decode_state(_bytes(encode_state(state)) | {b"last": b"1-2", b"by": b"x"})
    assert back.keys() == state.keys()
    assert all(same(back[k], state[k]) for k in state)
    back["window"][0, 0] = 9
    assert number(back, "n") == 5
    assert number(back, "absent") == -1
