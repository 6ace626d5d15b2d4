"""docker-compose.yml as a user has it: hardened, up by `docker compose up`, faults in one line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab import env_file
from lab.files import write_atomic
from lab.images import offline
from lab.paths import ROOT
from lab.settings import PORT_FIELDS, SECRET_FIELDS
from lab.stack import docker
from lab.stack.home import Home
from lab.stack.project import remove_groups, remove_volumes, take_down
from tests.unit.scrapes import taken

#: These end by themselves.
ONE_SHOT = {"seed", "locust-master", "locust-worker", "pgbench"}
LIMITED = {"postgres", "pgbouncer", "fastapi", "django", "flask"}


@pytest.fixture
def home() -> Iterator[Home]:
    """A home of its own; its containers and volumes are removed."""
    folder = Path(tempfile.mkdtemp(prefix="poolscope-test-"))
    folder.chmod(0o755)
    found = Home(folder)
    (folder / "compose").mkdir()
    yield found
    take_down(found)
    remove_volumes(found)
    shutil.rmtree(folder, ignore_errors=True)


def compose(home: Home, *words: str) -> str:
    """Run docker compose as a user does, with an .env of this home."""
    env = {n: v for n, v in os.environ.items() if not n.startswith("COMPOSE_")}
    env |= {"COMPOSE_PROJECT_NAME": home.name, "STATE_DIR": str(home.root / "compose")}
    return docker.run(
        ["docker", "compose", "--file", str(ROOT / "docker-compose.yml"),
         "--env-file", str(home.root / ".env"), *words], env,
    )  # fmt: skip


@contextmanager
def free_port() -> Iterator[int]:
    """Hold a free port of 127.0.0.1 for the length of a block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


def write_env(home: Home, **toggles: Any) -> dict[str, int]:
    """Write an .env with free ports and what images there are; return the ports."""
    with ExitStack() as held:  # any, since others here may take the conventional ones meanwhile
        ports = {name: held.enter_context(free_port()) for name in PORT_FIELDS}
    values = {name.upper(): f"test-{name}" for name in SECRET_FIELDS}
    values |= {name.upper(): str(port) for name, port in ports.items()}
    values |= {name: str(value) for name, value in toggles.items()}
    text = env_file.render(values | offline.variables())
    write_atomic(home.root / ".env", text.replace("=${FRAMEWORK},grafana", "=${FRAMEWORK}"))
    return ports


def test_every_service_is_hardened(home: Home) -> None:
    """No root, no capabilities, no new ones, nothing writable, nothing reachable from outside."""
    write_env(home)
    services = json.loads(compose(home, "--profile", "*", "config", "--format", "json"))["services"]
    assert len(services) == 14
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["read_only"] is True, name
        assert "privileged" not in service, name
        assert list(service["networks"]) == ["benchmark-net"], name
        assert all(p["host_ip"] == "127.0.0.1" for p in service.get("ports", [])), name
        sources = [v["source"] for v in service.get("volumes", [])]
        assert not [s for s in sources if "docker.sock" in s], name
        assert ("healthcheck" in service) == (name not in ONE_SHOT), name
        assert ("cgroup_parent" in service) == (name in LIMITED), name
        assert ("cpus" in service) == (name in LIMITED), name
        image = "grafana" if name == "grafana" else service["image"]
        form = ["docker", "image", "inspect", "--format", "{{.Config.User}}", image]
        user = service.get("user") or ("472" if name == "grafana" else docker.run(form).strip())
        assert user.partition(":")[0] not in ("", "0", "root"), name


def test_compose_up_alone_gives_a_working_watched_stack(home: Home) -> None:
    """Every container is healthy, the service answers, Prometheus sees all of it, and `down`
    leaves the volumes only.
    """  # noqa: D205
    ports = write_env(home, FRAMEWORK="flask", ROUTE="pgbouncer")
    try:
        compose(home, "up", "--detach", "--wait", "--no-build")
        rows = compose(home, "ps", "--format", "{{.Service}} {{.Health}}").splitlines()
        assert {row.split()[0] for row in rows if row.endswith(" healthy")} == {
            "postgres", "pgbouncer", "flask", "exporter", "postgres-exporter",
            "pgbouncer-exporter", "prometheus",
        }  # fmt: skip
        url = f"http://127.0.0.1:{ports['flask_port']}/benchmark/db-test"
        with httpx.Client(trust_env=False, timeout=10) as client:
            assert client.get(url).json()["id"]
            exporter = f"http://127.0.0.1:{ports['poolscope_exporter_port']}/metrics"
            text = taken(client.get(exporter).text)
        for name in ("postgres", "pgbouncer", "flask"):
            assert f'container_cpu_usage_seconds_total{{name="{name}"}}' in text
            assert f'container_spec_cpu_quota{{name="{name}"}}' in text
        assert 'pg_connecting_backends{phase="authentication"}' in text
        assert not [line for line in text.splitlines() if line.startswith("poolscope_collector_up")
                    and not line.endswith(" 1.0")]  # fmt: skip
    finally:
        compose(home, "down")
        remove_groups(home.name)


BAD = {
    "image not to be had": (["POSTGRES_IMAGE=poolscope/nothing:1"], "POSTGRES_IMAGE=poolscope/no"),
    "memory below Docker's least": (["DB_MEMORY=4m"], "Docker gives a container at least"),
    "memory too little to start": (["DB_MEMORY=12m"], "DB_MEMORY=12m is too little; raise it"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(home: Home, name: str) -> None:
    """A mistake that only the engine can find: one line, exit code 2, no container left."""
    words, message = BAD[name]
    done = seed(home, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len([s for s in done.stderr.splitlines() if s.startswith("lab: ")]) == 1
    assert "Traceback" not in done.stderr
    left = ["docker", "ps", "--all", "--quiet", "--filter", f"name={home.name}-"]
    assert not docker.run(left)


def test_a_port_that_was_asked_for_and_is_taken_is_named(home: Home) -> None:
    """Neither stack takes another port behind the user's back."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = seed(home, f"POSTGRES_PORT={port}")
    assert done.returncode == 2
    assert f"POSTGRES_PORT={port} was asked for, but 127.0.0.1:{port} is taken" in done.stderr


def seed(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `lab seed` on the compose stack of a home."""
    names = {"HOME": home.root, "RESULTS": home.root / "results", "ENV_FILE": home.root / "env"}
    env = os.environ | {f"POOLSCOPE_{name}": str(path) for name, path in names.items()}
    return subprocess.run(
        [sys.executable, "-m", "lab", "seed", "STACK=compose", *words],
        env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
