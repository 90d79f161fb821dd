"""Files of others, whole, damaged or hostile: read as data, or refused in a line. A second."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from stages.files.matlab import read_mat
from stages.files.tensor_files import read_tensors
from stages.temporal.network_checkpoint import read_foreign_weights


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def refusal(path: Path, read=read_tensors) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (what it says is looked at by the caller)
        read(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_hostile_file_is_not_run_and_nobody_is_told_to_run_it(tmp_path: Path) -> None:
    evil, path = {"w": Touch(tmp_path / "hit")}, tmp_path / "w.pkl"
    for old in (False, True):
        torch.save(evil, path, _use_new_zipfile_serialization=not old)
        assert "code that reading it would run" in refusal(path)
    path.write_bytes(pickle.dumps(evil))
    assert "weights_only" not in refusal(path)
    assert not (tmp_path / "hit").exists()


def test_whatever_is_damaged_is_refused_in_a_line(tmp_path: Path) -> None:
    path, rnd = tmp_path / "w.pkl", random.Random(0)
    path.write_text("hello")
    assert refusal(path)
    path.write_bytes(b"")
    assert refusal(path)
    refused = 0
    for old in (False, True):
        torch.save({"w": torch.zeros(8, 4)}, path, _use_new_zipfile_serialization=not old)
        whole = path.read_bytes()
        for _ in range(100):
            damaged = bytearray(whole[: rnd.randrange(1, len(whole) + 1)])
            damaged[rnd.randrange(len(damaged))] ^= 1 << rnd.randrange(8)
            path.write_bytes(damaged)
            try:
                read_tensors(path)
            except ValueError:
                refused += 1
    assert refused > 100


def test_gradients_and_halves_are_no_obstacle(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(2, requires_grad=True), "b": torch.ones(2).bfloat16()}, tmp_path / "w.pth")
    arrays = read_foreign_weights(tmp_path / "w.pth")
    assert {name: (array.dtype, array.tolist()) for name, array in arrays.items()} == {
        name: (np.dtype(np.float32), [1, 1]) for name in ("a", "b")
    }


def test_what_is_not_named_tensors_is_refused(tmp_path: Path) -> None:
    for content in ([torch.zeros(1)], {1: torch.zeros(1)}, {"state_dict": {}}, {"w": torch.eye(3).to_sparse()}):
        torch.save(content, tmp_path / "w.pth")
        assert "other things than named tensors" in refusal(tmp_path / "w.pth")


def test_a_matlab_file_is_read_or_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "w.mat"
    savemat(path, {"a": np.arange(6.0)}, do_compression=True)
    assert read_mat(path)["a"].tolist() == [[0, 1, 2, 3, 4, 5]]
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[:100], whole[:150], whole[:-20] + bytes(20)):
        path.write_bytes(content)
        assert refusal(path, read_mat)
    assert refusal(tmp_path / "w", read_mat) == "No such file or directory"
