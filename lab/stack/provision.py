"""PostgreSQL's data folder and what is in it: made once, and brought to the settings."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Any

from lab.errors import ConfigError, ServiceError
from lab.files import write_atomic
from lab.paths import ROOT
from lab.settings import Settings
from lab.stack import servers
from lab.stack.home import Home
from lab.stack.process import server_user
from lab.stack.toolchain import Toolchain


def initialise(tools: Toolchain, home: Home, s: Settings) -> None:
    """Make the data folder where there is none.

    Raises ConfigError for one of another major version, ServiceError where initdb fails.
    """
    data = home.postgres_data
    major = tools.version("postgres").split(".")[0]
    if (data / "PG_VERSION").is_file():
        there = (data / "PG_VERSION").read_text().strip()
        if there != major:
            raise ConfigError(
                f"{data} is of PostgreSQL {there}, but the program here is {major}; "
                "`make reset` removes the data, which is loaded again"
            )
        return
    # Under another name until it is whole: initdb writes PG_VERSION long before it is done.
    half = data.with_name("postgres.half")
    for old in (data, half):
        shutil.rmtree(old, ignore_errors=True)
    half.mkdir(parents=True)
    user = server_user()
    home.own(half, user).chmod(0o700)
    password_file = home.run / "superuser-password"
    write_atomic(password_file, s.postgres_password.get_secret_value(), mode=0o600)
    try:
        home.own(password_file, user)
        command = servers.initdb(tools, half, password_file)
        done = subprocess.run(
            command.args,
            env=command.env,
            user=user,
            extra_groups=[] if user else None,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        password_file.unlink()
    if done.returncode:
        raise ServiceError(f"initdb failed: {done.stderr.strip()}")
    half.rename(data)


def key(s: Settings) -> tuple[Any, ...]:
    """Return the settings that `run` depends on."""
    data = (s.seed_users, s.seed_posts, s.seed_comments, s.seed)
    return (*data, s.pgbouncer_auth_type, s.scram_iterations, s.db_statement_timeout)


def run(home: Home, s: Settings) -> list[str]:
    """Make database, roles, secrets and data right by `database.provision`; return what it said.

    Raises ServiceError with its last line.
    """
    userlist = home.run / "userlist.txt"
    env = servers.base_env(home) | {
        **{name: str(value) for name, value in s.public().items()},
        "POSTGRES_HOST": servers.HOST,
        "POSTGRES_PASSWORD": s.postgres_password.get_secret_value(),
        "SERVICE_DB_PASSWORD": s.service_db_password.get_secret_value(),
        "EXPORTER_DB_PASSWORD": s.exporter_db_password.get_secret_value(),
        "PGBOUNCER_STATS_PASSWORD": s.pgbouncer_stats_password.get_secret_value(),
        "PGBOUNCER_USERLIST": str(userlist),
    }
    done = subprocess.run(
        [sys.executable, "-m", "database.provision"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServiceError(f"database not made ready: {done.stderr.strip().splitlines()[-1]}")
    home.own(userlist, server_user())
    return done.stdout.splitlines()
