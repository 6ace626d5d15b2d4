"""What docker-compose.yml is given: its variables, its own images, and what must fit."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from lab.config import memory_size
from lab.errors import ConfigError
from lab.settings import SECRET_FIELDS, Settings
from lab.stack import docker, servers
from lab.stack.docker import Engine
from lab.stack.home import Home
from lab.stack.images import Images
from lab.stack.project import LABEL, Project

#: The variable of each program's image, and how it is asked for its version.
PROGRAMS = {
    "postgres": ("POSTGRES_IMAGE", ["--entrypoint", "postgres"]),
    "pgbouncer": ("PGBOUNCER_IMAGE", ["--entrypoint", "pgbouncer"]),
    "python": ("POOLSCOPE_IMAGE", ["--entrypoint", "python"]),
    "prometheus": ("PROMETHEUS_IMAGE", []),
    "postgres_exporter": ("POSTGRES_EXPORTER_IMAGE", []),
    "pgbouncer_exporter": ("PGBOUNCER_EXPORTER_IMAGE", []),
}


def check_memory(s: Settings, engine: Engine) -> None:
    """Raise ConfigError where the engine has less memory than the limits allow for."""
    wanted = memory_size(s.db_memory) + memory_size(s.app_memory)
    if wanted > engine.memory_bytes:
        raise ConfigError(
            f"DB_MEMORY={s.db_memory} and APP_MEMORY={s.app_memory} are together more than the "
            f"Docker engine has ({engine.memory_bytes / 2**20:.0f} MB); lower them, or give it more"
        )


def environment(home: Home, s: Settings) -> dict[str, str]:
    """Return the variables of docker-compose.yml for these settings, over this process's own."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith("COMPOSE_")}
    toggles = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in s.public().items()
    }
    secrets = {name.upper(): getattr(s, name).get_secret_value() for name in SECRET_FIELDS}
    own = {"COMPOSE_PROJECT_NAME": home.name, "WORKERS": str(s.workers_effective)}
    return kept | toggles | secrets | own


def build(home: Home, s: Settings, service: str) -> None:
    """Build the own image of a service; raise ServiceError or ConfigError where it fails."""
    project = Project(home, environment(home, s))
    docker.run(project.command("build", "--quiet", service), project.env)


def versions(found: Images, project: str) -> dict[str, str]:
    """Ask each image's program for its version, in containers that go with the project."""

    def ask(program: str) -> str:
        variable, options = PROGRAMS[program]
        image = found.chosen[variable]
        words = ["docker", "run", "--rm", "--network=none", "--label", f"{LABEL}={project}"]
        command = [*words, *options, image, "--version"]
        return servers.version_in(docker.run(command, errors=True), image)

    with ThreadPoolExecutor(max_workers=3) as pool:
        return dict(zip(PROGRAMS, pool.map(ask, PROGRAMS), strict=True))
