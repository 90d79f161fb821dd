"""`oddwatch plan`: what so many cameras need, from costs measured on this machine."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.keys import Keys
from pipeline.bus.streams import Bus, connect
from pipeline.cameras.spec import CameraSpec, make_spec
from pipeline.capacity.formula import MIB, Costs, Demand, Machine, Plan, make_plan
from pipeline.capacity.rehearse import BusCosts, rehearse
from pipeline.cli.models import named_models
from pipeline.cli.session import cores
from pipeline.config.load import load_config
from pipeline.config.schema import Config
from stages.costs.stubs import SampleOutputs
from stages.decode.sources.kinds import LIVE
from stages.text import counted

if TYPE_CHECKING:
    from stages.costs.measure import SampleFacts, StageCosts

MBIT = {"h264": 4.0, "hevc": 2.0, "mpeg4": 6.0, "mjpeg": 40.0}
"""Megabit per second that a camera of 1080 lines and 25 fps is taken to send; others in proportion."""
REHEARSED_CAMERAS, REHEARSED_SNIPPETS = 8, 12


def plan(
    cameras: Annotated[int, typer.Option(min=1, help="How many cameras.")],
    fps: Annotated[float | None, typer.Option(min=0.1, max=240, help="Frames per second of one; default 25.")] = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="Checkpoint; may be given several times. Default: adaptive novelty.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file.")] = None,
    height: Annotated[int, typer.Option(min=120, max=4320, help="Lines of a camera's picture.")] = 1080,
    codec: Annotated[str, typer.Option(help="Codec of the cameras: h264, hevc, mpeg4 or mjpeg.")] = "h264",
    sample: Annotated[
        Path | None, typer.Option(help="Footage to measure on; default: a clip made by height and codec.")
    ] = None,
    mbit: Annotated[float | None, typer.Option(min=0.01, help="Megabit/s of a camera; default by codec.")] = None,
    utilisation: Annotated[float, typer.Option(min=0.05, max=1, help="How busy a host may be planned to be.")] = 0.7,
    network_mbit: Annotated[float, typer.Option(min=1, help="Megabit/s that reach one host.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan capacity: cores, GPUs, Redis, memory, network and hosts, from costs measured here in a minute."""
    settings = load_config(config)
    if model:
        settings = settings.model_copy(update={"models": named_models(model)})
    spec = make_spec(settings, camera="plan", source="plan", kind=LIVE.name)
    with tempfile.TemporaryDirectory(prefix="oddwatch-plan-") as folder:
        path = sample or _made(Path(folder), codec, height, fps, mbit)
        facts = _facts(path)
        fps = fps or facts.fps
        sys.stderr.write("oddwatch: measuring what a camera costs here, with all cores busy; less than a minute\n")
        measured, outputs, device = _measure(path, spec, settings, fps)
    machine = _machine(device, network_mbit)
    demand = Demand(
        cameras=cameras, fps=fps, kept_fps=min(fps, spec.decode.fps or fps), snippet_frames=spec.decode.snippet_frames,
        mbit=mbit or facts.mbit, utilisation=utilisation, lease_s=settings.runtime.lease_s, stream_mb=spec.stream_mb,
    )  # fmt: skip
    inline, shared = (_bus_costs(settings, spec, outputs, fps, through) for through in (False, True))
    costs = Costs(
        decode_s=measured.decode_s, decoder_mb=measured.decoder_mb, stages=measured.stages,
        pixel_bytes=float(outputs.snippets[0].pixels.nbytes), inline=inline, shared=shared,
    )  # fmt: skip
    plans = [make_plan(demand, machine, costs, transport) for transport in ("shared", "inline")]
    if as_json:
        typer.echo(json.dumps(_as_json(facts, demand, machine, costs, plans), indent=1))
        return
    for line in _lines(facts, demand, machine, costs, plans):
        typer.echo(line)


def _made(folder: Path, codec: str, height: int, fps: float | None, mbit: float | None) -> Path:
    from stages.costs.sample import make_sample

    usual = MBIT.get(codec, 0.0) * (height / 1080) ** 2 * (fps or 25) / 25
    return make_sample(folder / "sample.mkv", codec=codec, height=height, fps=fps or 25, mbit=mbit or usual)


def _facts(path: Path) -> SampleFacts:
    from stages.costs.measure import sample_facts

    return sample_facts(path)


