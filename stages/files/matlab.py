"""MATLAB files (.mat up to version 7.2), as scipy reads them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from scipy.io import loadmat  # type: ignore[import-untyped]
from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]

# What scipy's reader raises on files that are damaged or none of MATLAB's.
DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError, MatReadError, zlib.error)


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file by name. Raises ValueError: the reason in a line.

    scipy runs nothing in a file, but its reader is no shield against one made to attack it.
    """
    try:
        with path.open("rb") as f:
            content: dict[str, Any] = loadmat(f)
    except OSError as error:
        raise ValueError(error.strerror or " ".join(str(error).split())) from error
    except NotImplementedError as error:
        raise ValueError("version 7.3, which is HDF5; save it with '-v7' in MATLAB") from error
    except DAMAGE as error:
        raise ValueError(f"damaged, or none of MATLAB's: {' '.join(str(error).split())[:150]}") from error
    return content
