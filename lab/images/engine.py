"""The Docker engine, by its own command: ask, build, import."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import ServiceError

log = logging.getLogger(__name__)

#: Docker hands these to RUN steps by itself once they are build arguments, and keeps them out of
#: the image.
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
ASK_S = 60


@dataclass(frozen=True)
class Image:
    """An image that the engine has: its id and its size in bytes."""

    id: str
    bytes: int


class Engine:
    """A Docker engine that answers."""

    def __init__(self, docker: str) -> None:
        self._docker = docker

    @classmethod
    def open(cls) -> Engine:
        """Return the engine; raise ServiceError where there is no command, engine or right."""
        docker = shutil.which("docker")
        if docker is None:
            raise ServiceError(
                "there is no docker command; install Docker (https://docs.docker.com/engine), or "
                "use STACK=native, which needs none"
            )
        engine = cls(docker)
        engine._ask("version", "--format", "{{.Server.Version}}")
        return engine

    def image(self, name: str) -> Image | None:
        """Return an image that is here, or None."""
        done = self._run(["image", "inspect", "--format", "{{.Id}} {{.Size}}", name])
        if done.returncode:
            return None
        identity, size = done.stdout.split()
        return Image(identity, int(size))

    def label(self, name: str, label: str) -> str | None:
        """Return a label of an image, None where image or label is missing."""
        wanted = f'{{{{index .Config.Labels "{label}"}}}}'
        done = self._run(["image", "inspect", "--format", wanted, name])
        return done.stdout.strip() or None if done.returncode == 0 else None

    def build(
        self,
        name: str,
        place: tuple[Path, Path],
        arguments: Mapping[str, str],
        log_file: Path,
    ) -> None:
        """Build an image of a Dockerfile and the folder it copies from, over the host's network.

        Raises ServiceError with the log's last words.
        """
        dockerfile, context = place
        args = ["build", "--network", "host", "--tag", name, "--file", str(dockerfile)]
        for argument, value in arguments.items():
            args += ["--build-arg", f"{argument}={value}"]
        for proxy in PROXIES:
            if os.environ.get(proxy):
                args += ["--build-arg", proxy]  # the value is taken from the environment
        with log_file.open("w") as output:
            code = self._stream([*args, str(context)], output.fileno())
        if code:
            last = [line for line in log_file.read_text().splitlines() if line.strip()][-1:]
            raise ServiceError(f"{name} was not built: {''.join(last)}; see {log_file}")

    def import_folder(self, name: str, folder: Path, changes: Sequence[str]) -> None:
        """Make an image of a folder that holds a root file system."""
        options = [part for change in changes for part in ("--change", change)]
        args = [self._docker, "import", *options, "-", name]
        log.debug("run tar -C %s -c . | %s", folder, " ".join(args))
        with subprocess.Popen(
            ["tar", "-C", str(folder), "--numeric-owner", "-c", "."], stdout=subprocess.PIPE
        ) as tar:
            done = subprocess.run(
                args, stdin=tar.stdout, capture_output=True, text=True, check=False
            )
        if done.returncode or tar.returncode:
            raise ServiceError(f"{name} was not imported: {done.stderr.strip() or 'tar failed'}")

    def _ask(self, *args: str) -> str:
        done = self._run(args)
        if done.returncode:
            raise ServiceError(explain(done.stderr))
        return done.stdout.strip()

    def _run(self, args: Sequence[str]) -> subprocess.CompletedProcess[str]:
        log.debug("run docker %s", " ".join(args))
        try:
            return subprocess.run(
                [self._docker, *args], capture_output=True, text=True, check=False, timeout=ASK_S
            )
        except subprocess.TimeoutExpired:
            raise ServiceError(
                f"the Docker engine did not answer within {ASK_S} s; look at its log"
            ) from None

    def _stream(self, args: Sequence[str], output: int) -> int:
        log.debug("run docker %s", " ".join(args))
        return subprocess.run(
            [self._docker, *args], stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode


def explain(stderr: str) -> str:
    """Return one line for what the docker command said when it could not ask the engine."""
    said = stderr.strip().splitlines()[-1:] or ["no reason given"]
    where = os.environ.get("DOCKER_HOST") or "its usual socket"
    if "permission denied" in stderr.lower():
        return (
            f"the Docker engine at {where} refuses this account; add it to the group `docker` and "
            "log in again, or use STACK=native"
        )
    if "cannot connect" in stderr.lower() or "is the docker daemon running" in stderr.lower():
        return (
            f"no Docker engine answers at {where}; start one (as root: `.ci/engine start`), or use "
            "STACK=native, which needs none"
        )
    return f"the Docker engine at {where} does not answer: {said[0]}"
