"""Names of files: their natural order, and which of them are pictures."""

from __future__ import annotations

import os
import re
from pathlib import Path

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".bmp", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on


def natural_key(path: str | Path) -> tuple:
    """Sorts `clip2` before `clip10`, folder by folder."""
    parts = [re.split(r"([0-9]+)", part.casefold()) for part in str(path).split(os.sep)]
    return [[int(s) if i % 2 else s for i, s in enumerate(part)] for part in parts], str(path)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, in natural order. Raises OSError."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    return sorted((p for p in found if p.is_file()), key=natural_key)
