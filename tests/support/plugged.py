"""Registers plug-ins for one test, as an installed package does: an entry point in metadata on the path."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from stages import plugins


def plug_in(monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, group: str, **targets: str) -> None:
    """`targets`: name of a kind -> `module:attribute` of its descriptor."""
    made = folder / f"{package}-1.0.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in targets.items()]
    (made / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(plugins, "_installed", cache(plugins._installed.__wrapped__))
    monkeypatch.setattr(plugins, "_loaded", cache(plugins._loaded.__wrapped__))
