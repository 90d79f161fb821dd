"""Takes everything of a login out of text: user names, passwords, tokens, keys of sessions and streams."""

from __future__ import annotations

import re

# In an address nobody can tell where a password ends that holds a raw '/', '?', '#' or '@': all up to the last @ of the
# word is hidden. Rather a host too many hidden than a password too few.
ADDRESS = re.compile(r"(?i)([a-z][a-z0-9+.-]*:/{2,})(\S*)")
ENCODED_USER_INFO = re.compile(r"(?i)([a-z][a-z0-9+.-]*(?:%3a(?:%2f|/){2}|:(?:%2f){2}))[^\s&]*(?:%40|@)")
PARTS = re.compile(r"([?#])")
PAIR = re.compile(r"([^\s=&;?#/]*)=([^\s&;?#]*)")
# fmt: off
HARMLESS_KEYS = frozenset({
    "audio", "bitrate", "bps", "buffer_size", "cam", "camera", "cameraid", "ch", "chan", "channel", "channelid",
    "codec", "compression", "db", "duration", "fps", "format", "fifo_size", "framerate", "height", "img", "latency",
    "localport", "mode", "n", "proto", "protocol", "quality", "resolution", "rotation", "size", "stream",
    "streamtype", "subtype", "timeout", "track", "trackid", "transport", "ttl", "type", "unicast", "video",
    "videocodec", "width",
})
# fmt: on
"""What stands behind these in an address may be shown; behind all others there may be anything."""
HARMLESS_VALUE = re.compile(r"[A-Za-z0-9_.x-]{1,24}\Z")
TOKEN_IN_PATH = re.compile(r"(?<=/)(?:(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{16,}|eyJ[\w.-]{8,})(?=[/.?#]|$)")
"""Some cameras and services take no login, but a path that only who may watch knows."""
SECRET = re.compile(
    r"(?i)((?<![a-z0-9])[a-z0-9_-]*?(?:access_?token|api_?key|auth(?:orization)?|credentials?|jwt|key|login_?pas[sw]*|"
    r"nonce|otp|pass(?:w(?:or)?d|wort|phrase|code)?|pin|psk|psw|pw|pwd|secret|sess(?:ion)?_?(?:id)?|sid|"
    r"sig(?:nature)?|ticket|token)"
    r"\s*(?:=|%3d)\s*)[^\s&]*"
)
HEADER = re.compile(r"(?i)\b((?:proxy-)?authorization\s*:\s*)[^\r\n]*|\b((?:bearer|basic|digest)\s+)[\w+/=.~-]{6,}")


def redact(text: str) -> str:
    """`text` without user names, passwords, tokens and keys of any address in it. Redacting twice changes nothing."""
    text = HEADER.sub(lambda found: f"{found[1] or found[2]}***", text)
    text = ADDRESS.sub(lambda found: found[1] + _without_login(found[2]), text)
    text = ENCODED_USER_INFO.sub(r"\1***@", text)
    return SECRET.sub(r"\1***", text)


def _without_login(rest: str) -> str:
    """What follows `scheme://`, up to a space."""
    login, at, shown = rest.rpartition("@")
    if not login and not at:
        shown = rest
    path, *further = PARTS.split(shown)
    # Parameters can stand in the path as well: rtsp://host/user=admin&password=x&stream=0.
    path = TOKEN_IN_PATH.sub("***", _pairs(path))
    query = "".join(
        mark + ("" if not part else _query(part) if mark == "?" else "***")
        for mark, part in zip(further[::2], further[1::2], strict=True)
    )
    return f"{'***@' if at else ''}{path}{query}"


def _query(part: str) -> str:
    return re.sub(r"[^&;]+", lambda found: _pairs(found[0]) if "=" in found[0] else "***", part)


def _pairs(part: str) -> str:
    return PAIR.sub(lambda found: f"{found[1]}={found[2] if _is_harmless(*found.groups()) else '***'}", part)


def _is_harmless(key: str, value: str) -> bool:
    return not value or (key.lower() in HARMLESS_KEYS and HARMLESS_VALUE.match(value) is not None)
