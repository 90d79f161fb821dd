"""Finds plug-ins: one descriptor per kind, under the entry points of installed packages, ours among them.

An entry point's name is the kind's name, so what is installed is known without importing any of it, and a package that
is broken harms only those who ask for its kinds.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Protocol, TypeVar

from stages.errors import ConfigError

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
"""Names of kinds stand in keys of Redis, headers of tables and ids."""


class Kind(Protocol):
    """A descriptor: frozen, and light to import, since it is asked by processes that never build what it describes."""

    @property
    def name(self) -> str: ...


K = TypeVar("K", bound=Kind)


@dataclass(frozen=True, slots=True)
class Plugins(Generic[K]):
    """The kinds of one group of entry points."""

    group: str
    noun: str
    """What one is called in messages."""
    type: type[K]

    def names(self) -> list[str]:
        """Of all installed kinds, sorted; nothing of them is imported. Raises ConfigError if there are none at all."""
        found = _installed(self.group)
        if not found and not _installed("oddwatch.extractors"):
            raise ConfigError(
                f"no {self.noun} is registered: Oddwatch is not installed in this environment, or an older one is; run "
                "'pip install -e .' in its folder"
            )
        return sorted(found)

    def __contains__(self, name: object) -> bool:
        return name in _installed(self.group)

    def get(self, name: str) -> K:
        """The kind of that name.

        Raises ConfigError when there is none, when two packages have one, or when its package cannot be loaded.
        """
        claims = _installed(self.group).get(name, ())
        if not claims:
            raise ConfigError(f"unknown {self.noun} {name!r}; known: {', '.join(self.names()) or 'none'}")
        if len(claims) > 1:
            packages = " and ".join(sorted(_package(entry) for entry in claims))
            raise ConfigError(f"{self.noun} {name!r} is registered by {packages}; uninstall one of them")
        kind = _loaded(claims[0])
        if isinstance(kind, self.type) and kind.name == name:
            return kind
        raise ConfigError(
            f"{_said(claims[0])} is not a {self.type.__name__} of the name {name!r}; update or uninstall its package"
        )

    def all(self) -> list[K]:
        """All kinds that can be loaded, sorted by name; the others are logged."""
        found = []
        for name in self.names():
            try:
                found.append(self.get(name))
            except ConfigError as error:
                _warn(str(error))
        return found


def load(reference: str) -> Any:
    """What a descriptor names as `module:attribute`, imported when it is first asked for.

    Raises ConfigError when it cannot be: a library that its package needs is missing, say.
    """
    try:
        return getattr(import_module(module_of(reference)), reference.partition(":")[2])
    except Exception as error:  # whatever somebody else's module raises
        said = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{reference} cannot be imported ({type(error).__name__}: {said}); install what it needs"
        ) from error


def module_of(reference: str) -> str:
    """The module that a reference is imported from."""
    return reference.partition(":")[0]


@cache
def _installed(group: str) -> dict[str, Sequence[EntryPoint]]:
    """Read once: what is installed does not change under a running process."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=group):
        if NAME.match(entry.name):
            found.setdefault(entry.name, []).append(entry)
        else:
            _warn(f"{_said(entry)}: its name must be 1 to 64 of A-Z a-z 0-9 _ . -")
    return {name: tuple(entries) for name, entries in found.items()}


@cache
def _loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # whatever somebody else's package raises
        why = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{_said(entry)} cannot be loaded ({type(error).__name__}: {why}); update or uninstall its package"
        ) from error


@cache
def _warn(line: str) -> None:
    """Once each."""
    log.warning("%s", line)


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module


def _said(entry: EntryPoint) -> str:
    return f"the entry point {entry.group}: {entry.name} = {entry.value} of {_package(entry)}"
