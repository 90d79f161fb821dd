"""A path as JSON can hold it, whatever bytes its name is made of."""

from __future__ import annotations

import os
from typing import Annotated
from urllib.parse import quote, unquote_to_bytes

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

from stages.text import is_text

MARK = "bytes:"
"""So begins what is written of a path that is no text, or that begins so itself."""


def _written(path: str | None) -> str | None:
    if path is None or (is_text(path) and not path.startswith(MARK)):
        return path
    return MARK + quote(os.fsencode(path))


def _read(value: object, info: ValidationInfo) -> object:
    if info.mode == "json" and isinstance(value, str) and value.startswith(MARK):
        return os.fsdecode(unquote_to_bytes(value.removeprefix(MARK)))
    return value


PathText = Annotated[str, BeforeValidator(_read), PlainSerializer(_written, when_used="json")]
"""A path as Python has it, with surrogates for bytes that are not UTF-8; written to JSON and read back unchanged."""
