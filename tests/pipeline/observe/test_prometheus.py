"""Status, /metrics and /healthz tell what Redis knows."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from makers import announce, end, gap, publish, snippet, spec
from toys import turn_until, worker

from pipeline.bus.streams import Bus
from pipeline.cameras.registry import unregister
from pipeline.observe.health import unhealthy
from pipeline.observe.metrics import serve_metrics
from pipeline.observe.status import drained, read_status
from pipeline.observe.status_text import status_lines
from stages.errors import OddwatchError

STAGES = ("features", "temporal", "alerting")


@pytest.fixture
def watched(bus: Bus) -> Bus:
    """A live camera of which two snippets were scored, one was corrupt, and two lie unread."""
    announce(bus, spec(live=True))
    stream = bus.keys.stream("cam", "snippets")
    publish(bus, stream, *[snippet(n, live=True) for n in range(2)], gap(2, live=True))
    workers = [worker(bus, s) for s in STAGES]
    turn_until(lambda: bus.client.xlen(bus.keys.stream("cam", "scores")) == 3, *workers)
    publish(bus, stream, *[snippet(n, live=True) for n in (3, 4)])
    bus.client.hset(bus.keys.health("cam"), mapping={"status": "online", "last_frame_ms": "1500"})
    return bus


@pytest.fixture
def port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def served(watched: Bus, port: int) -> Iterator[str]:
    server = serve_metrics(port, lambda: read_status(watched))
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    server.server_close()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_status_tells_accounts_lag_and_holders(watched: Bus) -> None:
    status = read_status(watched)
    camera = status["cameras"]["cam"]
    assert camera["run"]["scored"] == 8
    assert camera["run"]["gaps"] == {"corrupt": 4}
    assert camera["totals"] == {"decoded": 12, "gap:corrupt": 4, "scored": 8}
    assert camera["streams"]["snippets"]["groups"]["features:motion"] == {"pending": 0, "lag": 2}
    assert camera["held_by"]["alerting"].startswith("alerting-worker")
    assert camera["held_by"]["decode"] is None
    assert not drained(watched)
    json.dumps(status)
    text = "\n".join(status_lines(status, "redis://h"))
    assert "12 frames decoded, 8 scored, gaps: corrupt 4; 2 snippets behind" in text
    assert "nobody works on: decode" in text


def test_a_camera_that_goes_while_status_is_read_does_not_matter(watched: Bus) -> None:
    before = read_status(watched)
    watched.client.delete(watched.keys.stream("cam", "snippets"))
    assert read_status(watched)["cameras"]["cam"]["streams"]["snippets"] == {"length": 0, "groups": {}}
    unregister(watched.client, watched.keys, "cam")
    assert read_status(watched)["cameras"] == {}
    assert before["cameras"]


def test_metrics_are_counters_by_camera_and_cause(served: str) -> None:
    code, text = get(f"{served}/metrics")
    assert code == 200
    for line in (
        'oddwatch_frames_decoded_total{camera="cam"} 12.0',
        'oddwatch_frames_scored_total{camera="cam"} 8.0',
        'oddwatch_frames_not_scored_total{camera="cam",cause="corrupt"} 4.0',
        'oddwatch_camera_online{camera="cam"} 1.0',
        'oddwatch_camera_last_frame_timestamp_seconds{camera="cam"} 1.5',
        'oddwatch_stream_lag{camera="cam",group="features:motion",stream="snippets"} 2.0',
        "oddwatch_dead_letters 0.0",
    ):
        assert line in text


def test_a_scraper_gets_the_format_that_it_asks_for_and_leaves_no_line(
    served: str, capfd: pytest.CaptureFixture[str]
) -> None:
    plain, asked = f"{served}/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"}
    with urllib.request.urlopen(plain) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
    with urllib.request.urlopen(urllib.request.Request(plain, headers=asked)) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.read().endswith(b"# EOF\n")
    assert capfd.readouterr() == ("", "")


def test_health_says_what_an_operator_must_look_at(served: str) -> None:
    code, text = get(f"{served}/healthz")
    assert (code, json.loads(text)["problems"]) == (503, ["camera cam: nobody works on decode"])
    assert get(f"{served}/else")[0] == 404


def test_all_is_well(watched: Bus) -> None:
    watched.client.set(watched.keys.lease("cam", "decode"), "d:1")
    status = read_status(watched)
    assert unhealthy(status) == []
    status["workers"][0] |= {"error": "no weights", "silent_s": 99}
    assert [p.partition(": ")[2] for p in unhealthy(status)] == ["no weights", "silent for 99 s"]


def test_a_file_that_waits_for_its_turn_is_no_trouble(bus: Bus) -> None:
    announce(bus, spec("clip"))
    assert unhealthy(read_status(bus)) == []


def test_a_camera_long_away_and_a_full_redis_are_trouble(watched: Bus) -> None:
    watched.client.set(watched.keys.lease("cam", "decode"), "d:1")
    health, now_ms = watched.keys.health("cam"), watched.now_ms()
    away = {"status": "offline", "error": "no answer", "offline_ms": str(now_ms - 50_000)}
    watched.client.hset(health, mapping=away)
    assert unhealthy(read_status(watched)) == []
    watched.client.hset(health, "offline_ms", str(now_ms - 70_000))
    status = read_status(watched)
    assert [p[:29] for p in unhealthy(status)] == ["camera cam: offline for 70 s:"]
    text = status_lines(status, "redis://h")
    assert "offline: cam" in text
    assert " of 256 MiB used" in text[0]
    status["memory_used_bytes"] = 0.95 * status["memory_limit_bytes"]
    assert unhealthy(status)[-1].startswith("Redis: 95% of its memory is used")
    status["memory_limit_bytes"] = 0
    assert len(unhealthy(status)) == 1


def test_redis_away_is_unhealthy_and_not_a_crash(port: int) -> None:
    def gone() -> dict:
        raise ConnectionError

    server = serve_metrics(port, gone)
    assert get(f"http://127.0.0.1:{port}/healthz")[0] == 503
    assert get(f"http://127.0.0.1:{port}/metrics")[0] == 503
    server.shutdown()
    server.server_close()


def test_a_port_that_is_taken_is_named(port: int) -> None:
    with socket.socket() as s:
        s.bind(("", port))
        s.listen()
        with pytest.raises(OddwatchError, match=f"port {port}: .*change output.metrics_port"):
            serve_metrics(port, dict)


def test_drained_means_nothing_unread_or_pending(bus: Bus) -> None:
    announce(bus, spec(live=True))
    publish(bus, bus.keys.stream("cam", "snippets"), snippet(0, live=True), end(1, live=True))
    assert not drained(bus)
    turn_until(lambda: drained(bus), *(worker(bus, s) for s in STAGES))
    assert bus.client.xlen(bus.keys.stream("cam", "scores")) == 2
