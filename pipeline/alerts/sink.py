"""Where alerts are told besides the stream: the seam, and what is known of a kind of sink before it is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from stages.errors import ConfigError, OddwatchError
from stages.plugins import Plugins


class Sink(Protocol):
    """Told every alert message at least once, in order within a camera; the same can come twice (`alert_key`)."""

    def deliver(self, alert: dict[str, Any], picture: bytes | None) -> None:
        """Returns once the alert is safe at its destination. Raises anything else: it is delivered again later.

        `alert` is the message as readers of the stream get it, and `entry`, its stream id, where it comes from there;
        it may be changed. `picture` is the JPEG of its peak, None if there is none or it is too old.
        """
        ...

    def close(self) -> None:
        """Let go of everything. May be called after a failure."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkKind:
    """What is known of a kind of sink without opening it."""

    name: str
    options: type[BaseModel]
    """Checks what the configuration says below `sinks.NAME`, besides `kind`. Paths are relative to the file."""
    open: Callable[[Any], Sink]
    """Called with the checked options. Raises OddwatchError when it can be known already that nothing will arrive."""


SINKS = Plugins("oddwatch.sinks", "kind of sink", SinkKind)


def alert_key(alert: Mapping[str, Any]) -> str:
    """What a message is recognised by when it comes again: its alert's id and revision.

    Alerts of schema 1 have no revision; of theirs the phase and how far they reach tell messages apart.
    """
    told = alert["revision"] if "revision" in alert else f"{alert['phase']}:{alert.get('end_frame')}"
    return f"{alert['id']}:{told}"


def checked_options(kind: str, given: Mapping[str, Any]) -> BaseModel:
    """The options of a sink. Raises ConfigError naming the option; its value is not shown, it may be a secret."""
    options = SINKS.get(kind).options
    try:
        return options.model_validate(dict(given))
    except ValidationError as error:
        known = ", ".join(options.model_fields) or "none"
        said = [(".".join(map(str, e["loc"])) or kind, e["msg"]) for e in error.errors()]
        wrong = "; ".join(f"{option}: {text[0].lower()}{text[1:]}" for option, text in said)
        raise ConfigError(f"{wrong} (options of {kind!r}: {known})") from None


def open_sinks(configured: Mapping[str, tuple[str, BaseModel]]) -> dict[str, NamedSink]:
    """Name -> (kind, options) as open sinks. Raises OddwatchError naming the one that cannot be opened."""
    opened: dict[str, NamedSink] = {}
    try:
        for name, (kind, options) in configured.items():
            opened[name] = NamedSink(name, SINKS.get(kind), options)
    except OddwatchError:
        for sink in opened.values():
            sink.close()
        raise
    return opened


class NamedSink:
    """A configured sink, whose failures name it; opened anew after one."""

    def __init__(self, name: str, kind: SinkKind, options: BaseModel) -> None:
        """Raises OddwatchError when it cannot be opened."""
        self._name, self._kind, self._options = name, kind, options
        self._sink: Sink | None = self._tried(lambda: kind.open(options))

    def deliver(self, alert: dict[str, Any], picture: bytes | None) -> None:
        """Raises OddwatchError, whatever the sink raises."""
        if self._sink is None:
            self._sink = self._tried(lambda: self._kind.open(self._options))
        sink = self._sink
        try:
            self._tried(lambda: sink.deliver(alert, picture))
        except OddwatchError:
            with contextlib.suppress(OddwatchError):
                self.close()
            raise

    def close(self) -> None:
        """Close it; a later alert opens it again."""
        sink, self._sink = self._sink, None
        if sink is not None:
            self._tried(sink.close)

    def _tried(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # whatever somebody else's sink raises
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise OddwatchError(f"sink {self._name}: {said}") from error
