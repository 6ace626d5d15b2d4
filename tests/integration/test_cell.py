"""A cell on real servers: what it measures is right, and what cannot be trusted is rejected."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab import results, validity
from lab.cell import CellRun
from lab.config import Cell
from lab.equal_work import Work
from lab.prometheus import Prometheus
from lab.results import CellRecord
from lab.stack.base import Endpoints
from lab.stack.process import Command
from monitoring.signals import SIGNALS

from .conftest import Lab


class Watching:
    """Remembers the phases, and does something when one begins."""

    def __init__(self, when: str = "", action: Callable[[], None] | None = None) -> None:
        self.phases: list[str] = []
        self.ticks = 0
        self._when, self._action = when, action

    def started(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints

    def phase(self, name: str, length_s: float | None) -> None:
        self.phases.append(name)
        if name == self._when and self._action is not None:
            threading.Thread(target=self._action, daemon=True).start()

    def tick(self, rps: float, p95_ms: float | None) -> None:
        self.ticks += 1


def measure(
    lab: Lab,
    folder: Path,
    watching: Watching | None = None,
    works: dict[tuple[str | int, ...], Work] | None = None,
    **toggles: Any,
) -> CellRecord:
    """Measure one cell with these toggles."""
    settings = lab.settings(**toggles)
    axes = {"FRAMEWORK": settings.framework, "ROUTE": settings.route, "USERS": settings.users}
    cell = Cell("cell", axes, 1, settings)
    run = results.Run(folder)
    limits = lab.stack.limits.kind is not None
    return CellRun(
        cell, settings, lab.stack, run, watching or Watching(), works or {}, limits
    ).measure()


@pytest.mark.parametrize(
    "framework", ["fastapi", "django", pytest.param("flask", marks=pytest.mark.stack)]
)
@pytest.mark.parametrize("route", ["direct", "pgbouncer"])
def test_cell_agrees_with_postgresql_and_the_cgroup(
    lab: Lab, tmp_path: Path, framework: str, route: str
) -> None:
    """Requests, statements, connections and CPU agree between sources that know of each other
    nothing: Locust, the service, PostgreSQL and the kernel.
    """  # noqa: D205
    watching = Watching()
    record = measure(lab, tmp_path, watching, FRAMEWORK=framework, ROUTE=route)
    m = record.measurement
    assert m is not None, record.reject_reasons
    assert watching.phases == [
        "preflight", "equal work", "ramp", "warming", "measuring", "stopping the load",
        "collecting", "validating",
    ]  # fmt: skip
    assert not [r for r in record.reject_reasons if "counted" in r or "not equal" in r]
    assert m.failures == 0
    # The edges of a short window are taken one after the other, not at one moment.
    assert m.executed_statements == pytest.approx(m.requests, rel=0.2)
    assert m.new_connections_per_request is not None
    assert m.new_connections_per_request < 0.1  # a pool may still grow
    assert m.new_sessions_per_request is not None
    assert m.new_sessions_per_request < 0.1
    assert m.mean_ms is not None
    assert m.server_mean_ms is not None
    assert m.server_mean_ms < m.mean_ms
    assert m.statement_ms is not None
    assert 0 < m.statement_ms <= m.server_mean_ms
    assert m.executed_mean_ms is not None
    assert m.executed_mean_ms < m.statement_ms
    assert (m.pgbouncer_wait_ms is None) == (route == "direct")
    assert (m.pgbouncer_cpu is None) == (route == "direct")
    for share in (m.db_cpu, m.app_cpu):
        assert share is not None
        assert 0 < share < 1.1
    assert set(m.missing) <= {"db_throttled", "app_throttled", "pgbouncer_throttled"}


@pytest.mark.parametrize("framework", ["fastapi", "django", "flask"])
def test_connect_per_request_counts_one_connection_per_request(
    lab: Lab, tmp_path: Path, framework: str
) -> None:
    """New connections per request are 1.00 by the service and by PostgreSQL's sessions.

    Two users: at each edge of the window at most two connections are open for a request that is
    not counted yet.
    """
    record = measure(lab, tmp_path, FRAMEWORK=framework, DB_POOL="per-request", WINDOW=6, USERS=2)
    m = record.measurement
    assert m is not None, record.reject_reasons
    edges = 4 / m.requests
    assert m.new_connections_per_request == pytest.approx(1.0, abs=max(0.02, edges))
    assert m.new_sessions_per_request == pytest.approx(1.0, abs=max(0.03, edges))


@pytest.mark.stack
def test_cpu_agrees_with_the_cgroup(lab: Lab, tmp_path: Path) -> None:
    """The database's CPU seconds of a window are those of its group, read by the test itself."""
    lab.start(FRAMEWORK="flask")
    if lab.servers.cpu_s("postgres") is None:
        pytest.skip("reads cpuacct.usage")
    seen: list[tuple[float, float]] = []

    def read() -> None:
        for _ in range(2):
            seen.append((time.monotonic(), lab.servers.cpu_s("postgres") or 0))
            time.sleep(4)

    record = measure(lab, tmp_path, Watching("measuring", read), FRAMEWORK="flask")
    m = record.measurement
    assert m is not None
    assert m.db_cpu_s is not None
    (began, before), (ended, after) = seen
    # As rates: the two windows begin and end at moments of their own.
    assert m.db_cpu_s / m.window_s == pytest.approx((after - before) / (ended - began), rel=0.15)


@pytest.mark.stack
def test_every_due_signal_has_data_in_a_real_run(lab: Lab, tmp_path: Path) -> None:
    """Each signal's recording rule gave samples in the window of a cell through PgBouncer."""
    watching = Watching()
    record = measure(
        lab, tmp_path, watching, FRAMEWORK="flask", ROUTE="pgbouncer", WARMUP=8, WINDOW=8
    )
    assert record.window_end is not None
    prometheus = Prometheus(str(watching.endpoints.prometheus))
    empty = []
    not_due = NOT_DUE | (UNLIMITED if lab.stack.limits.kind is None else frozenset())
    for item in SIGNALS:
        found = prometheus.query(f"last_over_time({item.record}[8s])", record.window_end)
        if not found and item.name not in not_due:
            empty.append(item.name)
    assert not empty
    values = {
        name: float(prometheus.query(f"poolscope:{name}", record.window_end)[0]["value"][1])
        for name in ("client_requests_per_second", "server_requests_per_second")
        if prometheus.query(f"poolscope:{name}", record.window_end)
    }
    m = record.measurement
    assert m is not None
    for value in values.values():
        assert value == pytest.approx(m.rps, rel=0.3)


#: Signals whose event need not happen in a healthy run: no connection is opened, and at the moment
#: of a sample no statement may be at work (test_exporter.py makes one wait).
NOT_DUE = frozenset(
    {
        *("connection_open_mean_seconds", "connection_open_p95_seconds", "postgres_locks"),
        *("postgres_active_backends_by_wait", "postgres_active_backends_by_event"),
    }
)
#: Without limits nothing is throttled, and nothing can be compared with them.
UNLIMITED = frozenset(
    {
        *(f"{part}_throttled_ratio" for part in ("db", "service", "pgbouncer")),
        *("cpu_limit_cores", "memory_limit_bytes", "memory_used_ratio"),
    }
)


# --- each reason of the gate, produced on purpose ------------------------------------------------


def reasons(record: CellRecord) -> str:
    """Return the reasons of a rejected cell."""
    assert record.status == "rejected"
    return "; ".join(record.reject_reasons)


def test_requests_of_others_are_noticed(lab: Lab, tmp_path: Path) -> None:
    """A count that differs between client and server rejects the cell."""
    settings = lab.settings()
    url = f"http://127.0.0.1:{lab.stack.ports['fastapi_port']}/benchmark/db-test"

    def others() -> None:
        with httpx.Client(trust_env=False) as client:
            for _ in range(200):
                client.get(url)

    assert settings.framework == "fastapi"
    record = measure(lab, tmp_path, Watching("measuring", others))
    assert "client counted" in reasons(record)


@pytest.mark.stack
def test_a_missing_exporter_is_noticed(lab: Lab, tmp_path: Path) -> None:
    """Missing scrapes and an ended server reject the cell, and their figures are empty."""
    name = lab.servers.exporter
    # Long enough that a scrape before the end of a container leaves some that are missing.
    watching = Watching("measuring", lambda: lab.servers.kill(name))
    record = measure(lab, tmp_path, watching, WINDOW=8)
    assert "samples missing: poolscope" in reasons(record)
    assert f"{name} ended" in reasons(record)
    assert record.measurement is not None
    assert record.measurement.db_cpu is None
    assert "db_cpu" in record.measurement.missing


def test_unequal_work_is_noticed(lab: Lab, tmp_path: Path) -> None:
    """Another number of statements or rows than another service's rejects the cell."""
    s = lab.settings()
    kind = ("db-test", "direct", s.seed_users, s.seed_posts, s.seed_comments)
    other = {kind: Work(((1, 2.0, 9.0),), {1: "SELECT something else"})}
    record = measure(lab, tmp_path, works=other, WINDOW=2)
    assert "work not equal" in reasons(record)


