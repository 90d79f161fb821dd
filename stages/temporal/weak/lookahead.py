"""Headers of messages whose scores are pending, as state arrays: for models with look-ahead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from stages.messages import Prior
from stages.stage import State


def pack_headers(headers: Sequence[dict]) -> State:
    """Message headers (`Picked.header()`), oldest first, as the arrays `owed.<i>.<field>` of a state.

    (The name in saved states is that of older versions.)
    """
    state: State = {}
    for i, header in enumerate(headers):
        plain = {}
        for name, value in header.items():
            if isinstance(value, np.ndarray):
                state[f"owed.{i}.{name}"] = value
            elif isinstance(value, bytes):
                state[f"owed.{i}.{name}"] = np.frombuffer(value, np.uint8)
            else:
                plain[name] = asdict(value) if isinstance(value, Prior) else value
        state[f"owed.{i}.plain"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    return state


def unpack_headers(state: State) -> list[dict]:
    """The headers in a state, oldest first; [] for a fresh one."""
    headers: list[dict] = []
    while f"owed.{len(headers)}.plain" in state:
        prefix = f"owed.{len(headers)}."
        arrays = {name[len(prefix) :]: array for name, array in state.items() if name.startswith(prefix)}
        plain = json.loads(arrays.pop("plain").tobytes())
        prior = plain["prior"] and Prior(**plain["prior"])
        headers.append(arrays | plain | {"thumb": arrays["thumb"].tobytes(), "prior": prior})
    return headers
