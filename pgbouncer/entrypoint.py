"""Render pgbouncer.ini from the environment, then become PgBouncer.

Runs in the image, where nothing but jinja2 is there: no import of Poolscope's own code.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jinja2

TEMPLATE = Path(__file__).with_name("pgbouncer.ini")
RENDERED = Path("/tmp/pgbouncer.ini")
BAD_INPUT = 2

#: The toggles with the defaults of .env.example (a test compares).
TOGGLES = {
    "PGBOUNCER_POOL_MODE": "transaction",
    "PGBOUNCER_MAX_CLIENT_CONN": "10000",
    "PGBOUNCER_DEFAULT_POOL_SIZE": "20",
    "PGBOUNCER_MIN_POOL_SIZE": "5",
    "PGBOUNCER_RESERVE_POOL_SIZE": "5",
    "PGBOUNCER_QUERY_WAIT_TIMEOUT": "15",
    "PGBOUNCER_CLIENT_IDLE_TIMEOUT": "0",
    "PGBOUNCER_SERVER_IDLE_TIMEOUT": "600",
    "PGBOUNCER_LISTEN_BACKLOG": "4096",
    "PGBOUNCER_SO_REUSEPORT": "1",
    "PGBOUNCER_MAX_PREPARED_STATEMENTS": "200",
    "PGBOUNCER_STATS_PERIOD": "60",
    "PGBOUNCER_AUTH_TYPE": "scram-sha-256",
}
PLACES = {
    "DATABASE_HOST": "postgres",
    "DATABASE_PORT": "5432",
    "PGBOUNCER_LISTEN_PORT": "6432",
    "PGBOUNCER_USERLIST": "/var/lib/poolscope/userlist.txt",
}


class EntrypointError(Exception):
    """The container cannot start as it is set up; the message is one line."""


def main() -> int:
    """Render and become PgBouncer; return 2 with one line on standard error where that fails."""
    try:
        values = settings(os.environ)
        check_readable(Path(values["PGBOUNCER_USERLIST"]))
        RENDERED.write_text(render(values, version()), encoding="utf-8")
        os.execvp("pgbouncer", ["pgbouncer", str(RENDERED)])
    except (EntrypointError, OSError) as error:
        print(f"pgbouncer: {error}", file=sys.stderr)
        return BAD_INPUT


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return toggles and places by name; raise EntrypointError for what an ini file cannot hold."""
    values = {}
    for name, default in (TOGGLES | PLACES).items():
        value = values[name] = environment.get(name) or default
        if not re.fullmatch(r"[\w./:-]+", value):
            raise EntrypointError(f"{name}={value!r} is not one word; set it right in .env")
    return values


def render(values: Mapping[str, str], pgbouncer_version: tuple[int, ...]) -> str:
    """Return the text of pgbouncer.ini."""
    names = {
        **{name.lower(): values[name] for name in TOGGLES},
        "pgbouncer_version": pgbouncer_version,
        "database_host": values["DATABASE_HOST"],
        "database_port": values["DATABASE_PORT"],
        "listen_addr": "0.0.0.0",
        "listen_port": values["PGBOUNCER_LISTEN_PORT"],
        "auth_file": values["PGBOUNCER_USERLIST"],
        "logfile": "",
        "pidfile": "",
    }
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.keep_trailing_newline = True
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(names)


def version() -> tuple[int, ...]:
    """Return what the program itself says, such as (1, 24, 1)."""
    done = subprocess.run(["pgbouncer", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"PgBouncer (\d+(?:\.\d+)+)", done.stdout)
    if found is None:
        raise EntrypointError(f"pgbouncer --version failed: {done.stderr.strip()}")
    return tuple(int(part) for part in found.group(1).split("."))


def check_readable(userlist: Path) -> None:
    """Raise EntrypointError where the seed has not written the user list, or for another account.

    PgBouncer itself would start, and refuse every client.
    """
    if not userlist.is_file():
        raise EntrypointError(f"no user list at {userlist}; run the seed first, with this volume")
    if not os.access(userlist, os.R_OK):
        raise EntrypointError(f"{userlist} is not readable for uid {os.getuid()}; seed as this uid")


if __name__ == "__main__":
    sys.exit(main())
