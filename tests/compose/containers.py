"""Containers of single images, shut in as docker-compose.yml shuts them in."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

#: A read-only root, no capabilities, and none to be had.
HARDENED = ("--read-only", "--tmpfs=/tmp:mode=1777", "--cap-drop=ALL")
HARDENED += ("--security-opt=no-new-privileges",)
DEADLINE_S = 120


def docker(*args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the docker command; raise AssertionError with what it said where it fails."""
    done = subprocess.run(
        ["docker", *args], capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )
    if check:
        assert done.returncode == 0, f"docker {' '.join(args)}: {done.stdout}{done.stderr}"
    return done


@dataclass
class Bench:
    """A network, and what was started and made on it; all of it goes with `close`."""

    prefix: str = field(default_factory=lambda: f"poolscope-test-{uuid4().hex[:8]}")
    containers: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        docker("network", "create", self.prefix)

    def volume(self, name: str) -> str:
        """Make a volume."""
        volume = f"{self.prefix}-{name}"
        docker("volume", "create", volume)
        self.volumes.append(volume)
        return volume

    def options(self, *more: str, **env: str) -> list[str]:
        """Return what every container gets, and its environment."""
        variables = [part for name, value in env.items() for part in ("--env", f"{name}={value}")]
        return [*HARDENED, "--network", self.prefix, *more, *variables]

    def start(
        self, name: str, image: str, *command: str, more: Sequence[str] = (), **env: str
    ) -> str:
        """Start a container that is reached by `name` on the network; return its full name."""
        full = f"{self.prefix}-{name}"
        options = self.options("--network-alias", name, *more, **env)
        docker("run", "--detach", "--name", full, *options, image, *command)
        self.containers.append(full)
        return full

    def run(
        self, image: str, *command: str, more: Sequence[str] = (), **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a container to its end; return code and output, whatever they are."""
        return docker("run", "--rm", *self.options(*more, **env), image, *command, check=False)

    def close(self) -> None:
        """Remove everything."""
        if self.containers:
            docker("rm", "--force", "--volumes", *self.containers, check=False)
        if self.volumes:
            docker("volume", "rm", *self.volumes, check=False)
        docker("network", "rm", self.prefix)


def inside(container: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a running container; return code and output, whatever they are."""
    return docker("exec", container, *command, check=False)


def until(container: str, *command: str, right: Callable[[str], bool] = lambda _: True) -> str:
    """Repeat a command in a container until it succeeds with the right output; return that."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        done = inside(container, *command)
        if done.returncode == 0 and right(done.stdout):
            return done.stdout
        if time.monotonic() > deadline:
            logs = docker("logs", "--tail", "20", container, check=False)
            raise AssertionError(
                f"{command}: {done.stdout}{done.stderr}; {logs.stderr}{logs.stdout}"
            )
        time.sleep(0.2)


def stop(container: str) -> int:
    """Stop a container by its own signal; return its exit code (137: it had to be killed)."""
    docker("stop", "--time", "30", container)
    return int(docker("inspect", "--format", "{{.State.ExitCode}}", container).stdout)
