"""Entries of the stream of alerts as alerts; what is none is skipped, counted and said once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pipeline.bus.codec import EntryId, parse_id
from stages.alerting.alert import received_alert

log = logging.getLogger(__name__)


class AlertEntries:
    """Reads entries, and remembers which of them were no alerts."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._last_refused: EntryId = (0, 0)
        self.skipped = 0
        """Entries that were no alerts, each counted once however often it is read."""

    def read(self, entry_id: bytes, fields: Mapping[bytes, bytes]) -> dict[str, Any] | None:
        """The alert of an entry; None if it is none."""
        try:
            return received_alert(fields.get(b"alert"))
        except ValueError as error:
            id_ = parse_id(entry_id)
            if id_ > self._last_refused:
                self._last_refused = id_
                self.skipped += 1
                if self.skipped == 1:
                    log.warning(
                        "%s: entry %s is not an alert (%s); skipped, as are others like it, which are only counted",
                        self._stream, entry_id.decode(), error,
                    )  # fmt: skip
            return None
