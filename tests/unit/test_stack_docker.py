"""What can be wrong with a Docker engine: one line with the next step, by docker's own words.

The words were taken from docker 20.10 to 29 and docker compose 2.26; a fake program says them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from lab.errors import ConfigError, ServiceError
from lab.paths import ROOT
from lab.settings import build
from lab.stack import docker, images, select
from lab.stack.home import Home

INFO = {
    **{"ServerVersion": "28.0.1", "NCPU": 4, "MemTotal": 8 * 2**30, "CpuCfsQuota": True},
    **{"CgroupVersion": "2", "CgroupDriver": "systemd", "SecurityOptions": ["name=rootless"]},
}
SOCKET = "unix:///var/run/docker.sock"
REFUSED = (
    f"permission denied while trying to connect to the Docker daemon socket at {SOCKET}: "
    'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.24/info": dial unix /var/run/docker.sock: '
    "connect: permission denied"
)
ABSENT = f"Cannot connect to the Docker daemon at {SOCKET}. Is the docker daemon running?"
ABSENT_29 = (
    f"failed to connect to the docker API at {SOCKET}; check if the path is correct and if the "
    "daemon is running: dial unix /var/run/docker.sock: connect: no such file or directory"
)

Fake = Callable[..., None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a program `docker` on the path that gives these answers: command -> (text, code)."""

    def make(**answers: tuple[str, int]) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        lines = ["#!/bin/sh", 'case "$1 $2" in']
        for name, (text, code) in answers.items():
            (folder / name).write_text(text)
            stream = "" if code == 0 else ">&2"
            words = name.replace("_", "\\ ")
            lines.append(f"  {words}*) cat {folder / name} {stream}; exit {code};;")
        lines += ["esac", "exit 1"]
        program = folder / "docker"
        program.write_text("\n".join(lines))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return make


@pytest.fixture
def home() -> Iterator[Home]:
    """A home that servers which drop root can enter, unlike pytest's own folder."""
    folder = Path(tempfile.mkdtemp(prefix="poolscope-test-"))
    folder.chmod(0o755)
    yield Home(folder)
    shutil.rmtree(folder)


GOOD = {"info": (json.dumps(INFO), 0), "compose_version": ("2.26.1\n", 0)}
#: What docker says, and what the user reads.
WRONG = {
    "refused": ({"info": (REFUSED, 1)}, "refuses this account; join the group docker"),
    "absent": ({"info": (ABSENT, 1)}, f"no Docker engine answers at {SOCKET}; start it"),
    "absent, code 0": (
        {"info": (json.dumps({"ServerErrors": [ABSENT]}), 0)},
        f"no Docker engine answers at {SOCKET}; start it",
    ),
    "absent, docker 29": ({"info": (ABSENT_29, 1)}, f"answers at {SOCKET}; start it"),
    "no compose": (
        GOOD | {"compose_version": ("docker: unknown command: docker compose", 1)},
        "no compose plugin; install it",
    ),
    "old compose": (
        GOOD | {"compose_version": ("2.17.2\n", 0)},
        "docker compose 2.17.2 is too old; 2.20 or newer",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_engine_that_cannot_be_used_is_one_line(fake, name):
    """Each says what is wrong, what to do, and the way without Docker."""
    answers, message = WRONG[name]
    fake(**answers)
    with pytest.raises(ConfigError) as raised:
        docker.probe()
    assert message in str(raised.value)
    assert "or use STACK=native" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_docker_program_is_one_line(monkeypatch, tmp_path):
    """A host that never had Docker."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no docker command on the path; install Docker"):
        docker.probe()


def test_an_engine_that_answers_is_described(fake):
    """Version, CPUs, memory, cgroups, and whether it runs without root."""
    fake(**GOOD)
    engine = docker.probe()
    assert (engine.version, engine.compose, engine.cpus) == ("28.0.1", "2.26.1", 4)
    assert engine.cgroups == "cgroup v2, systemd"
    assert engine.rootless
    assert engine.cpu_limits


SAID = {
    "driver failed programming external connectivity on endpoint x-postgres-1 (ab): Bind for "
    "127.0.0.1:5432 failed: port is already allocated": "127.0.0.1:5432 is taken",
    "Error starting userland proxy: listen tcp4 127.0.0.1:9101: bind: address already in use": (
        "127.0.0.1:9101 is taken"
    ),
    "Error response from daemon: Minimum memory limit allowed is 6MB": "at least 6MB of memory",
    "write /var/lib/docker/tmp/x: no space left on device": "no space is left for Docker's",
    "Error response from daemon: No such image: poolscope/nothing:x": (
        "the image poolscope/nothing:x is not here"
    ),
}


@pytest.mark.parametrize("said", SAID)
def test_what_the_engine_says_is_put_into_a_users_words(said):
    """A mistake of the user's is a ConfigError; anything else is quoted."""
    error = docker.fault("docker compose up", f"Container x Creating\n{said}\n")
    assert isinstance(error, ConfigError)
    assert SAID[said] in str(error)


def test_an_unknown_fault_is_quoted():
    """The last line that says error, with the command."""
    text = " Container x  Starting\nError response from daemon: something new\n"
    error = docker.fault("docker compose up", text)
    assert isinstance(error, ServiceError)
    assert str(error) == "`docker compose up` failed: Error response from daemon: something new"


OFFLINE_HOST = (
    'Error response from daemon: Get "https://registry-1.docker.io/v2/": dial tcp: lookup '
    "registry-1.docker.io on 192.0.2.1:53: no such host"
)


def test_an_image_that_cannot_be_had_is_named(fake, tmp_path):
    """With the variable, the reason, and what builds one without a registry."""
    fake(**GOOD, pull=(OFFLINE_HOST, 1), image=("", 1))
    settings = build({"POSTGRES_IMAGE": "postgres:99"})
    with pytest.raises(ConfigError) as raised:
        images.resolve(Home(tmp_path), settings, lambda service: None)
    message = str(raised.value)
    assert "POSTGRES_IMAGE=postgres:99 is not here and cannot be pulled" in message
    assert "no such host" in message
    assert "make images-offline" in message
    assert "no Docker engine" not in message


def test_auto_takes_native_and_says_why(fake, tmp_path):
    """One line names the stack and the reason; nothing was asked of Docker that failed loudly."""
    fake(info=(REFUSED, 1))
    console = Console(record=True, width=200)
    stack = select.open_stack(Home(tmp_path), build({}), set(), console)
    stack.stop()
    line = console.export_text().splitlines()[0]
    assert line.startswith("stack native (the Docker engine refuses this account; join the group")
    assert "STACK=native" not in line


@pytest.mark.parametrize("name", ["refused", "absent", "no compose", "old compose"])
def test_asked_for_compose_ends_with_code_2_and_leaves_nothing(fake, home, name):
    """`make bench STACK=compose` without a usable engine: one line, and no file of a run."""
    fake(**WRONG[name][0])
    env = os.environ | {
        "POOLSCOPE_HOME": str(home.root),
        "POOLSCOPE_RESULTS": str(home.root / "results"),
        "POOLSCOPE_ENV_FILE": str(home.root / "env"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "lab", "bench", "STACK=compose", "PRESET=smoke"],
        env=env, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert WRONG[name][1] in done.stderr
    assert not list((home.root / "results").glob("*"))
