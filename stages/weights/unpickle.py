"""Read a pickle of plain numpy arrays without running anything it asks for."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from stages.errors import WeightsError

PLAIN_KINDS = "biuf"
"""Arrays of bool, int, unsigned and float; an object array could hold anything."""


def load_arrays(stream: IO[bytes], where: str) -> dict[str, np.ndarray]:
    """The arrays of a pickled nested dict, keys joined by `|`.

    Allowed are dicts, built-in values and numeric arrays. Raises WeightsError, which names `where`, for all else.
    """
    try:
        tree = _ArrayUnpickler(stream).load()
    except WeightsError as error:
        raise WeightsError(f"{where}: {error}") from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError, MemoryError) as error:
        raise WeightsError(f"{where}: not a readable pickle of numpy arrays ({error})") from error
    return dict(_flattened(tree, "", where))


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Stand-ins for the three names that a numpy array needs; nothing is ever imported by name."""
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("numpy._core.multiarray", "_reconstruct"): _empty_array,
            ("numpy", "ndarray"): _no_array,
            ("numpy", "dtype"): _plain_dtype,
        }
        if (module, name) not in allowed:
            raise WeightsError(f"refused: the pickle asks for {module}.{name}, and only numpy arrays are allowed")
        return allowed[module, name]


def _empty_array(kind: object, *_: object) -> np.ndarray:
    # Its shape, type and content arrive next, through ndarray.__setstate__.
    if kind is not _no_array:
        raise WeightsError("refused: the pickle rebuilds something that is not a plain numpy array")
    return np.ndarray(0, dtype=np.uint8)


def _no_array(*_: object) -> np.ndarray:
    raise WeightsError("refused: the pickle calls numpy.ndarray, which no saved array does")


def _plain_dtype(spec: Any, *_: object) -> np.dtype:
    if not isinstance(spec, str) or len(spec) > 3 or spec[:1] not in PLAIN_KINDS:
        raise WeightsError(
            f"refused: the pickle asks for arrays of type {str(spec)[:40]!r}, and only numbers are allowed"
        )
    # A copy, because the state that follows is written into it.
    return np.dtype(spec, copy=True)


def _flattened(tree: object, prefix: str, where: str) -> Iterator[tuple[str, np.ndarray]]:
    if not isinstance(tree, dict):
        raise WeightsError(
            f"{where}: expected nested dicts of arrays, got {type(tree).__name__} at {prefix or 'the top'!r}"
        )
    for key, value in tree.items():
        name = f"{prefix}|{key}" if prefix else str(key)
        if isinstance(value, np.ndarray) and value.dtype.kind in PLAIN_KINDS:
            yield name, value
        else:
            yield from _flattened(value, name, where)
