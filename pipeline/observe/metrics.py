"""Prometheus metrics and a health page, read from Redis when asked for."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import ThreadingWSGIServer

from pipeline.observe.health import unhealthy
from stages.errors import OddwatchError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

StatusOf = Callable[[], dict]
UNAVAILABLE = "503 Service Unavailable"


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


class _Server6(ThreadingWSGIServer):
    """On an address of IPv6."""

    address_family = socket.AF_INET6


def serve_metrics(port: int, read: StatusOf, host: str = "127.0.0.1") -> WSGIServer:
    """Serve /metrics and /healthz on one address from a thread: this machine's own, unless told otherwise.

    Raises OddwatchError if the port is taken, or the address is none of this machine's.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(read))
    try:
        kind = _Server6 if ":" in host else ThreadingWSGIServer
        server = make_server(host, port, _pages(registry, read), kind, _SilentHandler)
    except OSError as error:
        raise OddwatchError(
            f"{host} port {port}: cannot serve metrics ({error.strerror}); "
            "change output.metrics_port or output.metrics_host"
        ) from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def _pages(registry: CollectorRegistry, read: StatusOf) -> WSGIApplication:
    metrics = make_wsgi_app(registry)

    def pages(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            if environ["PATH_INFO"].startswith("/metrics"):
                return metrics(environ, start_response)
            code, kind, body = _other_page(environ["PATH_INFO"], read)
        except Exception as error:  # Redis is away: it is asked before anything is answered
            code, kind, body = UNAVAILABLE, "text/plain", f"{type(error).__name__}\n"
        start_response(code, [("Content-Type", kind)])
        return [body.encode()]

    return pages


def _other_page(path: str, read: StatusOf) -> tuple[str, str, str]:
    """Code, content type and text."""
    if not path.startswith("/healthz"):
        return "404 Not Found", "text/plain", "/metrics or /healthz\n"
    problems = unhealthy(read())
    text = json.dumps({"healthy": not problems, "problems": problems})
    return UNAVAILABLE if problems else "200 OK", "application/json", text


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: a scrape every few seconds is no news."""
