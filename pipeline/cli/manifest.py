"""`oddwatch manifest`: published annotations become a manifest that `evaluate` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.progress import frame_counter
from stages.errors import UsageError
from stages.text import counted

if TYPE_CHECKING:
    from stages.evaluation.annotated import AnnotatedVideos, Count, FoundVideo

HELP = """Make a manifest of published annotations. Frames are counted: those our decoder finds in footage, 16 for each
row of a feature file."""
app = typer.Typer(help=HELP, no_args_is_help=True)

Videos = Annotated[Path, typer.Option("--videos", help="Folder of the videos, or of feature files of them.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Manifest to write; paths in it are relative to it.")]
Split = Annotated[str, typer.Option(help="Split of these videos.")]


class Counts(StrEnum):
    sultani = "sultani"
    rtfm = "rtfm"
    ekosman = "ekosman"


@app.command("ucf-crime")
def ucf_crime(
    annotation: Annotated[Path, typer.Argument(help="Temporal_Anomaly_Annotation.txt")],
    videos: Videos,
    out: Out,
    split: Split = "test",
    numbers: Annotated[
        Counts, typer.Option(help="sultani: from 1, last inside; rtfm: from 0, last inside; ekosman: from 0, last out.")
    ] = Counts.sultani,
) -> None:
    """UCF-Crime: `Abuse028_x264.mp4  Abuse  165  240  -1  -1`."""
    from stages.evaluation.annotated import from_ucf_crime
    from stages.evaluation.ground_truth import MATLAB, PYTHON, RTFM

    convention = {Counts.sultani: MATLAB, Counts.rtfm: RTFM, Counts.ekosman: PYTHON}[numbers]
    _write(partial(from_ucf_crime, convention=convention), annotation, videos, out, split)


@app.command("xd-violence")
def xd_violence(
    annotation: Annotated[Path, typer.Argument(help="annotations.txt")],
    videos: Videos,
    out: Out,
    split: Split = "test",
) -> None:
    """XD-Violence: `NAME_label_B1-0-0 12 95 140 260`; videos without a line are normal."""
    from stages.evaluation.annotated import from_xd_violence

    _write(from_xd_violence, annotation, videos, out, split)


@app.command()
def shanghaitech(
    annotation: Annotated[Path, typer.Argument(help="Folder test_frame_mask, with 01_0014.npy ...")],
    videos: Videos,
    out: Out,
    split: Split = "test",
) -> None:
    """ShanghaiTech: a mask for each test video."""
    from stages.evaluation.annotated import from_shanghaitech

    _write(from_shanghaitech, annotation, videos, out, split)


@app.command()
def ucsd(
    annotation: Annotated[
        Path, typer.Argument(help="UCSDped2.m, ped2.mat, masks.npz, or the folder with Test001_gt/*.bmp")
    ],
    videos: Videos,
    out: Out,
    split: Split = "test",
) -> None:
    """UCSD Ped1 and Ped2: videos are found by the number in their name (Test001, 01.mp4)."""
    from stages.evaluation.annotated import from_ucsd

    _write(from_ucsd, annotation, videos, out, split)


@app.command()
def avenue(
    annotation: Annotated[Path, typer.Argument(help="Folder with 1_label.mat ..., or avenue.mat")],
    videos: Videos,
    out: Out,
    split: Split = "test",
) -> None:
    """CUHK Avenue: videos are found by the number in their name (01.avi)."""
    from stages.evaluation.annotated import from_avenue

    _write(from_avenue, annotation, videos, out, split)


def _write(
    label: Callable[[Path, Mapping[str, FoundVideo], Count], AnnotatedVideos],
    annotation: Path,
    videos: Path,
    out: Path,
    split: str,
) -> None:
    from stages.evaluation.annotated import videos_in
    from stages.files.atomic import write_whole
    from stages.files.manifest import manifest_line

    if not videos.is_dir():
        raise UsageError(f"--videos {videos}: no such folder")
    labelled = label(annotation, videos_in(videos), _counted)
    entries = labelled.entries(out, split)
    if not entries:
        raise UsageError(
            f"--videos {videos}: holds none of the annotated videos; check that the names are the published"
        )
    write_whole(out, "".join(manifest_line(entry) + "\n" for entry in entries).encode())
    odd = sum(bool(entry.anomalies) for entry in entries)
    typer.echo(f"{out}: {counted(len(entries), 'video')}, {odd} with anomalies")
    if labelled.missing:
        some = ", ".join(labelled.missing[:3]) + (", ..." if len(labelled.missing) > 3 else "")
        typer.echo(
            f"left out, because they are not in {videos}: {counted(len(labelled.missing), 'annotated video')} ({some})"
        )


def _counted(videos: Mapping[str, Any]) -> dict[str, int]:
    """The frames of each video, with progress."""
    frames = {}
    with frame_counter([str(video.path) for video in videos.values()], "counting frames") as count:
        for name, video in videos.items():
            frames[name] = video.frames()
            count(str(video.path), frames[name])
    return frames
