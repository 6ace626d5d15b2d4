"""Run one service under gunicorn against a given PostgreSQL, and look at it from outside.

The database is given by whoever makes a `Target`: it must hold Poolscope's schema, some data,
pg_stat_statements and the service role.
"""

from __future__ import annotations

import atexit
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

ROOT = Path(__file__).resolve().parents[2]
READY_S = 15.0
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Target:
    """Say where PostgreSQL, and PgBouncer in transaction mode before it, are."""

    host: str
    port: int
    password: str
    superuser_dsn: str
    pgbouncer_port: int

    def superuser(self) -> psycopg.Connection[Any]:
        """Connect as the superuser, in autocommit."""
        return psycopg.connect(self.superuser_dsn, autocommit=True)


@dataclass
class Service:
    """Is one running service."""

    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int
    log: Path
    folder: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        limits = httpx.Limits(max_connections=100)
        base = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=base, timeout=20, limits=limits)

    def post(self, post_id: int | str | None = None) -> httpx.Response:
        """Ask for a post."""
        params = {} if post_id is None else {"post_id": post_id}
        return self.client.get("/benchmark/db-test", params=params)

    def ask(self, method: str, scenario: str, **params: object) -> httpx.Response:
        """Ask for a scenario's work."""
        return self.client.request(method, f"/benchmark/{scenario}", params=params or None)

    def insert(self) -> httpx.Response:
        """Ask for an insert."""
        return self.client.post("/benchmark/insert")

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Scrape the master: value by name and labels."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5).text
        found = {}
        for line in text.splitlines():
            match = _SAMPLE.match(line)
            if match:
                name, labels, value = match.groups()
                found[name, frozenset(_LABEL.findall(labels or ""))] = float(value)
        return found

    def value(self, name: str, **labels: str) -> float:
        """Add up the samples of a name that have these labels."""
        wanted = set(labels.items())
        return sum(v for (n, has), v in self.samples().items() if n == name and wanted <= has)

    def workers(self) -> set[int]:
        """Return the pids of the workers."""
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@contextmanager
def service(target: Target, framework: str, **toggles: Any) -> Iterator[Service]:
    """Start a service, wait until it answers (with whatever status), stop it at the end.

    `wait_for_stopped` says when it is gone.
    """
    port, metrics_port = _free_port(), _free_port()
    folder = Path(tempfile.mkdtemp(prefix="apps-"))
    environment = {
        "PATH": os.environ["PATH"],
        "FRAMEWORK": framework,
        "DB_HOST": target.host,
        "DB_PORT": target.port,
        "DB_PASSWORD": target.password,
        "SERVICE_PORT": port,
        "SERVICE_METRICS_PORT": metrics_port,
        "PROMETHEUS_MULTIPROC_DIR": folder / "metrics",
        "MAX_REQUESTS": 0,
        "WORKERS": 1,
        **toggles,
    }
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", "apps/common/gunicorn_conf.py"],
            cwd=ROOT,
            env={name: str(value) for name, value in environment.items()},
            stdout=output,
            stderr=output,
        )
    running = Service(process, port, metrics_port, log, folder)
    try:
        _wait_until_it_answers(running)
        yield running
    finally:
        # It may end while the next one starts: an ASGI worker takes up to 1 s to notice.
        running.client.close()
        process.send_signal(signal.SIGTERM)
        _stopping.append(running)


def _wait_until_it_answers(running: Service) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and running.process.poll() is None:
        with suppress(httpx.TransportError):
            running.client.get("/not-there")
            return
        time.sleep(0.02)
    raise AssertionError(f"service not ready after {READY_S} s:\n{running.log.read_text()[-3000:]}")


def wait_for_stopped() -> None:
    """Wait until all services that were told to stop are gone; fails where one is not in 10 s."""
    while _stopping:
        running = _stopping.pop()
        try:
            running.process.wait(10)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()
            raise
        finally:
            shutil.rmtree(running.folder, ignore_errors=True)


_stopping: list[Service] = []
atexit.register(wait_for_stopped)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Proxy:
    """Is a TCP proxy in front of the database that can delay connects, refuse and go down."""

    def __init__(self, target: Target) -> None:
        self._upstream = (target.host, target.port)
        self._port = _free_port()
        self.target = replace(target, host="127.0.0.1", port=self._port)
        self.delay_s = 0.0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener: socket.socket | None = None
        self.up()

    def up(self) -> None:
        """Accept connections."""
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections and break those that are there."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for pair in self._pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        time.sleep(self.delay_s)
        server = socket.create_connection(self._upstream)
        self._pairs.append((client, server))
        other = {client: server, server: client}
        with client, server, suppress(OSError):
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    other[ready].sendall(data)


def statements(target: Target) -> list[tuple[int, int, int, str]]:
    """Return (queryid, calls, rows, text) of the service role since the last `forget`."""
    with target.superuser() as connection:
        return connection.execute(
            "SELECT queryid, calls, rows, query FROM pg_stat_statements s"
            " JOIN pg_roles r ON r.oid = s.userid WHERE rolname = 'poolscope_service'"
        ).fetchall()


def forget(target: Target) -> None:
    """Empty pg_stat_statements."""
    with target.superuser() as connection:
        connection.execute("SELECT pg_stat_statements_reset()")


def backends(target: Target) -> int:
    """Count the service role's connections, those of a PgBouncer among them."""
    wait_for_stopped()
    with target.superuser() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'poolscope_service'"
        ).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def silent(target: Target, whole: bool = True) -> Iterator[None]:
    """Stop PostgreSQL and the service's backends, as on a host that hangs: nothing is closed.

    Where it is not the whole, PostgreSQL still accepts connections.
    """
    with target.superuser() as connection:
        first = psutil.Process(connection.info.backend_pid).parent()
    assert first is not None
    stopped = [first]
    try:
        first.suspend()  # before it makes further backends
        for one in first.children():
            # Of those that have ended since, nobody takes leave.
            with suppress(psutil.NoSuchProcess):
                if "poolscope_service" in " ".join(one.cmdline()):
                    one.suspend()
                    stopped.append(one)
        if not whole:
            first.resume()
        yield
    finally:
        for one in stopped:
            with suppress(psutil.NoSuchProcess):
                one.resume()


@contextmanager
def locked(target: Target, tables: str = "posts") -> Iterator[None]:
    """Hold a lock that lets every statement on these tables wait."""
    with psycopg.connect(target.superuser_dsn) as connection:
        connection.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()
