"""The docker command: is an engine there, and what its errors mean for the user."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.errors import ConfigError, LabError, ServiceError

log = logging.getLogger(__name__)

#: The first with all that docker-compose.yml needs (profiles by "*", merged lists of anchors).
COMPOSE_FROM = (2, 20)
PROBE_S = 20
NATIVE = "or use STACK=native"
MISSING = f"there is no docker command on the path; install Docker, {NATIVE}"

PORT_TAKEN = r"127\.0\.0\.1:(\d+).*?(?:already allocated|already in use)"
#: What the engine says, and what that means: (pattern, message; groups fill the braces).
MEANINGS = (
    (
        r"permission denied while trying to connect to the docker (?:daemon|API)",
        f"the Docker engine refuses this account; join the group docker, run as root, {NATIVE}",
    ),
    (
        r"(?:cannot connect to the docker daemon|connect to the docker API) at ([^\s;]+?)[.;]? ",
        "no Docker engine answers at {0}; start it, name another by DOCKER_HOST, " + NATIVE,
    ),
    (
        r"error during connect|cannot connect to the docker daemon",
        "no Docker engine answers; start it, name another by DOCKER_HOST, " + NATIVE,
    ),
    (
        PORT_TAKEN,
        "127.0.0.1:{0} is taken by another program; end that, or choose another port",
    ),
    (
        r"Minimum memory limit allowed is (\S+)",
        "Docker gives a container at least {0} of memory; raise DB_MEMORY or APP_MEMORY",
    ),
    (
        r"no space left on device",
        "no space is left for Docker's images and volumes; `docker system df` shows what takes it",
    ),
    (
        r"(?:No such image: |pull access denied for |manifest for |unable to find image ')"
        r"([^\s,']+)",
        "the image {0} is not here and cannot be had; `make images-offline` builds what can be "
        "built from Debian packages, " + NATIVE,
    ),
)


class PortTaken(ConfigError):
    """A port of 127.0.0.1 was free when it was chosen, and is taken now."""

    def __init__(self, message: str, port: int) -> None:
        super().__init__(message)
        self.port = port


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers, as `docker info` describes it."""

    version: str
    compose: str
    cpus: int
    memory_bytes: int
    cgroups: str
    cpu_limits: bool
    rootless: bool


def probe() -> Engine:
    """Ask for the engine; raise ConfigError in one line where it cannot be used."""
    info = _info()
    done = _call(["docker", "compose", "version", "--short"], PROBE_S)
    if done.returncode:
        raise ConfigError(
            "the docker command has no compose plugin; install it (docker-compose-plugin, or "
            f"docker-compose of Debian 13), {NATIVE}"
        )
    compose = done.stdout.strip().removeprefix("v")
    if tuple(int(n) for n in re.findall(r"\d+", compose)[:2]) < COMPOSE_FROM:
        wanted = ".".join(map(str, COMPOSE_FROM))
        raise ConfigError(
            f"docker compose {compose} is too old; {wanted} or newer is needed, {NATIVE}"
        )
    return Engine(
        version=str(info["ServerVersion"]),
        compose=compose,
        cpus=int(info["NCPU"]),
        memory_bytes=int(info["MemTotal"]),
        cgroups=f"cgroup v{info.get('CgroupVersion', '1')}, {info.get('CgroupDriver', '?')}",
        cpu_limits=bool(info.get("CpuCfsQuota")),
        rootless="name=rootless" in (info.get("SecurityOptions") or []),
    )


def _info() -> dict[str, Any]:
    done = _call(["docker", "info", "--format", "{{json .}}"], PROBE_S)
    try:
        info = json.loads(done.stdout)
    except ValueError:
        info = {}
    errors = "\n".join(info.get("ServerErrors") or [])
    # Some versions of the command end with 0 where no engine answers.
    if done.returncode or errors or not info.get("ServerVersion"):
        raise fault("docker info", f"{done.stderr}\n{errors}", ConfigError)
    return dict(info)


def run(args: list[str], env: Mapping[str, str] | None = None, *, errors: bool = False) -> str:
    """Run a docker command and return its output, with standard error where asked for.

    Raises ServiceError, or ConfigError where it is the user who can help.
    """
    done = _call(args, None, env)
    if done.returncode:
        raise fault(f"{args[0]} {_verb(args)}", f"{done.stderr}\n{done.stdout}")
    return done.stdout + (done.stderr if errors else "")


def attempt(args: list[str]) -> str:
    """Run a docker command whose failure says nothing but that there is nothing; its output."""
    return _call(args, None).stdout


def _call(
    args: list[str], timeout_s: float | None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    log.debug("run %s", shlex.join(args))
    if shutil.which("docker") is None:
        raise ConfigError(MISSING)
    # Left alone by a lab that was killed, it would go on making containers.
    dying = ["setpriv", "--pdeathsig=KILL", "--"] if shutil.which("setpriv") else []
    try:
        return subprocess.run(
            [*dying, *args],
            env={**(os.environ if env is None else env), "LC_ALL": "C.UTF-8"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            start_new_session=True,  # the terminal's Ctrl-C is the lab's to handle
        )
    except subprocess.TimeoutExpired:
        raise ServiceError(
            f"`{args[0]} {_verb(args)}` did not end within {timeout_s:g} s"
        ) from None


def fault(what: str, text: str, otherwise: type[LabError] = ServiceError) -> LabError:
    """Return the error that an answer of docker stands for; an unknown one is quoted."""
    for pattern, meaning in MEANINGS:
        if found := re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            message = meaning.format(*found.groups())
            if pattern == PORT_TAKEN:
                return PortTaken(message, int(found[1]))
            return ConfigError(message)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()] or lines
    return otherwise(f"`{what}` failed: {errors[-1] if errors else 'without a word'}")


def _verb(args: list[str]) -> str:
    """Return the subcommand of a command line, for messages."""
    words = iter(args[1:])
    found: list[str] = []
    for word in words:
        if word.startswith("-"):
            if "=" not in word and found == ["compose"]:
                next(words, None)  # the global options of compose all take a value
            continue
        found.append(word)
        if word != "compose":
            break
    return " ".join(found)


def main() -> int:
    """Say which engine answers, or in one line why none can be used; return the exit code."""
    try:
        engine = probe()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return error.exit_code
    print(f"Docker {engine.version}, compose {engine.compose}, {engine.cgroups}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
