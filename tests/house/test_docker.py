"""The container files, without a container engine: what the image does is done here, below a folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dockerfile import Image, instructions, serve
from places import ROOT, absent

DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
STAGES = ("decode", "features", "temporal", "alerting")
SITE_PACKAGES = Path(yaml.__file__).parents[1]
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root makes users, as the image does")


def arguments(keyword: str) -> list[str]:
    return [rest for word, rest in instructions(DOCKERFILE) if word == keyword]


def copies() -> list[tuple[list[str], str]]:
    """(sources, target) of every COPY."""
    return [(words[:-1], words[-1]) for words in (rest.split() for rest in arguments("COPY"))]


def test_the_image_does_not_run_as_root_and_says_whether_it_lives():
    words = [word for word, _ in instructions(DOCKERFILE)]
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


# -- what the image does ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """All steps done, with the packages that are installed here instead of fetching gigabytes again."""
    return Image(tmp_path_factory.mktemp("image"), ROOT, borrowed=SITE_PACKAGES).build(DOCKERFILE)


@needs_root
@pytest.mark.slow
def test_the_image_holds_the_command_with_all_it_needs(image: Image) -> None:
    said = image.run(*image.entrypoint, *image.command)
    assert said.returncode == 0, said.stderr
    assert all(command in said.stdout for command in ("worker", "score", "alerts", "status"))
    where = image.run("python", "-c", "import pipeline, stages; print(pipeline.__file__, stages.__file__)").stdout
    assert all(Path(file).is_relative_to(image.root / "venv") for file in where.split())
    assert image.user != "root"


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("of_its_own", [False, True], ids=["default index", "an index of PyTorch's own"])
def test_the_image_gets_the_tested_releases_and_pytorch_from_where_it_was_told(
    tmp_path: Path, of_its_own: bool
) -> None:
    """On made indexes that offer a newer release of everything too."""
    tested = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    wanted = [re.split(r"[\[><=; ]", line)[0] for line in project_dependencies()]
    newer = [(name, "9999") for name in wanted]
    default = serve(tmp_path / "default", *((name, tested[name]) for name in wanted), *newer)
    other = serve(tmp_path / "other", ("torch", "2.5+cu0"), ("torchvision", "0.20+cu0"))
    given = {"TORCH_INDEX": other} if of_its_own else {}
    image = Image(tmp_path / "image", ROOT, given)
    image.env |= {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": default}
    image.build(DOCKERFILE, until="README.md")
    listed = json.loads(image.run("pip", "list", "--format=json", "--exclude=pip", "--exclude=setuptools").stdout)
    expected = {name: tested[name] for name in wanted}
    if of_its_own:
        expected |= {"torch": "2.5+cu0", "torchvision": "0.20+cu0"}
    assert {entry["name"]: entry["version"] for entry in listed} == expected
    assert image.inside("requirements.txt").read_text().splitlines() == project_dependencies()


def project_dependencies() -> list[str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def test_every_dependency_has_a_tested_release() -> None:
    constrained = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    named = {re.split(r"[\[><=; ]", line)[0] for line in project_dependencies()}
    assert named <= constrained, "make lock"


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


@needs_root
@pytest.mark.slow
def test_every_service_of_compose_becomes_healthy_and_stops_when_told(
    image: Image, redis_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "oddwatch.yaml"
    config.write_text("cameras: {}\n")
    env = image.env | {"REDIS_URL": redis_url}

    def health() -> subprocess.CompletedProcess[str]:
        return image.run(*image.health, REDIS_URL=redis_url)

    assert health().returncode == 1
    services = {name: s for name, s in COMPOSE["services"].items() if name in STAGES}
    started: list[subprocess.Popen] = []
    try:
        # In an order that respects depends_on; each is seen healthy before the next starts.
        for name in sorted(services, key=lambda n: len(services[n]["depends_on"])):
            words = shlex.split(services[name]["command"].replace("/etc/oddwatch/oddwatch.yaml", str(config)))
            started.append(subprocess.Popen([*image.entrypoint, *words], env=env, cwd=tmp_path))
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
