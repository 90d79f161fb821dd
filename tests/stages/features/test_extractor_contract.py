"""What every registered extractor promises; those whose weights are not installed say how to install them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stages.errors import WeightsError
from stages.features.registry import EXTRACTORS, Extractor, build_extractor
from stages.messages import Features, Snippet
from stages.stage import State

every_kind = pytest.mark.parametrize("name", EXTRACTORS.names())
every_free_one = pytest.mark.parametrize("name", [kind.name for kind in EXTRACTORS.all() if not kind.weights])


def snippet(seed: int, height: int = 120, width: int = 160) -> Snippet:
    """Coloured blocks that move."""
    blocks = np.random.RandomState(seed).randint(0, 256, (height // 8 + 9, width // 8 + 9, 3), np.uint8)
    picture = blocks.repeat(8, axis=0).repeat(8, axis=1)
    pixels = np.stack([picture[2 * t : 2 * t + height, 3 * t : 3 * t + width] for t in range(16)])
    return Snippet(
        camera=f"cam{seed}", run_ms=5, seq=0, first_frame=0, times_s=np.arange(16) / 25,
        picked=np.arange(16, dtype=np.int32), pixels=pixels,
    )  # fmt: skip


def described(extractor: Extractor, *snippets: Snippet, state: State | None = None) -> list[Features]:
    results = extractor.process([(s, dict(state or {})) for s in snippets])
    assert all(len(out) == 1 for out, _ in results)
    return [out[0] for out, _ in results]


def test_there_are_those_that_the_documentation_names() -> None:
    assert {"motion", "i3d", "r3d_18", "r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t", "efficientnet_lite0"} <= {
        *EXTRACTORS.names()
    }


@every_kind
def test_it_is_what_its_kind_says(name: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = EXTRACTORS.get(name)
    monkeypatch.setenv("ODDWATCH_HOME", str(tmp_path))
    if kind.weights:
        with pytest.raises(WeightsError, match=f"oddwatch weights install {name}"):
            build_extractor(name)
        return
    extractor = build_extractor(name)
    assert extractor.name == name
    assert extractor.id.startswith(f"{name}@")
    assert (extractor.sparse, extractor.analysis_height) == (kind.sparse, kind.analysis_height)


@every_free_one
@pytest.mark.parametrize(("height", "width"), [(120, 160), (240, 320), (64, 96)])
def test_pictures_of_any_size_become_features_of_its_shape(name: str, height: int, width: int) -> None:
    extractor = build_extractor(name)
    given = snippet(1, height, width)
    (features,) = described(extractor, given)
    assert features.extractor == extractor.id
    assert features.header().keys() == given.header().keys()
    assert features.values.dtype == np.float32
    assert np.isfinite(features.values).all()
    if extractor.sparse:
        assert features.cells is not None
        assert features.values.shape == (len(features.cells), extractor.dim)
        assert len(features.values), "blocks that move have no cell"
    else:
        assert features.cells is None
        assert features.values.shape == (extractor.dim,)


@every_free_one
def test_a_result_depends_on_neither_neighbours_nor_the_time_of_asking(name: str) -> None:
    extractor = build_extractor(name)
    together = described(extractor, snippet(1), snippet(2))
    for got, seed in zip(together, (1, 2), strict=True):
        (alone,) = described(extractor, snippet(seed))
        assert got.values.tobytes() == alone.values.tobytes()
        assert got.camera == f"cam{seed}"


@every_free_one
def test_a_state_is_arrays_that_are_never_written_into_and_ends_with_the_run(name: str) -> None:
    extractor = build_extractor(name)
    ((_, state),) = extractor.process([(snippet(1), {})])
    before = {key: value.copy() for key, value in state.items()}
    for value in state.values():
        value.setflags(write=False)
    extractor.process([(replace(snippet(1), seq=1, first_frame=16), state)])
    assert state.keys() == before.keys()
    assert all(np.array_equal(state[key], before[key]) for key in before)
    owed, rest = extractor.finish(state)
    assert (owed, rest) == ([], {})
