"""The capacity plan: a formula on costs that are measured through the real stages and the real bus. Some 20 s."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from makers import features, scores, snippet, spec
from places import ROOT

from pipeline.bus.embedded import EmbeddedServer
from pipeline.bus.streams import Bus
from pipeline.capacity.formula import Costs, Demand, Machine, Plan, make_plan
from pipeline.capacity.rehearse import BusCosts, rehearse
from pipeline.pixels.memory import own_folder
from stages.costs.stubs import SampleOutputs, StageOutput, StubProcessor, looped
from stages.messages import Features

DEMAND = Demand(
    cameras=64, fps=25, kept_fps=25, snippet_frames=16, mbit=4, utilisation=0.5, lease_s=8, stream_mb=32,
)  # fmt: skip
BUS = BusCosts(
    clients_s={"decode": 0.001, "features": 0.001, "temporal": 0.001, "alerting": 0.002}, server_s=0.001, commands=40,
    in_bytes=400_000, out_bytes=200_000, entry_bytes={"snippets": 1e5, "features:motion": 1e5, "scores": 500},
    state_bytes=1e6, lease_client_s=1e-5, lease_server_s=5e-6,
)  # fmt: skip
COSTS = Costs(
    decode_s=0.005, decoder_mb=25, stages={"features:motion": 0.08, "temporal:novelty": 0.01}, pixel_bytes=5e6,
    inline=replace(BUS, server_s=0.005, in_bytes=5.4e6, out_bytes=5.2e6), shared=BUS,
)  # fmt: skip
MACHINE = Machine(processor="made up", cores=8, memory_mb=16384, gpu=None, network_mbit=1000)


def values(plan: Plan) -> dict[str, float]:
    return {line.name: line.value for line in plan.lines}


def test_the_formula_is_what_it_says() -> None:
    found = values(make_plan(DEMAND, MACHINE, COSTS, "shared"))
    assert found["snippets"] == 100
    assert found["decode"] == pytest.approx(64 * 25 * 0.005)
    assert found["features:motion"] == pytest.approx(8)
    assert found["moving messages"] == pytest.approx(0.3)
    assert found["alerting"] == pytest.approx(0.2)
    assert found["leases"] == pytest.approx(64 * 4 * 4 / 8 * 1e-5)
    parts = ("decode", "features:motion", "temporal:novelty", "moving messages", "alerting", "leases", "Redis itself")
    assert found["cores"] == pytest.approx(sum(found[p] for p in parts))
    assert found["Redis thread"] == pytest.approx(100 * 0.001 + 128 * 5e-6)
    assert found["Redis commands"] == pytest.approx(4128)
    assert found["network in"] == 256


def test_every_formula_can_be_worked_out_by_hand() -> None:
    for line in make_plan(DEMAND, MACHINE, COSTS, "shared").lines:
        if line.formula == "their sum" or "leases/s" in line.formula:
            continue
        product = 1.0
        for factor in line.formula.replace(" / ", " x 1/").split(" x "):
            number, _, unit = factor.partition(" ")
            over = number.startswith("1/")
            scale = {"ms": 1e-3, "us": 1e-6}.get(unit, 1.0)
            amount = float(number.removeprefix("1/").replace(",", "")) * scale
            product *= 1 / amount if over else amount
        assert product == pytest.approx(line.value, rel=0.02), line


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 65, 200])
def test_the_hosts_carry_all_cameras(count: int) -> None:
    plan = make_plan(replace(DEMAND, cameras=count), MACHINE, COSTS, "shared")
    assert plan.hosts * plan.cameras_per_host >= count
    assert (plan.hosts - 1) * plan.cameras_per_host < count


def test_hosts_keep_the_headroom_and_the_bottleneck_is_named() -> None:
    plan = make_plan(DEMAND, MACHINE, COSTS, "shared")
    needed = values(plan)["cores"]
    assert plan.hosts >= int(np.ceil(needed / (8 * 0.5)))
    assert plan.bottleneck.startswith("cores, ")
    assert "features:motion" in plan.bottleneck or "decode" in plan.bottleneck
    assert make_plan(DEMAND, replace(MACHINE, memory_mb=600), COSTS, "shared").bottleneck == "memory"
    assert make_plan(DEMAND, replace(MACHINE, network_mbit=20), COSTS, "shared").bottleneck == "network"


def test_twice_the_cameras_take_twice_of_everything() -> None:
    once, twice = (values(make_plan(replace(DEMAND, cameras=n), MACHINE, COSTS, "shared")) for n in (64, 128))
    assert twice == pytest.approx({name: 2 * value for name, value in once.items()})


def test_frames_that_are_not_analysed_are_decoded_all_the_same() -> None:
    whole, fewer = (values(make_plan(replace(DEMAND, kept_fps=f), MACHINE, COSTS, "shared")) for f in (25, 5))
    assert fewer["decode"] == whole["decode"]
    assert fewer["features:motion"] == pytest.approx(whole["features:motion"] / 5)


def test_a_gpu_takes_the_stages_off_the_cores() -> None:
    plan = make_plan(DEMAND, replace(MACHINE, gpu="cuda"), COSTS, "shared")
    found = values(plan)
    assert "features:motion" not in found
    assert found["GPUs"] == pytest.approx(9)
    assert plan.bottleneck == "GPU, 89% of them for features:motion"


def test_pixels_in_redis_end_it_sooner() -> None:
    shared, inline = (make_plan(DEMAND, MACHINE, COSTS, t) for t in ("shared", "inline"))
    assert inline.redis_servers > shared.redis_servers
    assert inline.redis_limit == "network"
    assert inline.cameras_per_redis < shared.cameras_per_redis
    assert "shared memory" in values(shared)
    assert "shared memory" not in values(inline)


def outputs(pixels: int = 64) -> SampleOutputs:
    clip = [replace(snippet(n), pixels=np.zeros((4, pixels, pixels, 3), np.uint8)) for n in range(3)]
    state = {"grey": np.zeros(1000, np.uint8)}
    return SampleOutputs(
        clip,
        {
            "features:motion": [StageOutput(features(n), state) for n in range(3)],
            "temporal:novelty": [StageOutput(scores(n), state) for n in range(3)],
        },
    )


def test_a_sample_plays_on_as_one_run() -> None:
    clip = looped(outputs().snippets, camera="a", run_ms=5, fps=10)
    played = [next(clip) for _ in range(7)]
    assert [s.seq for s in played] == list(range(7))
    assert [s.first_frame for s in played] == [4 * n for n in range(7)]
    assert np.allclose(np.concatenate([s.times_s for s in played]), np.arange(28) / 10)


def test_stub_stages_answer_for_the_message_they_were_given() -> None:
    clip = outputs()
    work = StubProcessor(clip.answers["features:motion"])
    [result] = work.run([({"snippets": snippet(4, camera="b")}, {})])
    [made] = result.messages
    assert isinstance(made, Features)
    assert (made.camera, made.seq) == ("b", 4)
    assert np.array_equal(made.values, features(1).values)


def test_the_rehearsal_counts_what_went_over_the_bus(one_bus: Bus, one_server: EmbeddedServer) -> None:
    cameras = [spec(f"cam{n}", live=True) for n in range(3)]
    inline = rehearse(one_bus, outputs(), cameras, 10, 5)
    shared = rehearse(one_bus, outputs(), cameras, 10, 5, shared=one_server.url)
    pixels = 4 * 64 * 64 * 3
    assert inline.in_bytes - shared.in_bytes == pytest.approx(pixels, rel=0.1)
    assert inline.out_bytes - shared.out_bytes == pytest.approx(pixels, rel=0.1)
    assert inline.entry_bytes["snippets"] > pixels > shared.entry_bytes["snippets"]
    assert shared.commands >= 10, "four stages read, publish and acknowledge"
    assert shared.state_bytes > 2000
    assert min(*shared.clients_s.values(), shared.server_s) > 0
    assert not list(one_bus.client.scan_iter(match=f"{one_bus.keys.prefix}:{{cam*")), "it leaves nothing behind"
    rings = own_folder().glob("*/cam?.*.ring")
    assert not list(rings), "nor in shared memory"


def oddwatch(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.cli", "plan", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_plan_is_measured_here_and_printed_as_json() -> None:
    done = oddwatch("--cameras", 10, "--fps", 10, "--height", 144, "--codec", "mpeg4", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["sample"]["height"] == 144
    assert said["sample"]["codec"] == "mpeg4"
    assert 0 < said["costs"]["decode_s"] < said["costs"]["stages"]["features:motion"]
    plan = said["plans"]["shared"]
    lines = {line["name"]: line["value"] for line in plan["lines"]}
    assert lines["decode"] == pytest.approx(10 * 10 * said["costs"]["decode_s"])
    assert plan["hosts"] >= 1
    assert plan["bottleneck"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        pytest.param(["--model", "/nowhere.safetensors"], "/nowhere.safetensors", id="no such checkpoint"),
        pytest.param(["--codec", "vp7"], "h264, hevc, mpeg4, mjpeg", id="unknown codec"),
        pytest.param(["--sample", "/nowhere.mp4"], "/nowhere.mp4", id="no such footage"),
        pytest.param(["--config", "/nowhere.yaml"], "/nowhere.yaml", id="no such configuration"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], names: str) -> None:
    done = oddwatch("--cameras", 4, *arguments)
    assert done.returncode == 2
    assert names in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout
