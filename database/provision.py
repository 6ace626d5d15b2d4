"""Make the database ready: `python -m database.provision`.

Creates the database, loads the data where it is not there yet, makes the roles and gives them
their secrets. Can be run at any time; what is right already is left as it is. Settings come from
the environment (see `settings.py`).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, sql
from pydantic import SecretStr, ValidationError

from database import seed
from database.role_secrets import role_secret, secret_fits, userlist
from database.settings import (
    DATABASE,
    EXPORTER_ROLE,
    PGBOUNCER_STATS_ROLE,
    SERVICE_ROLE,
    ProvisionSettings,
    problem,
)

CONNECT_TIMEOUT_S = 10
BAD_INPUT = 2
ROLES = seed.FOLDER / "roles.sql"
#: ALTER ROLE ... PASSWORD would be kept, secret and all, where the exporter's role can read it.
UNSEEN = (
    "-c pg_stat_statements.track=none -c log_statement=none "
    "-c log_min_duration_statement=-1 -c log_min_error_statement=panic"
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit code: 0, or 2 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m database.provision", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["all", "reset-transactions"], default="all")
    command = parser.parse_args(arguments).command
    try:
        settings = ProvisionSettings()  # type: ignore[call-arg]  # from the environment
        if command == "all":
            provision(settings, say=lambda line: print(line, flush=True))
        else:
            with connect(settings, DATABASE) as conn:
                seed.reset_transactions(conn)
    except ValidationError as error:
        return _failed(problem(error))
    except psycopg.Error as error:
        where = f"{settings.postgres_host}:{settings.postgres_port}"
        return _failed(f"postgres on {where}: {seed.one_line(error)}")
    except (seed.SeedError, OSError, ValueError) as error:
        return _failed(str(error))
    return 0


def provision(settings: ProvisionSettings, say: Callable[[str], None]) -> None:
    """Bring the database to what the settings ask for; `say` gets progress lines."""
    step = Stopwatch(say)
    create_database(settings)
    step.done("database")
    with connect(settings, DATABASE) as conn:
        conn.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        load_because = seed.reason_to_load(conn, settings)
        if load_because is None:
            step.done("data found, counts right")
    if load_because is not None:
        _load(settings, load_because, step)
    with connect(settings, DATABASE) as conn:
        conn.execute(ROLES.read_bytes())
        give_secrets(conn, settings)
        if settings.pgbouncer_userlist is not None:
            write_userlist(conn, settings, settings.pgbouncer_userlist)
    step.done("roles")
    step.total("database ready")


def connect(settings: ProvisionSettings, database: str) -> Connection[Any]:
    """Connect as superuser, in autocommit, unseen by pg_stat_statements."""
    return psycopg.connect(
        host=settings.postgres_host,
        port=settings.postgres_port,
        user=settings.postgres_user,
        password=settings.postgres_password.get_secret_value(),
        dbname=database,
        connect_timeout=CONNECT_TIMEOUT_S,
        application_name="poolscope provision",
        client_encoding="UTF8",  # else text is bytes where initdb took SQL_ASCII
        options=UNSEEN,
        autocommit=True,
    )


def create_database(settings: ProvisionSettings) -> None:
    """Create the database in UTF-8, whatever initdb chose; raise SeedError where it is not."""
    with connect(settings, "postgres") as conn:
        row = conn.execute(
            "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = %s",
            (DATABASE,),
        ).fetchone()
        if row is None:
            statement = "CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0 LC_COLLATE 'C' "
            conn.execute(sql.SQL(statement + "LC_CTYPE 'C'").format(sql.Identifier(DATABASE)))
        elif row[0] != "UTF8":
            raise seed.SeedError(f"database {DATABASE} is encoded in {row[0]}; drop it or use UTF8")


def give_secrets(conn: Connection[Any], settings: ProvisionSettings) -> None:
    """Give each role a secret of the kind asked for, unless the one it has fits already.

    The service's statement timeout is the role's: so it holds on both routes, and through any
    pool mode.
    """
    for role, password in (
        (SERVICE_ROLE, settings.service_db_password),
        (EXPORTER_ROLE, settings.exporter_db_password),
    ):
        wanted = (settings.pgbouncer_auth_type, role, password.get_secret_value())
        if not secret_fits(stored_secret(conn, role), *wanted, settings.scram_iterations):
            secret = role_secret(*wanted, settings.scram_iterations)
            conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), secret))
    conn.execute(
        sql.SQL("ALTER ROLE {} SET statement_timeout = {}").format(
            sql.Identifier(SERVICE_ROLE), settings.db_statement_timeout
        )
    )


def stored_secret(conn: Connection[Any], role: str) -> str | None:
    """Return what pg_authid holds for a role."""
    row = conn.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (role,)).fetchone()
    return row[0] if row else None


def write_userlist(conn: Connection[Any], settings: ProvisionSettings, path: Path) -> None:
    """Write PgBouncer's user list: the service's stored secret, and one for the stats user.

    With SCRAM both programs must hold the same salt and keys, so it is read from PostgreSQL.
    """
    rows = [(SERVICE_ROLE, stored_secret(conn, SERVICE_ROLE) or "")]
    stats: SecretStr | None = settings.pgbouncer_stats_password
    if stats is not None:
        kind, iterations = settings.pgbouncer_auth_type, settings.scram_iterations
        secret = role_secret(kind, PGBOUNCER_STATS_ROLE, stats.get_secret_value(), iterations)
        rows.append((PGBOUNCER_STATS_ROLE, secret))
    _write_atomically(path, userlist(rows))


class Stopwatch:
    """Say what was done and how long it took."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._start = self._last = time.monotonic()

    def done(self, what: str) -> float:
        """Say a step's duration in seconds, and return it."""
        now = time.monotonic()
        took, self._last = now - self._last, now
        self._say(f"{what}: {took:.2f} s")
        return took

    def total(self, what: str) -> None:
        """Say the time since the start."""
        self._say(f"{what} after {time.monotonic() - self._start:.2f} s")


def _load(settings: ProvisionSettings, reason: str, step: Stopwatch) -> None:
    # Imported here: Faker alone takes half of the time that a second start has.
    from database.fakedata import FakeData, Sizes

    sizes = Sizes(settings.seed_users, settings.seed_posts, settings.seed_comments)
    with connect(settings, DATABASE) as conn:
        seed.load(conn, settings, FakeData(sizes, settings.seed))
    rows = sizes.users + sizes.posts + sizes.comments
    step.done(f"loaded {rows:,} rows ({reason})")
    with connect(settings, DATABASE) as conn:
        seed.settle(conn)
    step.done("vacuum, analyze, checkpoint")


def _write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner may read it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _failed(line: str) -> int:
    print(f"provision: {line}", file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
