"""The one loader of all kinds: what it finds, and what it says when something of somebody else's is broken."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest
from places import ROOT
from plugged import plug_in

from stages.errors import ConfigError
from stages.plugins import Plugins, load, module_of

GROUP = "oddwatch.toys"


@dataclass(frozen=True)
class Toy:
    name: str


RED, BLUE, NOT_A_TOY = Toy("red"), Toy("blue"), "a string"
TOYS = Plugins(GROUP, "toy", Toy)
HERE = "test_plugins_module"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])


def test_a_kind_is_found_by_the_name_of_its_entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plug_in(monkeypatch, tmp_path, "box", GROUP, red=f"{HERE}:RED", blue=f"{HERE}:BLUE")
    assert TOYS.names() == ["blue", "red"]
    assert TOYS.get("red") is RED
    assert TOYS.all() == [BLUE, RED]
    assert "red" in TOYS
    assert "green" not in TOYS
    with pytest.raises(ConfigError, match="unknown toy 'green'; known: blue, red"):
        TOYS.get("green")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("no_such_module:KIND", r"odd = no_such_module:KIND of broken 1\.0 cannot be loaded \(ModuleNotFoundError"),
        (f"{HERE}:NO_SUCH_NAME", "cannot be loaded .AttributeError.*; update or uninstall its package"),
        (f"{HERE}:NOT_A_TOY", "is not a Toy of the name 'odd'"),
        (f"{HERE}:RED", "is not a Toy of the name 'odd'"),
    ],
)
def test_a_broken_package_harms_only_those_who_ask_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str, says: str
) -> None:
    plug_in(monkeypatch, tmp_path, "broken", GROUP, odd=target, red=f"{HERE}:RED")
    assert TOYS.get("red") is RED
    assert TOYS.all() == [RED]
    assert "odd" in caplog.text
    with pytest.raises(ConfigError, match=says):
        TOYS.get("odd")


def test_two_packages_with_one_name_are_both_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plug_in(monkeypatch, tmp_path / "a", "first", GROUP, red=f"{HERE}:RED", blue=f"{HERE}:BLUE")
    plug_in(monkeypatch, tmp_path / "b", "second", GROUP, red=f"{HERE}:RED")
    assert TOYS.get("blue") is BLUE
    with pytest.raises(ConfigError, match=r"toy 'red' is registered by first 1\.0 and second 1\.0; uninstall one"):
        TOYS.get("red")


def test_a_name_that_redis_could_not_take_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plug_in(monkeypatch, tmp_path, "box", GROUP, **{"red:1": f"{HERE}:RED", "blue": f"{HERE}:BLUE"})
    assert TOYS.names() == ["blue"]
    assert "must be 1 to 64 of" in caplog.text


def test_a_source_tree_that_was_never_installed_says_what_to_do(tmp_path: Path) -> None:
    code = "from stages.features.registry import EXTRACTORS; EXTRACTORS.get('motion')"
    # Neither site-packages nor a build's leftovers: metadata is looked for in an empty folder only.
    path = f"import sys, importlib.metadata as m; m.DistributionFinder.Context.path = [{str(tmp_path)!r}]; "
    command = [sys.executable, "-c", path + code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Oddwatch is not installed in this environment" in done.stderr
    assert "pip install -e ." in done.stderr


def test_what_a_descriptor_refers_to_is_imported_when_asked_for() -> None:
    assert module_of("json:loads") == "json"
    assert load("json:loads")("[1]") == [1]


@pytest.mark.parametrize("room", ["stages.decode.sources", "stages.features", "stages.temporal"])
def test_descriptors_are_frozen_and_light(room: str) -> None:
    code = f"""
import sys
from dataclasses import is_dataclass
from stages.plugins import Plugins
import {room}.registry as registry
plugins = next(v for v in vars(registry).values() if isinstance(v, Plugins))
kinds = plugins.all()
assert len(kinds) == len(plugins.names()) > 1
assert all(type(kind).__dataclass_params__.frozen for kind in kinds)
print(sorted({{"torch", "torchvision", "av", "cv2", "sklearn"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_descriptor_cannot_be_changed() -> None:
    from stages.features.kinds import MOTION

    with pytest.raises(FrozenInstanceError):
        MOTION.name = "other"  # type: ignore[misc]
