"""How many cores, GPUs, servers and hosts so many cameras need: the formula, on costs that were measured. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.capacity.rehearse import BusCosts
from pipeline.workers.batch import TRIM_EVERY

MB = 1e6
MIB = 2**20
SNIPPETS_WAITING = 2
"""Entries of a live camera's `snippets` while its readers keep up."""
MOST_ENTRIES = 4096
"""Of the final scores of a camera, which nobody acknowledges (CameraSpec.bound)."""
RENEWALS = 4
"""Within the time that a lease lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What there is to watch, and how much of a host may be used."""

    cameras: int
    fps: float
    """Frames per second of a camera."""
    kept_fps: float
    """Of these, the ones that are analysed."""
    snippet_frames: int
    mbit: float
    """Megabit per second of a camera."""
    utilisation: float
    """Fraction of a core, a server or a network that is planned to be busy."""
    lease_s: float
    stream_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The host that was measured, and of which the plan needs so many."""

    processor: str
    cores: int
    memory_mb: float
    gpu: str | None
    network_mbit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What was measured; see StageCosts and BusCosts."""

    decode_s: float
    decoder_mb: float
    stages: Mapping[str, float]
    pixel_bytes: float
    """Of one snippet."""
    inline: BusCosts
    """With the pixels in Redis: decoding and features on different hosts."""
    shared: BusCosts
    """With the pixels in shared memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the formula."""

    name: str
    formula: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the cameras need with one way of moving pixels."""

    transport: str
    lines: tuple[Line, ...]
    shares: Mapping[str, float]
    """Resource -> hosts' worth of it, at the planned utilisation."""
    hosts: int
    redis_servers: int
    redis_limit: str
    """What one Redis ends by: its `thread`, or the `network` where there are several hosts."""
    cameras_per_host: int
    cameras_per_redis: int
    bottleneck: str


def make_plan(demand: Demand, machine: Machine, costs: Costs, transport: str) -> Plan:
    """`transport`: `shared` or `inline`."""
    bus = costs.shared if transport == "shared" else costs.inline
    d, rate = demand, demand.cameras * demand.kept_fps / demand.snippet_frames
    cpu = _cpu_lines(d, machine, costs, bus, rate)
    gpu = [_line(f"GPU {s}", [(rate, "snippets/s"), (cost, "s")], "GPUs") for s, cost in costs.stages.items()]
    gpu = gpu if machine.gpu else []
    cores, gpus = _total("cores", cpu, "cores"), _total("GPUs", gpu, "GPUs")
    redis = _redis_lines(d, costs, bus, rate)
    redis_cores = redis[0].value
    memory = _memory_lines(d, costs, bus, transport)
    ram = _total("memory", memory, "GB")
    network = _line("network in", [(d.cameras, "cameras"), (d.mbit, "Mbit/s")], "Mbit/s")
    shares = {
        "cores": cores.value / (machine.cores * d.utilisation),
        **({"GPU": gpus.value / d.utilisation} if gpu else {}),
        "memory": ram.value * 1e9 / (machine.memory_mb * MIB * d.utilisation),
        "network": network.value / (machine.network_mbit * d.utilisation),
    }
    worst = max(shares, key=lambda name: shares[name])
    lines = [_line("snippets", [(d.cameras, "cameras"), (d.kept_fps, "fps"), (1 / d.snippet_frames, "")], "snippets/s")]
    lines += [*cpu, cores, *([*gpu, gpus] if gpu else []), *redis, *memory, ram, network]
    per_host = int(d.cameras / shares[worst])
    # A camera is carried whole by one host, unless it is too much for one: then its stages are spread.
    hosts = max(1, math.ceil(d.cameras / per_host if per_host else shares[worst]))
    limits = {"thread": redis_cores / d.utilisation}
    if hosts > 1:
        limits["network"] = redis[-1].value / (machine.network_mbit * d.utilisation)
    redis_limit = max(limits, key=lambda name: limits[name])
    return Plan(
        transport=transport, lines=tuple(lines), shares=shares, hosts=hosts,
        redis_servers=max(1, math.ceil(limits[redis_limit])), redis_limit=redis_limit,
        cameras_per_host=per_host, cameras_per_redis=int(d.cameras / limits[redis_limit]),
        bottleneck=_bottleneck(worst, cpu, gpu),
    )  # fmt: skip


