"""The GStreamer half of tests/support/rtsp_server.py; runs under Debian's Python."""

import os
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

LAUNCH = (
    "( appsrc name=source is-live=true do-timestamp=true format=time "
    "caps=video/x-h264,stream-format=byte-stream,alignment=au ! h264parse ! rtph264pay name=pay0 config-interval=-1 )"
)


def read_units(descriptor: int) -> list[bytes]:
    with os.fdopen(descriptor, "rb") as f:
        f.seek(0)
        units = []
        while size := f.read(4):
            units.append(f.read(int.from_bytes(size, "big")))
        return units


def feed(source: "Gst.Element", units: list[bytes], fps: float) -> None:
    """Push pictures until the client has gone. Every client starts at the first one, a keyframe."""
    began_s, sent = time.monotonic(), 0
    while source.emit("push-buffer", Gst.Buffer.new_wrapped(units[sent % len(units)])) == Gst.FlowReturn.OK:
        sent += 1
        time.sleep(max(0.0, began_s + sent / fps - time.monotonic()))


def serve(units: list[bytes], fps: float, port: int) -> None:
    def configure(_: "GstRtspServer.RTSPMediaFactory", media: "GstRtspServer.RTSPMedia") -> None:
        source = media.get_element().get_by_name("source")
        threading.Thread(target=feed, args=(source, units, fps), daemon=True).start()

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(LAUNCH)
    factory.connect("media-configure", configure)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    server.get_mount_points().add_factory("/stream", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    Gst.init(None)
    if sys.argv[1:] == ["check"]:
        sys.exit(0 if all(map(Gst.ElementFactory.find, ("appsrc", "h264parse", "rtph264pay"))) else 1)
    serve(read_units(int(sys.argv[1])), float(sys.argv[2]), int(sys.argv[3]))
