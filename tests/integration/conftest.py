"""One stack for all integration tests; each test brings it to the settings it needs.

It is the native one, or what POOLSCOPE_TEST_STACK says for the tests marked `stack`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab import env_file
from lab.settings import Settings, build, host_defaults
from lab.stack.base import Endpoints
from lab.stack.home import Home, locate
from lab.stack.project import remove_volumes
from lab.stack.toolchain import Toolchain

from . import stacks
from .apps_harness import Target
from .stacks import Servers


@dataclass
class Lab:
    """A stack, and short ways to bring it up with some settings."""

    stack: Any  # tests of the native stack look inside it
    servers: Servers
    base: dict[str, Any] = field(repr=False)  # passwords

    def settings(self, **toggles: Any) -> Settings:
        """Return settings with short windows, changed by `toggles`."""
        return build({**self.base, **toggles})

    def start(self, **toggles: Any) -> tuple[Settings, Endpoints]:
        """Bring the stack to these toggles."""
        settings = self.settings(**toggles)
        return settings, self.stack.start(settings)

    def sql(self, endpoints: Endpoints) -> psycopg.Connection:
        """Open a superuser's connection."""
        return psycopg.connect(endpoints.superuser, autocommit=True)


def share_toolchain(home: Home, tools: Toolchain) -> None:
    """Let a test's home use the programs that are there already."""
    tools.fetched_root.mkdir(parents=True, exist_ok=True)
    home.root.mkdir(parents=True, exist_ok=True)
    if not home.toolchain.exists():
        home.toolchain.symlink_to(tools.fetched_root)


@pytest.fixture(scope="session")
def home(programs: Toolchain) -> Home:
    """The tests' own home."""
    found = locate()
    share_toolchain(found, programs)
    return found


@pytest.fixture(scope="session")
def lab(home: Home) -> Iterator[Lab]:
    """A prepared stack with data; ended with the session."""
    base = {
        **host_defaults(),
        **env_file.ensure(),
        "DB_PREPARED": "off",
        "MAX_REQUESTS": 0,
        "WARMUP": 1,
        "WINDOW": 4,
        "USERS": 8,
    }
    settings = build(base)
    stack, servers = stacks.open_stack(home, settings)
    try:
        stack.prepare(settings)
        yield Lab(stack, servers, base)
    finally:
        stack.stop()
        if stack.name == "compose":
            remove_volumes(home)


def own_environment(folder: Path, programs: Toolchain) -> dict[str, str]:
    """Return an environment for a lab process with home, results and .env below a folder."""
    own = Home(folder / "home")
    share_toolchain(own, programs)
    names = {
        "POOLSCOPE_HOME": str(own.root),
        "POOLSCOPE_RESULTS": str(folder / "results"),
        "POOLSCOPE_ENV_FILE": str(folder / "env"),
        "STACK": stacks.TEST_STACK,
    }
    return {**os.environ, **names}


def remove_what_is_left(folder: Path) -> None:
    """Remove the folder of such an environment, and the volumes of its stack."""
    home = Home(folder / "home")
    if stacks.TEST_STACK == "compose" and stacks.volumes(home):
        remove_volumes(home)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that servers which drop root can enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="poolscope-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def isolated(scratch: Path, programs: Toolchain) -> Iterator[Callable[..., dict[str, str]]]:
    """Return an environment for a lab process with a home, results and .env of its own."""

    def make(**more: str) -> dict[str, str]:
        return own_environment(scratch, programs) | more

    yield make
    remove_what_is_left(scratch)


@pytest.fixture(scope="module")
def apps_target(lab: Lab) -> Target:
    """PostgreSQL and PgBouncer for tests that run a service of their own."""
    settings = lab.settings(ROUTE="pgbouncer")
    endpoints = lab.stack.start_database(settings)
    assert endpoints.pgbouncer is not None
    return Target(
        host=endpoints.postgres[0],
        port=endpoints.postgres[1],
        password=endpoints.service_password,
        superuser_dsn=endpoints.superuser,
        pgbouncer_port=endpoints.pgbouncer[1],
    )
