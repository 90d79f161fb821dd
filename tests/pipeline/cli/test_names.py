"""Names of files as they come from cameras, archives and other systems: whatever they are, the file is scored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import cv2
from e2e import COMMAND, environment, film, fitted, oddwatch, rows, score_files_in, summary
from makers_video import picture
from places import ROOT

LATIN_1 = os.fsdecode(b"caf\xe9")


def pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for n in range(8):
        cv2.imwrite(str(folder.parent / "new.png"), picture(n, 64, 48))
        (folder.parent / "new.png").rename(folder / f"{n}.png")


NO_TEXT = {
    "in its name": f"{LATIN_1}.mp4",
    "in its folder's": f"{LATIN_1}/a.mp4",
    "in that of a folder of pictures": f"{LATIN_1} pictures",
    "nothing else in it": os.fsdecode(b"\xc0\xaf\xff\xfe.mp4"),
    "another alphabet": os.fsdecode(b"\x83\x4a\x83\x81%20 {0} .mp4"),
}
LONG = {
    "beside it no room for .part": "x" * 240 + ".mp4",
    "of three bytes each": "監" * 81 + ".mp4",
    "longer than its scores may be called": "y" * 251 + ".mp4",
    "almost the same": "y" * 250 + "z.mp4",
    "of two": "é" * 125 + ".mp4",
    "a folder of pictures": "z" * 255,
}


def make(folder: Path, names: Iterable[str]) -> Path:
    """Eight frames under each name, no two alike."""
    for n, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".mp4"):
            film(folder.parent / "new.mp4", 8, seed=n).rename(folder / name)
        else:
            pictures(folder / name)
    return folder


def test_names_that_are_not_utf_8_are_scored_and_so_are_the_others(tmp_path: Path) -> None:
    footage, out = make(tmp_path / "in", [*NO_TEXT.values(), "zz.mp4"]), tmp_path / "out"
    done = oddwatch("score", footage, "--out", out)
    assert done.code == 0, done.err
    files = summary(out)["files"]
    assert [(f["status"], f["decoded"]) for f in files] == [("complete", 8)] * (1 + len(NO_TEXT))
    assert all(f["file"].encode() and len(rows(out / f["csv"])) == 8 for f in files)
    again = oddwatch("score", footage, "--out", out, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["files"] == files


def test_so_may_the_current_folder_be_named_and_the_out_folder_and_a_checkpoint(tmp_path: Path) -> None:
    here = tmp_path / LATIN_1
    here.mkdir()
    film(here / "a.mp4", 12)
    shutil.copy(fitted(), here / f"{LATIN_1}.safetensors")
    command = [*COMMAND, "score", "a.mp4", "--out", LATIN_1, "--model", f"{LATIN_1}.safetensors"]
    done = subprocess.run(command, cwd=here, env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "caf\\xe9" in done.stdout
    assert len(rows(here / LATIN_1 / "a.scores.csv")) == 12


def test_long_names_are_scored_under_names_that_fit(tmp_path: Path) -> None:
    footage, out = make(tmp_path / "in", [*LONG.values(), "zz.mp4"]), tmp_path / "out"
    done = oddwatch("score", footage, "--out", out)
    assert done.code == 0, done.err
    files = summary(out)["files"]
    assert [(f["status"], f["decoded"]) for f in files] == [("complete", 8)] * (1 + len(LONG))
    assert {f["csv"] for f in files} == set(score_files_in(out))
    assert len({f["csv"] for f in files}) == 1 + len(LONG)
