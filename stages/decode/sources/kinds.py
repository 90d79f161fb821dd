"""The kinds of source that come with Oddwatch, as others know them before one is opened."""

from __future__ import annotations

import re
from pathlib import Path

from stages.decode.natural_order import IMAGE_SUFFIXES, pictures_in
from stages.decode.sources.registry import SourceKind

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".amv", ".asf", ".avc", ".avi", ".dav", ".divx", ".dv", ".f4v", ".flv", ".gif",
    ".gxf", ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg",
    ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm",
    ".rmvb", ".tod", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".xvid", ".y4m",
})
# fmt: on
LIVE_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "rtp")
REMOTE_FILE_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
"""Over HTTP these end and have a clock of their own. Not .ts, .flv, .mjpeg: cameras serve those without end."""
DEVICE = re.compile(r"/dev/video\d+\Z")


def _is_remote_file(address: str) -> bool:
    if not address.lower().startswith(("http://", "https://")):
        return False
    return Path(re.split(r"[?#]", address)[0]).suffix.lower() in REMOTE_FILE_SUFFIXES


def _is_camera(address: str) -> bool:
    return DEVICE.match(address) is not None or address.partition("://")[0].lower() in LIVE_SCHEMES


def _holds_pages(path: Path) -> bool:
    from stages.decode.sources.pages import has_pages  # which needs OpenCV

    return path.suffix.lower() in IMAGE_SUFFIXES and has_pages(path)


def _holds_pictures(folder: Path) -> bool:
    return bool(pictures_in(folder))


FILE = SourceKind(
    name="file", read="stages.decode.sources.video_file:VideoFile", suffixes=VIDEO_SUFFIXES, any_file=True,
    claims_address=_is_remote_file,
)  # fmt: skip
IMAGES = SourceKind(
    name="images",
    read="stages.decode.sources.image_folder:ImageFolder",
    claims_file=_holds_pages,
    claims_folder=_holds_pictures,
)
LIVE = SourceKind(
    name="live", read="stages.decode.sources.camera:opened", live=True, claims_address=_is_camera,
    addresses=f"{', '.join(LIVE_SCHEMES)}:// or /dev/videoN",
)  # fmt: skip
