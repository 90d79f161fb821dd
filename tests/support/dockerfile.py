"""A Dockerfile without a container engine: its instructions are read, and its steps run below a folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote


def instructions(path: Path) -> list[tuple[str, str]]:
    """(keyword, argument) in order, continued lines joined, comments dropped."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


class Image:
    """What a Dockerfile makes, below a folder, with Python in a virtual environment there.

    `RUN` steps go to a shell as they stand. Absolute paths are below the folder in `COPY`, `WORKDIR`, `ENV` and in the
    commands that a container runs; not inside a `RUN`, where only `useradd` is told so.
    """

    def __init__(self, root: Path, context: Path, args: Mapping[str, str] | None = None, borrowed: Path | None = None):
        """`borrowed`: a folder of installed packages that the environment sees besides its own."""
        self.root, self.context, self.user = root, context, "root"
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        self.health: list[str] = []
        self._args = dict(args or {})
        self._workdir = root
        self._steps = {
            "FROM": self._from, "ARG": self._arg, "ENV": self._env, "WORKDIR": self._enter, "COPY": self._copy,
            "RUN": self._run, "USER": self._user, "ENTRYPOINT": self._entrypoint, "CMD": self._cmd,
            "HEALTHCHECK": self._healthcheck,
        }  # fmt: skip
        venv.create(root / "venv", with_pip=True)
        (packages,) = (root / "venv").glob("lib/python*/site-packages")
        for old in packages.glob("setuptools*"):  # Python 3.12 brings none
            shutil.rmtree(old)
        if borrowed is not None:
            (packages / "borrowed.pth").write_text(f"{borrowed}\n")
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON", "REDIS_URL", "VIRTUAL_ENV"))
        }
        path = f"{self._own_tools()}{os.pathsep}{root / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        # No settings of this machine's pip, and nothing from any index, unless a test names one: so what builds is
        # borrowed too. ("0" is how pip spells it.)
        offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
        self.env = inherited | {"PATH": path, "PIP_CONFIG_FILE": os.devnull} | offline

    def _own_tools(self) -> Path:
        """`useradd` for the users of the image, not of this machine."""
        tools = self.root / "tools"
        tools.mkdir()
        (self.root / "etc").mkdir()
        for name in ("passwd", "group", "shadow", "gshadow"):
            (self.root / "etc" / name).touch()
        (self.root / "var" / "lib").mkdir(parents=True)
        tool = tools / "useradd"
        tool.write_text(f'#!/bin/sh\nexec {shutil.which("useradd")} --prefix {self.root} "$@"\n')
        tool.chmod(0o755)
        return tools

    def inside(self, path: str) -> Path:
        """Where a path of the image lies here."""
        return self.root / path.lstrip("/") if path.startswith("/") else self._workdir / path

    def build(self, dockerfile: Path, until: str = "") -> Image:
        """Follow the instructions, up to one whose argument begins with `until`. What a failing step said is raised."""
        for word, rest in instructions(dockerfile):
            if until and rest.startswith(until):
                break
            self._steps[word](rest)
        return self

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A command in a container of this image."""
        told = [str(self.inside(word)) if word.startswith("/") else word for word in words]
        return subprocess.run(
            told, cwd=self._workdir, env=self.env | env, capture_output=True, text=True, check=False, timeout=90
        )

    def _from(self, rest: str) -> None:
        assert rest.startswith("python:"), "the environment stands for an image of Python"

    def _arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.env[name] = self._args.get(name, value.strip('"'))

    def _env(self, rest: str) -> None:
        for name, value in (pair.split("=", 1) for pair in rest.split()):
            self.env[name] = str(self.inside(value)) if value.startswith("/") else value

    def _enter(self, rest: str) -> None:
        self._workdir = self.inside(rest)
        self._workdir.mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        *sources, target = rest.split()
        into = self.inside(target)
        for source in sources:
            here = self.context / source
            if here.is_dir():
                shutil.copytree(here, into, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            else:
                into.mkdir(parents=True, exist_ok=True)
                shutil.copy(here, into)

    def _run(self, rest: str) -> None:
        done = subprocess.run(
            ["sh", "-ec", rest], cwd=self._workdir, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"RUN {rest}\n{done.stdout}{done.stderr}"

    def _user(self, rest: str) -> None:
        names = [line.split(":")[0] for line in (self.root / "etc" / "passwd").read_text().splitlines()]
        assert rest in names, f"USER {rest}: there is no such user"
        self.user = rest

    def _entrypoint(self, rest: str) -> None:
        self.entrypoint = json.loads(rest)

    def _cmd(self, rest: str) -> None:
        self.command = json.loads(rest)

    def _healthcheck(self, rest: str) -> None:
        self.health = json.loads(rest.partition("CMD ")[2])


def serve(index: Path, *releases: tuple[str, str]) -> str:
    """A package index of empty releases (name, version); its address."""
    for name, version in releases:
        folder = index / name
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{re.sub(r'[-.]', '_', name)}-{version}"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            info = f"{stem}.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        links = (f'<a href="{quote(file.name)}">{file.name}</a>' for file in sorted(folder.glob("*.whl")))
        (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{'<br>'.join(links)}</body></html>")
    return index.as_uri()