def _measure(path: Path, spec: CameraSpec, settings: Config, fps: float) -> tuple[StageCosts, SampleOutputs, str]:
    from pipeline.workers.build import resolve_device
    from stages.costs.measure import MeasureSetup, ModelSetup, measure

    device = resolve_device(settings.workers.device)
    decode = replace(spec.decode_settings, threads=1)
    models = {
        name: ModelSetup(kind=m.kind, features=m.features, checkpoint=Path(m.checkpoint) if m.checkpoint else None)
        for name, m in spec.models.items()
    }
    # Two processes on one GPU would measure each other.
    at_once = cores() if device == "cpu" else 1
    costs, sample = measure(
        MeasureSetup(
            sample=path, decode=decode, models=models, fps=fps, device=device, precision=settings.workers.precision,
            engine=settings.workers.engine,
        ), at_once,
    )  # fmt: skip
    return costs, sample, device


def _bus_costs(settings: Config, spec: CameraSpec, sample: SampleOutputs, fps: float, through_memory: bool) -> BusCosts:
    with EmbeddedServer(memory_mb=settings.redis.memory_mb) as server:
        bus = Bus(connect(server.url), Keys())
        specs = [spec.model_copy(update={"camera": f"plan{n}"}) for n in range(REHEARSED_CAMERAS)]
        shared = server.url if through_memory else None
        return rehearse(bus, sample, specs, fps, REHEARSED_SNIPPETS, shared)


def _machine(device: str, network_mbit: float) -> Machine:
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB
    said = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", said, re.MULTILINE)
    return Machine(
        processor=found[1] if found else "unknown processor", cores=cores(), memory_mb=memory_mb,
        gpu=None if device == "cpu" else device, network_mbit=network_mbit,
    )  # fmt: skip


def _as_json(facts: SampleFacts, demand: Demand, machine: Machine, costs: Costs, plans: list[Plan]) -> dict:
    return {
        "sample": asdict(facts), "demand": asdict(demand), "machine": asdict(machine), "costs": asdict(costs),
        "plans": {p.transport: asdict(p) for p in plans},
    }  # fmt: skip


def _lines(facts: SampleFacts, d: Demand, machine: Machine, costs: Costs, plans: list[Plan]) -> list[str]:
    shared, inline = plans
    gpu = machine.gpu or "no GPU"
    out = [
        f"Measured here: {counted(machine.cores, 'core')} ({machine.processor}), {machine.memory_mb / 1024:.0f} GB, "
        f"{gpu}; {facts.width}x{facts.height} {facts.codec}",
        f"  {'decode':<22}{costs.decode_s * 1e3:9.2f} ms/frame     one thread, all cores busy; "
        f"{costs.decoder_mb:.0f} MB a camera",
    ]
    for name, seconds in costs.stages.items():
        per_frame = seconds / d.snippet_frames * 1e3
        out.append(f"  {name:<22}{seconds * 1e3:9.2f} ms/snippet   {per_frame:.2f} ms a kept frame")
    for title, bus in (("shared memory", costs.shared), ("inline", costs.inline)):
        out.append(
            f"  {'bus, ' + title:<22}{sum(bus.clients_s.values()) * 1e3:9.2f} ms/snippet   of the workers; Redis "
            f"{bus.server_s * 1e3:.2f} ms, {bus.commands:.0f} commands, {bus.in_bytes / 1e6:.2f} MB in, "
            f"{bus.out_bytes / 1e6:.2f} MB out"
        )
    out += [
        "",
        f"{counted(d.cameras, 'camera')} at {d.fps:g} fps ({d.kept_fps:g} analysed), pixels through shared memory:",
    ]
    other = {line.name: line for line in inline.lines}
    for line in shared.lines:
        there = other[line.name].value if line.name in other else 0.0
        note = f"  (inline {_number(there)})" if abs(line.value - there) > 0.01 * line.value else ""
        out.append(f"  {line.name:<18} = {line.formula:<52} = {_number(line.value):>9} {line.unit}{note}")
    out += [
        "",
        f"Hosts of this size, {d.utilisation:.0%} busy: {shared.hosts} (inline {inline.hosts}); "
        f"one carries {counted(shared.cameras_per_host, 'camera')} (inline {inline.cameras_per_host})",
        f"Redis servers: {shared.redis_servers} (inline {inline.redis_servers}); "
        f"one ends at {counted(shared.cameras_per_redis, 'camera')} by its {shared.redis_limit} "
        f"(inline {inline.cameras_per_redis}, {inline.redis_limit})",
        f"Bottleneck: {shared.bottleneck} (inline: {inline.bottleneck})",
        f"Assumed: {d.mbit:.3g} Mbit/s a camera, {machine.network_mbit:g} Mbit/s a host, "
        f"{d.utilisation:.0%} utilisation, leases of {d.lease_s:g} s",
    ]
    return out


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
