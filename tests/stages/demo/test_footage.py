"""The demo's sample footage is what its manifest says. Takes about 10 s: it draws some 1,000 frames."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from stages.demo.figures import draw
from stages.demo.footage import DemoFootage, make_demo
from stages.demo.walks import FPS, KINDS, crowd, in_view, limbs_at, plant
from stages.demo.world import CANVAS, HEIGHT, WIDTH, lawn_distance
from stages.errors import OddwatchError


@pytest.fixture(scope="module")
def told() -> list[tuple[int, int]]:
    """What `make_demo` said of its progress."""
    return []


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory, told: list[tuple[int, int]]) -> DemoFootage:
    out = tmp_path_factory.mktemp("demo")
    return make_demo(out, 3, normal_s=2.0, kinds=("cyclist",), on_frame=lambda *progress: told.append(progress))


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def test_the_films_are_h264_of_the_promised_size_and_length(footage: DemoFootage):
    with av.open(str(footage.normal[0])) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", WIDTH, HEIGHT)
        assert stream.average_rate == FPS
    assert len(pictures(footage.normal[0])) == 2 * FPS


def test_the_manifest_names_both_films_and_where_the_anomalies_are(footage: DemoFootage):
    train, test = (json.loads(line) for line in footage.manifest.read_text().splitlines())
    assert train == {"video": "normal.mp4", "split": "train", "label": 0, "anomalies": []}
    (planted,) = footage.planted
    assert test["anomalies"] == [[planted.first_frame, planted.last_frame]]
    assert (test["video"], test["split"], test["label"], test["_kinds"]) == ("test.mp4", "test", 1, ["cyclist"])


def test_the_anomaly_lies_within_the_film_with_normal_life_around_it(footage: DemoFootage):
    (planted,) = footage.planted
    frames = len(pictures(footage.test))
    assert 5 * FPS < planted.first_frame < planted.last_frame < frames - 3 * FPS
    assert 2 <= (planted.last_frame - planted.first_frame + 1) / FPS <= 5


def test_the_film_moves_but_its_background_stays(footage: DemoFootage):
    film = np.stack(pictures(footage.test)[::25]).astype(int)
    spread = film.std(axis=0).mean(axis=2)
    assert np.median(spread) < 10
    assert spread.max() > 30


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(footage: DemoFootage, tmp_path: Path):
    first, again = (make_demo(tmp_path / name, seed=5, normal_s=0.4, kinds=()) for name in ("first", "again"))
    assert first.planted == ()
    assert first.normal[0].read_bytes() == again.normal[0].read_bytes()
    assert first.test.read_bytes() == again.test.read_bytes()
    assert np.any(pictures(first.normal[0])[0] != pictures(footage.normal[0])[0])


def test_progress_is_told_after_every_frame(footage: DemoFootage, told: list[tuple[int, int]]):
    total = 2 * FPS + len(pictures(footage.test))
    assert told == [(k + 1, total) for k in range(total)]


@pytest.mark.parametrize("kind", ["cyclist", "vehicle", "runner"])
def test_what_passes_through_is_seen_from_its_first_to_its_last_frame(kind: str):
    (walk,) = plant(kind, 4.0, np.random.default_rng(1))
    times_s = np.arange(0, 15, 1 / FPS)
    odd = np.flatnonzero(walk.odd(times_s))
    assert odd[0] == 4 * FPS
    assert np.all(np.diff(odd) == 1)
    margin = FPS // 4
    shown = [_drawn(walk, times_s[k]) for k in (odd[0] - margin, odd[0] + margin, odd[-1] - margin, odd[-1] + margin)]
    assert shown == [False, True, True, False]


def _drawn(walk, t_s: float) -> bool:
    canvas = np.zeros((*CANVAS, 3), np.uint8)
    draw(canvas, limbs_at(walk, t_s))
    return bool(canvas.any())


@pytest.mark.parametrize(("kind", "actors"), [("fall", 1), ("scuffle", 2)])
def test_what_happens_on_the_way_begins_on_time_in_the_picture(kind: str, actors: int):
    walks = plant(kind, 6.0, np.random.default_rng(1))
    assert len(walks) == actors
    times_s = np.arange(0, 20, 1 / FPS)
    for walk in walks:
        odd = times_s[walk.odd(times_s)]
        assert odd[0] == pytest.approx(6.0)
        assert odd[-1] - odd[0] == pytest.approx(walk.pause_s, abs=2 / FPS)


def test_two_who_fight_stand_within_reach_of_each_other():
    a, b = plant("scuffle", 6.0, np.random.default_rng(1))
    during = np.array([8.0])
    assert np.hypot(a.at(during)[0] - b.at(during)[0], a.at(during)[1] - b.at(during)[1]) < 1.5


@pytest.mark.parametrize("seed", range(4))
def test_only_the_planted_one_walks_on_the_lawn(seed: int):
    rng = np.random.default_rng(seed)
    times_s = np.arange(0, 60, 0.2)
    usual = [walk.at(times_s)[:2] for walk in crowd([], 60.0, rng)]
    assert len(usual) > 20
    x, z = (np.concatenate([track[k] for track in usual]) for k in (0, 1))
    seen = in_view(x, z)
    assert lawn_distance(x[seen], z[seen]).max() < 0.2
    (short_cut,) = plant("lawn", 6.0, rng)
    assert short_cut.odd(times_s).sum() * 0.2 > 2


def test_walkers_leave_room_for_the_van():
    rng = np.random.default_rng(0)
    walks = crowd(plant("vehicle", 10.0, rng), 30.0, rng)
    times_s = np.arange(8, 16, 0.2)
    van, *others = (np.stack(walk.at(times_s)[:2]) for walk in walks)
    nearest = min(float(d.min()) for o in others if np.isfinite(d := np.hypot(*(van - o))).all())
    assert nearest > 2.4


def test_an_unknown_kind_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ValueError, match=r"'dragon'; known are cyclist"):
        make_demo(tmp_path, kinds=(*KINDS, "dragon"))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OddwatchError, match=r"file.*choose another --out"):
        make_demo(blocked, normal_s=0.2, kinds=())
