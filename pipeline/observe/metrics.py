"""Prometheus metrics and a health page, read from Redis when asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from stages.errors import OddwatchError

StatusOf = Callable[[], dict]
SILENT_S = 30.0
"""A worker silent for longer makes the host unhealthy."""
OFFLINE_S = 60.0
"""So does a camera that has been away for longer."""
MEMORY_USED = 0.9
"""And a Redis that uses more than this share of what it may."""


class StatusCollector:
    """Turns `read_status` into metrics; frames are counted over all runs of a camera."""

    def __init__(self, read: StatusOf) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        status = self._read()
        decoded = CounterMetricFamily("oddwatch_frames_decoded", "Frames decoded", labels=["camera"])
        scored = CounterMetricFamily("oddwatch_frames_scored", "Frames scored", labels=["camera"])
        gaps = CounterMetricFamily("oddwatch_frames_not_scored", "Frames in gaps, by cause", labels=["camera", "cause"])
        online = GaugeMetricFamily("oddwatch_camera_online", "1 while frames come", labels=["camera"])
        last = GaugeMetricFamily("oddwatch_camera_last_frame_timestamp_seconds", "Unix time", labels=["camera"])
        length = GaugeMetricFamily("oddwatch_stream_length", "Entries in a stream", labels=["camera", "stream"])
        lag = GaugeMetricFamily("oddwatch_stream_lag", "Entries not yet read", labels=["camera", "stream", "group"])
        for name, camera in status["cameras"].items():
            totals = camera["totals"]
            decoded.add_metric([name], totals.get("decoded", 0))
            scored.add_metric([name], totals.get("scored", 0))
            for key, n in totals.items():
                if key.startswith("gap:"):
                    gaps.add_metric([name, key[4:]], n)
            online.add_metric([name], camera["health"].get("status") == "online")
            if "last_frame_ms" in camera["health"]:
                last.add_metric([name], int(camera["health"]["last_frame_ms"]) / 1000)
            for kind, stream in camera["streams"].items():
                length.add_metric([name, kind], stream["length"])
                for group, state in stream["groups"].items():
                    lag.add_metric([name, kind, group], state["lag"] or 0)
        workers = GaugeMetricFamily(
            "oddwatch_worker_silent_seconds", "Since the last heartbeat", labels=["worker", "stage"]
        )
        for worker in status["workers"]:
            workers.add_metric([worker["name"], worker["stage"]], worker["silent_s"])
        yield from (decoded, scored, gaps, online, last, length, lag, workers)
        yield GaugeMetricFamily("oddwatch_dead_letters", "Messages given up", value=status["dead_letters"])
        yield GaugeMetricFamily("oddwatch_redis_memory_bytes", "Memory Redis uses", value=status["memory_used_bytes"])
        limit = status["memory_limit_bytes"]
        yield GaugeMetricFamily("oddwatch_redis_memory_limit_bytes", "Memory Redis may use, 0: no limit", value=limit)


def serve_metrics(port: int, read: StatusOf) -> ThreadingHTTPServer:
    """Serve /metrics and /healthz on all interfaces from a thread. Raises OddwatchError if the port is taken."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(read))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                if self.path.startswith("/metrics"):
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif self.path.startswith("/healthz"):
                    problems = unhealthy(read())
                    body = json.dumps({"healthy": not problems, "problems": problems}).encode()
                    self._answer(503 if problems else 200, "application/json", body)
                else:
                    self._answer(404, "text/plain", b"/metrics or /healthz\n")
            except Exception as error:
                self._answer(503, "text/plain", f"{type(error).__name__}\n".encode())

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    try:
        server = ThreadingHTTPServer(("", port), Handler)
    except OSError as error:
        raise OddwatchError(
            f"port {port}: cannot serve metrics ({error.strerror}); change output.metrics_port"
        ) from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def unhealthy(status: dict) -> list[str]:
    """One line for each thing that an operator must look at."""
    problems = [f"worker {w['name']}: {w['error']}" for w in status["workers"] if w["error"]]
    problems += [
        f"worker {w['name']}: silent for {w['silent_s']} s" for w in status["workers"] if w["silent_s"] > SILENT_S
    ]
    for name, camera in status["cameras"].items():
        if camera["live"]:  # a file may wait for its turn
            problems += _of_camera(name, camera, status["now_ms"])
    used, limit = status["memory_used_bytes"], status["memory_limit_bytes"]
    if limit and used > MEMORY_USED * limit:
        problems.append(f"Redis: {used / limit:.0%} of its memory is used; raise maxmemory or lower redis.stream_mb")
    return problems


def _of_camera(name: str, camera: dict, now_ms: int) -> list[str]:
    problems = [f"camera {name}: nobody works on {s}" for s, holder in camera["held_by"].items() if holder is None]
    health = camera["health"]
    away_s = (now_ms - int(health.get("offline_ms", now_ms))) / 1000
    if health.get("status") == "offline" and away_s > OFFLINE_S:
        problems.append(f"camera {name}: offline for {away_s:.0f} s: {health.get('error', '')}")
    return problems
