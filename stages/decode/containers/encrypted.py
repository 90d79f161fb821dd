"""Whether a file's video can only be read with a key that Oddwatch does not have. Reads headers only."""

from __future__ import annotations

from pathlib import Path

from stages.decode.containers.boxes import sample_entries

TS_PACKET = 188
LOOKED_AT = 2000
"""Packets at the head of a transport stream."""


def is_encrypted(path: Path) -> bool:
    """MP4 whose video is Common Encryption throughout, or a transport stream mostly scrambled. Raises OSError."""
    entries = sample_entries(path, b"vide")
    return (bool(entries) and set(entries) == {b"encv"}) or _is_scrambled(path)


def _is_scrambled(path: Path) -> bool:
    with path.open("rb") as f:
        data = f.read(TS_PACKET * LOOKED_AT)
    packets = [data[at : at + 4] for at in range(0, len(data) - 3, TS_PACKET)]
    if len(packets) < 3 or any(packet[0] != 0x47 for packet in packets):
        return False
    # ISO 13818-1: the last byte of a packet's header begins with transport_scrambling_control; tables are never.
    return 2 * sum(packet[3] >> 6 != 0 for packet in packets) > len(packets)