def _bottleneck(worst: str, cpu: list[Line], gpu: list[Line]) -> str:
    parts = {"cores": cpu, "GPU": gpu}.get(worst)
    if not parts:
        return worst
    largest = max(parts, key=lambda line: line.value)
    share = largest.value / sum(line.value for line in parts)
    return f"{worst}, {share:.0%} of them for {largest.name.removeprefix('GPU ')}"


def _cpu_lines(d: Demand, machine: Machine, costs: Costs, bus: BusCosts, rate: float) -> list[Line]:
    moving_s = sum(cost for stage, cost in bus.clients_s.items() if stage != "alerting")
    lines = [_line("decode", [(d.cameras, "cameras"), (d.fps, "fps"), (costs.decode_s, "s")], "cores")]
    if machine.gpu is None:
        lines += [_line(s, [(rate, "snippets/s"), (cost, "s")], "cores") for s, cost in costs.stages.items()]
    lines += [
        _line("moving messages", [(rate, "snippets/s"), (moving_s, "s")], "cores"),
        _line("alerting", [(rate, "snippets/s"), (bus.clients_s["alerting"], "s")], "cores"),
        _line("leases", [(_renewals(d, costs), "renewals/s"), (bus.lease_client_s, "s")], "cores"),
        _line("Redis itself", [(rate, "snippets/s"), (bus.server_s, "s")], "cores"),
    ]
    return lines


def _redis_lines(d: Demand, costs: Costs, bus: BusCosts, rate: float) -> list[Line]:
    renewals = _renewals(d, costs)
    cores = rate * bus.server_s + renewals * bus.lease_server_s
    shown = f"{_shown(rate)} x {_time(bus.server_s)} + {_shown(renewals)} leases/s x {_time(bus.lease_server_s)}"
    most = max(bus.in_bytes, bus.out_bytes) * 8 / MB
    commands = rate * bus.commands + renewals
    return [
        Line(name="Redis thread", formula=shown, value=cores, unit="of one core"),
        Line(
            name="Redis commands", formula=f"{_shown(rate)} x {bus.commands:.0f} + {_shown(renewals)} leases/s",
            value=commands, unit="commands/s",
        ),
        _line("Redis in", [(rate, "snippets/s"), (bus.in_bytes / MB, "MB")], "MB/s"),
        _line("Redis out", [(rate, "snippets/s"), (bus.out_bytes / MB, "MB")], "MB/s"),
        _line("Redis network", [(rate, "snippets/s"), (most, "Mbit one way")], "Mbit/s"),
    ]  # fmt: skip


def _renewals(d: Demand, costs: Costs) -> float:
    """Leases renewed per second: of decode, alerting and every extractor and model."""
    return d.cameras * (2 + len(costs.stages)) * RENEWALS / d.lease_s


def _memory_lines(d: Demand, costs: Costs, bus: BusCosts, transport: str) -> list[Line]:
    kept = bus.state_bytes
    for kind, size in bus.entry_bytes.items():
        bound = d.stream_mb * MIB / size if size else 0
        usual = SNIPPETS_WAITING if kind == "snippets" else MOST_ENTRIES if kind == "scores" else TRIM_EVERY + 1
        kept += size * min(usual, bound)
    lines = [
        _line("decoders", [(d.cameras, "cameras"), (costs.decoder_mb * MIB / 1e9, "GB")], "GB"),
        _line("in Redis", [(d.cameras, "cameras"), (kept / 1e9, "GB")], "GB"),
    ]
    if transport == "shared":
        waiting = SNIPPETS_WAITING * costs.pixel_bytes / 1e9
        lines.append(_line("shared memory", [(d.cameras, "cameras"), (waiting, "GB")], "GB"))
    return lines


def _line(name: str, factors: list[tuple[float, str]], unit: str) -> Line:
    words = []
    value = 1.0
    for number, what in factors:
        value *= number
        text = _time(number) if what == "s" else f"{_shown(number)} {what}".strip()
        words.append(f"/ {_shown(1 / number)}" if what == "" else text)
    return Line(name=name, formula=" x ".join(words).replace(" x /", " /"), value=value, unit=unit)


def _total(name: str, lines: list[Line], unit: str) -> Line:
    return Line(name=name, formula="their sum", value=sum(line.value for line in lines), unit=unit)


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us" if seconds < 1e-4 else f"{seconds * 1e3:.3g} ms"
