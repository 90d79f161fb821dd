"""The container files, without a container engine: their steps and commands are run here as they stand.

Takes about 20 s with the slow ones: a fresh environment is made, and every service started as a process.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from places import ROOT, absent

COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
STAGES = ("decode", "features", "temporal", "alerting")


def instructions() -> list[tuple[str, str]]:
    """(keyword, argument) of the Dockerfile, continued lines joined, comments dropped."""
    lines = [line for line in (ROOT / "docker" / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def arguments(keyword: str) -> list[str]:
    return [rest for word, rest in instructions() if word == keyword]


def copies() -> list[tuple[list[str], str]]:
    """(sources, target) of every COPY."""
    return [(words[:-1], words[-1]) for words in (rest.split() for rest in arguments("COPY"))]


def test_every_install_step_has_a_known_form():
    known = (
        r"useradd --system --uid \d+ --create-home --home-dir \S+ oddwatch",
        r'if \[ -n "\$TORCH_INDEX" \]; then pip install --index-url "\$TORCH_INDEX" torch torchvision; fi',
        r"python -c \".*\" > requirements\.txt",
        r"pip install -r requirements\.txt",
        r"pip install --no-deps \. && oddwatch --version",
    )
    steps = arguments("RUN")
    assert [bool(re.fullmatch(form, step)) for form, step in zip(known, steps, strict=True)] == [True] * len(known)


def test_the_dependencies_of_the_image_are_those_of_the_project(tmp_path: Path):
    (step,) = [s for s in arguments("RUN") if "> requirements.txt" in s]
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(step, shell=True, cwd=tmp_path, check=True, env=_path_first(Path(sys.executable).parent))
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert (tmp_path / "requirements.txt").read_text().splitlines() == wanted


def test_the_image_does_not_run_as_root_and_says_whether_it_lives():
    words = [word for word, _ in instructions()]
    assert arguments("USER") == ["oddwatch"]
    assert "RUN" not in words[words.index("USER") :]
    assert arguments("ENTRYPOINT") == ['["oddwatch"]']
    (health,) = arguments("HEALTHCHECK")
    script = json.loads(health.partition("CMD ")[2])[1]
    assert [Path(script).name] == [Path(s).name for sources, target in copies() for s in sources if target in script]


def test_what_is_copied_may_enter_and_secrets_and_data_may_not():
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    admitted = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert admitted == {source for sources, _ in copies() for source in sources}
    named = arguments("ENV") + arguments("ARG") + [json.dumps(COMPOSE["services"])]
    assert not re.search(r"(?i)(password|secret|token|key)\s*[=:]", " ".join(named))


def test_there_is_one_service_for_each_stage_and_it_can_be_scaled():
    services = {name: s for name, s in COMPOSE["services"].items() if name != "redis"}
    assert set(services) == set(STAGES)
    for stage, service in services.items():
        assert service["command"] == f"worker {stage} --config /etc/oddwatch/oddwatch.yaml"
        assert service["depends_on"]["redis"] == {"condition": "service_healthy"}
        assert "redis://redis:" in service["environment"]["REDIS_URL"]
        assert any(volume.endswith(":/etc/oddwatch:ro") for volume in service["volumes"])
        assert "shm_size" in service
        assert not {"container_name", "ports"} & set(service)


def test_decoding_waits_until_every_other_stage_is_healthy():
    others = {"redis", *STAGES} - {"decode"}
    assert COMPOSE["services"]["decode"]["depends_on"] == {o: {"condition": "service_healthy"} for o in others}


def test_the_gpu_file_changes_only_services_that_exist():
    gpu = yaml.safe_load((ROOT / "docker" / "compose.cuda.yaml").read_text())
    assert set(gpu["services"]) == {"features", "temporal"}
    for service in gpu["services"].values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]


@pytest.mark.slow
def test_the_project_installs_in_a_clean_environment_from_what_the_image_copies(tmp_path: Path):
    source = tmp_path / "src"
    source.mkdir()
    for sources, target in copies():
        for name in sources if target.startswith(".") else ():
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / name)
    venv.create(tmp_path / "venv", with_pip=True)
    # The dependencies are borrowed from here; installing them again would fetch gigabytes.
    env = _path_first(tmp_path / "venv" / "bin") | {"PYTHONPATH": _site_packages()}
    (step,) = [s for s in arguments("RUN") if "--no-deps ." in s]
    done = subprocess.run(step, shell=True, cwd=source, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    oddwatch = tmp_path / "venv" / "bin" / "oddwatch"
    where = [oddwatch.with_name("python"), "-c", "import pipeline, stages; print(pipeline.__file__, stages.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout.split()
    assert all(Path(file).is_relative_to(tmp_path / "venv") for file in found)
    said = subprocess.run([oddwatch, "--help"], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert all(command in said.stdout for command in ("worker", "score", "alerts", "status"))


def _site_packages() -> str:
    return str(Path(yaml.__file__).parents[1])


def _path_first(folder: Path) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "REDIS_URL")}
    return inherited | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A private server under docker/redis.conf, but on a socket of this test."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        absent("no redis-server or valkey-server on the PATH to try docker/redis.conf on")
    socket = tmp_path / "s"
    command = [server, ROOT / "docker" / "redis.conf", "--port", "0", "--unixsocket", socket, "--dir", tmp_path]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_for(socket.exists, process)
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(condition, *processes: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        for process in processes:
            assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < deadline, "nothing happened for 90 s"
        time.sleep(0.2)


def test_redis_neither_evicts_nor_writes_to_disk(redis_url: str):
    import redis

    with redis.Redis.from_url(redis_url) as client:
        settings = {name: client.config_get(name)[name] for name in ("maxmemory-policy", "save", "appendonly")}
        assert settings == {"maxmemory-policy": "noeviction", "save": "", "appendonly": "no"}
        assert int(client.config_get("maxmemory")["maxmemory"]) == 2 * 2**30


@pytest.mark.slow
def test_every_service_of_compose_becomes_healthy_and_stops_when_told(redis_url: str, tmp_path: Path):
    config = tmp_path / "oddwatch.yaml"
    config.write_text("cameras: {}\n")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    entry = bin_ / "oddwatch"
    entry.write_text(f"#!{sys.executable}\nfrom pipeline.cli.app import main\nmain()\n")
    entry.chmod(0o755)
    env = _path_first(bin_) | {"REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}

    def health() -> subprocess.CompletedProcess:
        script = [sys.executable, ROOT / "docker" / "healthcheck.py"]
        return subprocess.run(script, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert health().returncode == 1
    services = {name: s for name, s in COMPOSE["services"].items() if name in STAGES}
    started: list[subprocess.Popen] = []
    try:
        # In an order that respects depends_on; each is seen healthy before the next starts.
        for name in sorted(services, key=lambda n: len(services[n]["depends_on"])):
            words = shlex.split(services[name]["command"].replace("/etc/oddwatch/oddwatch.yaml", str(config)))
            started.append(subprocess.Popen(["oddwatch", *words], env=env, cwd=tmp_path))
            _wait_for(lambda name=name: f"{name}: seen" in health().stdout, *started)
            assert health().returncode == 0
        for process in started:
            process.terminate()
        assert [process.wait(30) for process in started] == [0, 0, 0, 0]
        assert health().returncode == 1
    finally:
        for process in started:
            process.kill()
            process.wait(10)
