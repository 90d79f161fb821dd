"""`oddwatch demo`: the whole story on footage it makes itself, with no network."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.evaluate.command import judge, write_plots
from pipeline.cli.fit import fit_checkpoint
from pipeline.cli.models import named_models
from pipeline.cli.progress import ProgressBar
from pipeline.config.load import load_config
from pipeline.config.schema import ModelConfig
from stages.alerting.alert import alert_line
from stages.text import counted


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything it makes.")] = Path("demo"),
    config: Annotated[Path | None, typer.Option(help="Configuration file; default: defaults.")] = None,
) -> None:
    """Make footage, fit on its normal part, score the rest through all stages, compare with the truth."""
    from pipeline.cli.score.report import write_score_report
    from pipeline.cli.score.run import score_files
    from stages.demo.footage import make_demo
    from stages.evaluation.evaluate import write_metrics
    from stages.files.manifest import read_manifest

    begun_s = time.monotonic()
    settings = load_config(config)
    _say(f"1. Filming a simulated courtyard: normal footage, and a test with planted oddities, in {out / 'footage'}")
    with ProgressBar("   filming", 1) as bar:
        footage = make_demo(out / "footage", on_frame=lambda done, total: bar.show(done / total, f"{done} frames"))
    _say("2. Learning what is normal from the normal footage (motion features, novelty model)")
    checkpoint = out / "courtyard.safetensors"
    clips, frames, _ = fit_checkpoint([str(p) for p in footage.normal], checkpoint, ModelConfig().features, config)
    _say(f"   learned from {counted(frames, 'frame')} of {counted(clips, 'clip')}")
    _say("3. Scoring the test through all stages, linked by Redis Streams; alerts as they come:")
    settings = settings.model_copy(update={"models": named_models([checkpoint])})
    result = score_files(
        [str(footage.test)], out / "scores", settings, resume=False, quiet=True,
        on_alert=lambda alert: _say(f"   {alert_line(alert)}"),
    )  # fmt: skip
    entries = [e for e in read_manifest(footage.manifest) if e.split == "test"]
    metrics = judge(entries, result)
    write_metrics(out / "metrics.json", metrics)
    write_plots(out, metrics)
    report = out / "report.html"
    truth = {r.file: entries[0].truth for r in result.files}
    write_score_report(report, result, "Oddwatch demo", truth, metrics)
    _say("4. What was planted, and what was found:")
    for line in comparison(footage.planted, result.files[0].alerts, result.files[0].seconds):
        _say(f"   {line}")
    if metrics.roc_auc is not None:
        _say(f"   frame-level ROC-AUC {metrics.roc_auc:.3f}; {time.monotonic() - begun_s:.0f} s in all")
    _say(f"\nOpen {report}")
    _say("\nNext, with footage of your own:")
    _say("  oddwatch score VIDEO_OR_FOLDER --out scores               # no preparation: learns from the video itself")
    _say("  oddwatch fit --normal NORMAL_FOOTAGE --out mine.safetensors")
    _say("  oddwatch score VIDEO_OR_FOLDER --model mine.safetensors --out scores")


def comparison(planted: Sequence[Any], alerts: Sequence[dict], seconds: float) -> list[str]:
    """A line for each planted event with the alert that met it, and one for each alert that met none."""
    final = {a["id"]: a for a in alerts}
    lines, met = [], set()
    for event in planted:
        first, last = event.first_frame, event.last_frame
        hits = [a for a in final.values() if a["start_frame"] <= last and a["end_frame"] >= first]
        met |= {a["id"] for a in hits}
        verdict = ", ".join(f"alert at {a['start_s']:.1f} s (peak {a['peak']:.2f})" for a in hits) or "no alert"
        lines.append(f"{event.kind:<8} frames {first:>4}-{last:<4}  {verdict}")
    false = [a for a in final.values() if a["id"] not in met]
    lines += [f"false alarm at {a['start_s']:.1f} s (peak {a['peak']:.2f})" for a in false]
    found = sum("no alert" not in line for line in lines[: len(planted)])
    lines.append(f"{found} of {len(planted)} found, {counted(len(false), 'false alarm')} in {seconds:.0f} s of footage")
    return lines


def _say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()
