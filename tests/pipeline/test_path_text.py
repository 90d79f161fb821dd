"""A path survives JSON, whatever its bytes."""

from __future__ import annotations

import os

import pytest
from pydantic import BaseModel

from pipeline.path_text import PathText


class Holder(BaseModel):
    path: PathText


@pytest.mark.parametrize("name", [b"/a/b.mp4", b"/caf\xe9", b"/\xff%41 \n", b"bytes:x", "/監視".encode(), b"file:///x"])
def test_what_is_written_is_text_and_reads_back_the_same(name: bytes) -> None:
    path = os.fsdecode(name)
    written = Holder(path=path).model_dump_json()
    assert written.encode()
    assert os.fsencode(Holder.model_validate_json(written).path) == name
