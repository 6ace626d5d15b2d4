"""PostgreSQL, PgBouncer and the exporter as processes of a test, in a folder of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.unit.scrapes import taken

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
DEADLINE_S = 15
SUPERUSER_PASSWORD = "superuser-s3cret"
EXPORTER_PASSWORD = "exporter-s3cret"
STATS_PASSWORD = "stats-s3cret"


@dataclass(frozen=True)
class Servers:
    """What the tests need to know of a PostgreSQL and a PgBouncer with a pool of one.

    A stack can give its own instead of the ones that are started here.
    """

    superuser_dsn: str
    exporter_dsn: str
    exporter_password: str
    pgbouncer_client_dsn: str
    pgbouncer_stats_dsn: str
    pgbouncer_stats_password: str
    postgres_pid: int
    pgbouncer_pid: Callable[[], int]
    restart_pgbouncer: Callable[[], None]


def find_program(name: str) -> Path:
    """Return a program that tests/conftest.py has found or fetched."""
    return Path(os.environ[name.upper()])


def unprivileged(command: list[str]) -> list[str]:
    """Return the command as another user where this one is root, which both servers refuse."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]


def environment(program: Path) -> dict[str, str]:
    """Return what a program that was unpacked into a folder needs to find its libraries."""
    root = next(parent for parent in program.parents if (parent / "usr").is_dir())
    libraries = root.glob("usr/lib/*-linux-gnu")
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"} | (
        {} if program.is_relative_to("/usr") else {"LD_LIBRARY_PATH": ":".join(map(str, libraries))}
    )


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return listener.getsockname()[1]


def until(ready: Callable[[], object], what: str) -> None:
    """Call ready until it is true; fail with what was awaited and the last error."""
    end = time.monotonic() + DEADLINE_S
    last: object = None
    while time.monotonic() < end:
        try:
            if ready():
                return
        except (OSError, psycopg.Error) as error:
            last = error
        time.sleep(0.02)
    pytest.fail(f"{what}: not within {DEADLINE_S} s; last error: {last}")


@dataclass
class Server:
    """A process with a log; its last words are shown when it does not start."""

    name: str
    command: list[str]
    log: Path
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], object]) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command, stdout=out, stderr=out, env=self.env, cwd=ROOT
            )
        try:
            until(ready, f"{self.name} ready")
        except pytest.fail.Exception:
            print(f"{self.name}: {' '.join(self.command)}\n{self.log.read_text()[-2000:]}")
            self.stop()
            raise

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Signal the process and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signum)
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(10)


@contextmanager
def running_servers(max_connections: int = 100) -> Iterator[Servers]:
    """Start PostgreSQL and PgBouncer in a folder of their own; stop both at the end."""
    # Not below pytest's own folder: as root that is closed to the user the servers run as.
    with tempfile.TemporaryDirectory(prefix="poolscope-test-") as folder:
        home = Path(folder)
        if os.geteuid() == 0:
            shutil.chown(home, "nobody", "nogroup")
        with _running(home, max_connections) as servers:
            yield servers


@contextmanager
def _running(home: Path, max_connections: int) -> Iterator[Servers]:
    port = free_port()
    postgres = _postgres(home, port, max_connections)
    superuser = make_conninfo(
        "", host=HOST, port=port, user="postgres", password=SUPERUSER_PASSWORD, dbname="postgres"
    )
    postgres.start(lambda: psycopg.connect(superuser).close() or True)
    try:
        _create(superuser)
        bouncer, stats = _pgbouncer(home, port)
        client = make_conninfo(stats, user="postgres", password=SUPERUSER_PASSWORD)
        client = make_conninfo(client, dbname="poolscope")

        def start_pgbouncer() -> None:
            bouncer.start(lambda: psycopg.connect(client, connect_timeout=2).close() or True)

        start_pgbouncer()
        try:
            yield Servers(
                superuser_dsn=make_conninfo(superuser, dbname="poolscope"),
                exporter_dsn=f"host={HOST} port={port} user=poolscope_exporter dbname=postgres",
                exporter_password=EXPORTER_PASSWORD,
                pgbouncer_client_dsn=client,
                pgbouncer_stats_dsn=stats,
                pgbouncer_stats_password=STATS_PASSWORD,
                postgres_pid=postgres.pid,
                pgbouncer_pid=lambda: bouncer.pid,
                restart_pgbouncer=start_pgbouncer,
            )
        finally:
            bouncer.stop(signal.SIGINT)
    finally:
        postgres.stop(signal.SIGQUIT)


