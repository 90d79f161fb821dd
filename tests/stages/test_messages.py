"""If a message exists, it is valid."""

from __future__ import annotations

import numpy as np
import pytest
from makers import RUN, end, features, fused, gap, header, picked, scores, snippet

from stages.messages import Features, Fused, Gap, Scores, Snippet, Span

F32 = np.float32


def _picked(*offsets: int) -> dict:
    return picked() | {"picked": np.array(offsets, np.int32)}


def test_an_id_names_run_and_seq_in_every_stream() -> None:
    for make in (snippet, features, scores, fused, gap):
        assert make(7).id == f"{RUN}-7"
        assert make(7).next_frame == 32
    assert end(7).id == f"{RUN}-7"


def test_the_header_makes_the_next_message() -> None:
    first = snippet(2, live=True, made_ms=5)
    second = Features(**first.header(), extractor="e", values=np.zeros(3, F32))
    assert (second.id, second.live, second.made_ms, second.first_frame) == (first.id, True, 5, 8)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda: Span(**header(camera="")), "camera must match", id="no name"),
        pytest.param(lambda: Span(**header(camera="a/b")), "camera must match", id="a slash"),
        pytest.param(lambda: Span(**header(camera="a\n")), "camera must match", id="a line break"),
        pytest.param(lambda: Span(**header(camera="x" * 65)), "camera must match", id="too long"),
        pytest.param(lambda: Span(**header(run_ms=-1)), "must not be negative", id="negative run"),
        pytest.param(lambda: Span(**header() | {"seq": -1}), "must not be negative", id="negative seq"),
        pytest.param(lambda: Span(**header() | {"times_s": np.zeros(3, F32)}), "float64", id="coarse times"),
        pytest.param(lambda: Span(**header() | {"times_s": np.zeros((2, 2))}), "float64 \\(N,\\)", id="times 2-d"),
        pytest.param(lambda: Gap(**header(), cause="tired"), "cause must be one of", id="unknown cause"),
        pytest.param(
            lambda: Snippet(**picked(), pixels=np.zeros((4, 2, 2, 3), F32)), "pixels must be uint8", id="float pixels"
        ),
        pytest.param(
            lambda: Snippet(**picked(), pixels=np.zeros((3, 2, 2, 3), np.uint8)), r"T=4", id="too few pictures"
        ),
        pytest.param(lambda: Snippet(**picked(), pixels=np.zeros((4, 2, 2, 1), np.uint8)), "pixels must be", id="gray"),
        pytest.param(
            lambda: Snippet(**_picked(1, 0), pixels=np.zeros((2, 2, 2, 3), np.uint8)),
            "picked must rise",
            id="picked falls",
        ),
        pytest.param(
            lambda: Snippet(**_picked(4), pixels=np.zeros((1, 2, 2, 3), np.uint8)),
            "picked must rise within",
            id="picked outside",
        ),
        pytest.param(
            lambda: Snippet(**_picked(), pixels=np.zeros((0, 2, 2, 3), np.uint8)),
            "T>0",
            id="nothing picked",
        ),
        pytest.param(
            lambda: Features(**picked(), extractor="e", values=np.zeros(3)), "values must be float32", id="double"
        ),
        pytest.param(
            lambda: Features(**picked(), extractor="e", values=np.zeros((2, 3), F32)), r"\(D,\)", id="dense but 2-d"
        ),
        pytest.param(
            lambda: Features(**picked(), extractor="e", values=np.zeros((2, 3), F32), cells=np.zeros((2, 3), np.int16)),
            "with a grid",
            id="cells without grid",
        ),
        pytest.param(
            lambda: Scores(**picked(), model="m", model_hash="h", raw=np.zeros(3, F32), reference=np.zeros(19, F32)),
            "raw must be float32",
            id="a score too few",
        ),
        pytest.param(
            lambda: Scores(**picked(), model="m", model_hash="h", raw=np.zeros(4, F32), reference=np.zeros(3, F32)),
            "reference must be float32",
            id="another reference",
        ),
        pytest.param(
            lambda: Fused(**header(), score=np.zeros(4, F32), raw={"m": np.zeros(3, F32)}, calibrated={}),
            "m must be float32",
            id="a model's length",
        ),
    ],
)
def test_what_is_wrong_is_refused_and_named(make: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()  # type: ignore[operator]
