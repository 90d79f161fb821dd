"""What torch can compute on here."""

from __future__ import annotations


def has_cuda() -> bool:
    """Whether the installed torch can use a GPU of this machine. Imports torch, which takes seconds."""
    import torch

    return torch.cuda.is_available()
