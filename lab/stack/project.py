"""One compose project: its variables, its containers by service, and the end of all of it."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from lab.errors import LabError, ServiceError
from lab.files import write_atomic
from lab.interrupts import shielded
from lab.paths import ROOT
from lab.stack import docker
from lab.stack.home import Home

log = logging.getLogger(__name__)

COMPOSE_FILE = ROOT / "docker-compose.yml"
RECORD = "compose.json"
#: Below the home: what Poolscope's exporter is told.
STATE_FOLDER = "compose"
STATE_FILE = "state.json"
LABEL = "com.docker.compose.project"
#: Removing what was made while the command that made it was being ended.
SWEEPS, SWEEP_S = 20, 0.3


@dataclass
class Project:
    """Runs docker compose for one project; `env` holds every variable of the compose file."""

    home: Home
    env: dict[str, str] = field(default_factory=dict, repr=False)  # passwords

    @property
    def name(self) -> str:
        """Name of the project on the engine, different for each checkout."""
        return self.home.name

    def command(self, *words: str) -> list[str]:
        """Return a docker compose command line; no secret is in it."""
        return [
            *("docker", "compose", "--project-name", self.name),
            *("--project-directory", str(ROOT), "--file", str(COMPOSE_FILE)),
            # Nothing of the user's .env: the settings of the cell are the environment.
            *("--env-file", "/dev/null", "--profile", "*", *words),
        ]

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """Run a compose command to its end, which a signal waits for."""
        with shielded():
            return docker.run(self.command(*words), {**self.env, **(env or {})})

    def up(self, *services: str, fresh: bool = False, env: Mapping[str, str] | None = None) -> None:
        """Start services, none that they depend on; `fresh` ones in new containers."""
        self.record()
        words = ["--force-recreate", "--renew-anon-volumes"] if fresh else []
        self.run("up", "--detach", "--no-deps", "--no-build", *words, *services, env=env)

    def remove(self, *services: str) -> None:
        """Stop and remove the containers of services, where there are any."""
        if set(self.containers().values()) & set(services):
            self.run("rm", "--stop", "--force", *services)

    def record(self) -> None:
        """Leave a note that this home has a project on an engine."""
        path = self.home.run / RECORD
        if not path.exists():
            write_atomic(path, json.dumps({"project": self.name}))

    def containers(self, *, running: bool = False) -> dict[str, str]:
        """Return the service of each container of this project by the container's name."""
        return containers(self.name, running=running)

    def container(self, service: str) -> str:
        """Return the name of a service's (first) container."""
        return f"{self.name}-{service}-1"

    def alive(self, service: str) -> bool:
        """Return whether a service's container runs."""
        return service in self.containers(running=True).values()

    def killed_for_memory(self, service: str) -> bool:
        """Return whether the kernel killed a service's container at its memory limit."""
        shown = ["--format", "{{.State.OOMKilled}}", self.container(service)]
        return docker.attempt(["docker", "inspect", *shown]).strip() == "true"

    def tail(self, service: str, lines: int = 20) -> str:
        """Return the end of a service's log, over all of its containers."""
        names = [name for name, of in self.containers().items() if of == service]
        return "\n".join(log_of(name, lines) for name in sorted(names)).strip("\n")


def containers(project: str, *, running: bool = False) -> dict[str, str]:
    """Return the service of each container of a project by the container's name."""
    words = ["--filter", f"label={LABEL}={project}"]
    shown = '{{.Names}} {{.Label "com.docker.compose.service"}}'
    output = docker.run(
        ["docker", "ps", *([] if running else ["--all"]), *words, "--format", shown]
    )
    return {name: service for name, _, service in (s.partition(" ") for s in output.splitlines())}


