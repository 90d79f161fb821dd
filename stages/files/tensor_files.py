"""Files of named tensors that others wrote: read as data, nothing in them is run."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file by name, without gradients. Raises ValueError: the reason in a line.

    Torch files go through `weights_only`, which refuses to run anything.
    """
    import torch
    from safetensors.torch import load_file

    try:
        with warnings.catch_warnings():
            # It warns of oddities of the format, which are no concern of the user's, on lines of their own.
            warnings.simplefilter("ignore")
            found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except OSError as error:
        raise ValueError(error.strerror or " ".join(str(error).split())) from error
    except pickle.UnpicklingError as error:
        # Its own message advises to read the file without the check.
        raise ValueError("it is none of torch's, or holds more than tensors: code that reading it would run") from error
    except Exception as error:
        # Of a damaged file its reader raises whatever it stumbles over: KeyError, struct.error, AssertionError ...
        raise ValueError(f"damaged, or of another kind: {type(error).__name__}") from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided
        for name, value in found.items()
    ):
        raise ValueError("it holds other things than named tensors; save its state_dict alone")
    return {name: value.detach() for name, value in found.items()}
