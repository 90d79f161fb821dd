"""No name of a kind is spelled where one should be asked: what differs between kinds is in their descriptors."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from places import ROOT

from stages.features.registry import EXTRACTORS
from stages.temporal.registry import MODELS

ALLOWED = {
    "pipeline/config/schema.py": "defaults of the configuration",
    "pipeline/cli/train/command.py": "names of sub-commands, each with options of its own",
    "pipeline/cli/train/options.py": "the default of an option",
    "pipeline/cli/manifest.py": "names of conventions, not of models",
    "stages/features/kinds.py": "descriptors",
    "stages/features/motion.py": "the name of its threads",
    "stages/features/torchvision_video.py": "the table of networks",
    "stages/temporal/future_frame/kind.py": "descriptor",
    "stages/temporal/novelty/kind.py": "descriptor",
    "stages/temporal/weak/kinds.py": "descriptors",
    "stages/weights/arrays.py": "names of published weights",
    "stages/weights/torch_files.py": "names of published weights",
}


def spelled() -> Iterator[tuple[str, int, str]]:
    names = {*EXTRACTORS.names(), *MODELS.names()}
    for package in ("pipeline", "stages"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and node.value in names:
                    yield str(path.relative_to(ROOT)), node.lineno, str(node.value)


def test_names_of_kinds_stand_where_they_are_defined_and_nowhere_else() -> None:
    found = list(spelled())
    assert [one for one in found if one[0] not in ALLOWED] == []
    assert {file for file, _, _ in found} == {*ALLOWED}, "an exception that is none any more"