def log_of(container: str, lines: int) -> str:
    """Return the end of a container's log, what it wrote to standard error included."""
    done = subprocess.run(
        ["docker", "logs", "--tail", str(lines), container],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.stdout.rstrip() if done.returncode == 0 else ""


def logs_of(project: str, lines: int) -> dict[str, str]:
    """Return the end of each service's log by the service's name."""
    names = containers(project)
    with ThreadPoolExecutor(max_workers=4) as pool:
        texts = dict(zip(names, pool.map(lambda name: log_of(name, lines), names), strict=True))
    found: dict[str, str] = {}
    for name in sorted(names):
        if texts[name]:
            found[names[name]] = "\n".join(filter(None, (found.get(names[name]), texts[name])))
    return found


def recorded(home: Home) -> bool:
    """Return whether this home has, or an earlier start left, a project on an engine."""
    return (home.run / RECORD).is_file()


def running(home: Home) -> dict[str, str]:
    """Return the state of each running container of this home's project by its service.

    Where the engine does not answer, none runs.
    """
    if not recorded(home):
        return {}
    words = ["docker", "ps", "--filter", f"label={LABEL}={home.name}", "--format"]
    shown = '{{.Label "com.docker.compose.service"}} {{.Names}}, {{.Status}}'
    try:
        lines = docker.run([*words, shown]).splitlines()
    except LabError as error:
        log.debug("containers of %s: %s", home.name, error)
        return {}
    return dict(line.split(" ", 1) for line in lines)


def take_down(home: Home) -> list[str]:
    """Remove containers, networks and groups of this home's project; return its services.

    Volumes stay. Where the engine does not answer, nothing of it can run, and the note stays.
    """
    if not recorded(home):
        return []
    with shielded():
        _end_orphans(home.name)
        try:
            found = sorted(set(containers(home.name).values()) - {""})
            # Without the file: what is there goes by its labels, whatever the settings were. It
            # trips over a container that is just being removed; what it leaves is swept.
            words = ["--project-name", home.name, "down", "--remove-orphans"]
            docker.attempt(["docker", "compose", *words])
            _sweep(home.name)
        except LabError as error:
            log.warning("containers of %s may be left: %s", home.name, error)
            return []
        remove_groups(home.name)
        _forget_due(home)
        (home.run / RECORD).unlink()
    return found


def _forget_due(home: Home) -> None:
    """Have the state file no longer say who is due: it outlives the servers."""
    path = home.root / STATE_FOLDER / STATE_FILE
    try:
        if path.is_file():
            state = json.loads(path.read_text(encoding="utf-8"))
            write_atomic(path, json.dumps(state | {"due": None}))
    except (LabError, OSError, ValueError, TypeError) as error:  # what runs is ended all the same
        log.warning("%s still says who is due: %s", path, error)


def _end_orphans(project: str) -> None:
    """End compose commands of a lab that was killed: they would go on making containers.

    The kernel ends the docker command with its lab, but not the plugin that it runs.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = process.cmdline()
            if "compose" in words and project in words:
                process.kill()
                found.append(process)
    psutil.wait_procs(found, timeout=10)


def _sweep(project: str) -> None:
    """Remove what `down` left: also what a command that was ended made in its last moment."""
    of_it = ["--filter", f"label={LABEL}={project}"]
    for _ in range(SWEEPS):
        containers_left = docker.run(["docker", "ps", "--all", "--quiet", *of_it]).split()
        if containers_left:
            docker.attempt(["docker", "rm", "--force", "--volumes", *containers_left])
        networks_left = docker.run(["docker", "network", "ls", "--quiet", *of_it]).split()
        if networks_left:
            docker.attempt(["docker", "network", "rm", *networks_left])
        if not containers_left and not networks_left:
            return
        time.sleep(SWEEP_S)
    raise ServiceError(f"{', '.join([*containers_left, *networks_left])} cannot be removed")


def has_volumes(home: Home) -> bool:
    """Return whether this home ever had a compose stack: its data is in the engine's volumes."""
    return (home.root / STATE_FOLDER / STATE_FILE).is_file()


def remove_volumes(home: Home) -> None:
    """Remove the volumes of this home's project, and with them the note that there are any."""
    words = ["docker", "volume", "ls", "--quiet", "--filter", f"label={LABEL}={home.name}"]
    for volume in docker.run(words).split():
        docker.run(["docker", "volume", "rm", volume])
    (home.root / STATE_FOLDER / STATE_FILE).unlink(missing_ok=True)


def remove_groups(project: str) -> None:
    """Remove the empty parent groups that the engine's cgroupfs driver leaves behind.

    systemd removes its own; without the right to, they stay, empty.
    """
    root = Path("/sys/fs/cgroup")
    for controller in (root, *(path for path in root.iterdir() if path.is_dir())):
        for depth in ("", "*/", "*/*/"):
            for folder in controller.glob(f"{depth}{project}-*.slice"):
                with contextlib.suppress(OSError):
                    folder.rmdir()