def test_a_wrong_answer_is_noticed(lab: Lab, tmp_path: Path) -> None:
    """A service whose rows are not those of the tables is never loaded."""
    _, endpoints = lab.start()
    with lab.sql(endpoints) as connection:
        connection.execute("ALTER TABLE posts RENAME TO kept")
        connection.execute(
            "CREATE VIEW posts AS SELECT id, author_id, title || '!' AS title, body FROM kept"
        )
        connection.execute("GRANT SELECT ON posts TO poolscope_service")
        try:
            connection.execute("ALTER VIEW posts RENAME TO fake")
            connection.execute("ALTER TABLE kept RENAME TO posts")
            connection.execute("REVOKE SELECT ON posts FROM poolscope_service")
            record = measure(lab, tmp_path)
        finally:
            connection.execute("DROP VIEW fake")
            connection.execute("GRANT SELECT ON posts TO poolscope_service")
    assert "answered 5" in reasons(record)
    assert record.measurement is None


def test_time_lost_in_the_generator_is_noticed(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPU spent between requests breaks Little's law, and shows as the generator's own use.

    How much of a core a process can get depends on who else runs here, so the limit on it is
    lowered to what any host gives.
    """
    monkeypatch.setattr(validity, "MAX_GENERATOR_CPU", 0.3)
    with burning_generator(lab, tmp_path):
        record = measure(lab, tmp_path)
    assert "Little's law" in reasons(record)
    assert "load generator used" in reasons(record)


@contextmanager
def burning_generator(lab: Lab, folder: Path) -> Iterator[None]:
    """Let the generator spend 30 ms of CPU after each request."""
    from lab.paths import ROOT

    burner = folder / "locustfile.py"
    burner.write_text(
        "import time\nfrom locust import events\n"
        "from loadtest.locustfile import *\n"
        "@events.request.add_listener\n"
        "def burn(**_):\n"
        "    end = time.perf_counter() + 0.03\n"
        "    while time.perf_counter() < end: pass\n"
    )
    original = lab.stack._run

    def run(command: Command, *, limited: bool = True) -> Any:
        args = [str(burner) if a.endswith("locustfile.py") else a for a in command.args]
        env = command.env | ({"PYTHONPATH": str(ROOT)} if command.name == "locust" else {})
        return original(
            Command(command.name, args, env, command.cwd, command.user, command.stop_signal,
                    command.stop_timeout_s),
            limited=limited,
        )  # fmt: skip

    lab.stack._run = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        del lab.stack._run  # type: ignore[method-assign]


def test_a_service_that_cannot_start_is_a_rejected_cell(lab: Lab, tmp_path: Path) -> None:
    """A cell whose service does not start is rejected with the log's end, and the next one runs."""
    broken = lab.stack.ports["service_metrics_port"]
    import socket

    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for name in ("fastapi", "django", "flask"):
            lab.stack._stop(name)
        taken.bind(("127.0.0.1", broken))
        taken.listen()
        record = measure(lab, tmp_path)
    assert "fastapi" in reasons(record)
    assert measure(lab, tmp_path, WINDOW=2).measurement is not None


def test_metrics_off_is_checked_against_postgresql(lab: Lab, tmp_path: Path) -> None:
    """Without instrumentation the count comes from PostgreSQL, and the service's figures stay
    empty.
    """  # noqa: D205
    record = measure(lab, tmp_path, METRICS="off", WINDOW=2)
    assert not [r for r in record.reject_reasons if "count" in r]
    m = record.measurement
    assert m is not None
    assert m.pool_wait_ms is None
    assert m.executed_statements


def test_monitoring_off_leaves_figures_empty(lab: Lab, tmp_path: Path) -> None:
    """Without exporters CPU is empty, with the reason, and no exporter runs."""
    record = measure(lab, tmp_path, MONITORING="off", WINDOW=2)
    m = record.measurement
    assert m is not None
    assert m.db_cpu is None
    assert "exporter" in m.missing["db_cpu"]
    assert not {"prometheus", "poolscope_exporter"} & set(lab.stack._processes)


def test_insert_writes_a_row_per_answer(lab: Lab, tmp_path: Path) -> None:
    """The insert scenario does equal work and every acknowledged row is there."""
    for framework in ("fastapi", "django", "flask"):
        record = measure(
            lab, tmp_path / framework, FRAMEWORK=framework, SCENARIO="insert", WINDOW=2
        )
        assert record.measurement is not None, record.reject_reasons
        assert record.measurement.statuses.keys() == {"201"}
        assert not [r for r in record.reject_reasons if "equal" in r or "counted" in r]