def _postgres(home: Path, port: int, max_connections: int) -> Server:
    initdb, program = find_program("initdb"), find_program("postgres")
    password = home / "password"
    password.write_text(SUPERUSER_PASSWORD)
    data = home / "data"
    init = [str(initdb), "-D", str(data), "-U", "postgres", "-A", "scram-sha-256", "--no-sync"]
    init += ["-E", "UTF8", "--locale=C", f"--pwfile={password}"]
    subprocess.run(
        unprivileged(init), check=True, capture_output=True, env=environment(initdb), cwd="/"
    )
    command = [str(program), "-D", str(data), "-p", str(port), "-c", f"listen_addresses={HOST}"]
    command += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
    command += ["-c", f"max_connections={max_connections}"]
    command += ["-c", "shared_preload_libraries=pg_stat_statements"]
    return Server("postgres", unprivileged(command), home / "postgres.log", environment(program))


def _create(superuser: str) -> None:
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE poolscope_exporter LOGIN PASSWORD '{EXPORTER_PASSWORD}'")
        connection.execute("GRANT pg_monitor TO poolscope_exporter")
        connection.execute("CREATE DATABASE poolscope")
        connection.execute("CREATE EXTENSION pg_stat_statements")


def _pgbouncer(home: Path, database_port: int) -> tuple[Server, str]:
    program = find_program("pgbouncer")
    port = free_port()
    users = home / "userlist.txt"
    users.write_text(
        f'"postgres" "{SUPERUSER_PASSWORD}"\n"poolscope_pgbouncer_stats" "{STATS_PASSWORD}"\n'
    )
    config = home / "pgbouncer.ini"
    config.write_text(
        f"[databases]\npoolscope = host={HOST} port={database_port} dbname=poolscope\n"
        f"[pgbouncer]\nlisten_addr = {HOST}\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\nserver_login_retry = 1\n"
        "stats_users = poolscope_pgbouncer_stats\npool_mode = transaction\n"
        "default_pool_size = 1\nignore_startup_parameters = extra_float_digits\n"
    )
    stats = f"host={HOST} port={port} user=poolscope_pgbouncer_stats"
    command = unprivileged([str(program), str(config)])
    return Server("pgbouncer", command, home / "pgbouncer.log", environment(program)), stats


@dataclass
class Exporter:
    """The exporter as a process, and what it answers."""

    servers: Servers
    folder: Path
    deadline_s: float = 1.5
    port: int = 0
    _server: Server = field(init=False)

    def __post_init__(self) -> None:
        self.state_file = self.folder / "state.json"
        self.write_state()
        self._server = Server(
            "exporter",
            [sys.executable, "-m", "monitoring.exporter"],
            self.folder / "exporter.log",
            {
                "PATH": "/usr/bin:/bin",
                "EXPORTER_PORT": "0",
                "EXPORTER_STATE_FILE": str(self.state_file),
                "EXPORTER_DEADLINE_S": str(self.deadline_s),
                "EXPORTER_POSTGRES_DSN": self.servers.exporter_dsn,
                "EXPORTER_POSTGRES_PASSWORD": self.servers.exporter_password,
                "EXPORTER_PGBOUNCER_DSN": self.servers.pgbouncer_stats_dsn,
                "EXPORTER_PGBOUNCER_PASSWORD": self.servers.pgbouncer_stats_password,
            },
        )

    def write_state(self, cell: dict[str, str] | None = None, **story: object) -> None:
        """Write the state file as a stack does; `story` is moments and results."""
        services = {
            "postgres": {"pid": self.servers.postgres_pid, "cgroup": None, "cpus": 0.25},
            "pgbouncer": {"pid": self.servers.pgbouncer_pid(), "cgroup": None},
        }
        services["postgres"]["memory_bytes"] = 2**28
        written = self.state_file.with_suffix(".new")
        written.write_text(json.dumps({"services": services, "cell": cell, **story}))
        written.replace(self.state_file)

    def start(self) -> None:
        self._server.start(self._find_port)

    def _find_port(self) -> bool:
        found = re.search(r"serving http://127\.0\.0\.1:(\d+)/metrics", self.log())
        self.port = int(found[1]) if found else 0
        return bool(found)

    def stop(self) -> int:
        return self._server.stop()

    @property
    def pid(self) -> int:
        return self._server.pid

    def log(self) -> str:
        return self._server.log.read_text()

    def scrape(self) -> dict[str, float]:
        """Return every sample as it stands in the answer, name with labels, to its value."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics", timeout=10) as answer:
            lines = taken(answer.read().decode()).splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}
