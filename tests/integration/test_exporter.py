"""Poolscope's exporter against a real PostgreSQL and a real PgBouncer."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.exporter_servers import Exporter, Servers, running_servers, until

GOLDEN = Path(__file__).parents[1] / "golden" / "scrapes"
POOL = '{database="poolscope",user="postgres"}'
CPU = 'container_cpu_usage_seconds_total{name="postgres"}'
SESSIONS = 'pg_stat_database_sessions_total{datname="poolscope"}'
BURN = "SELECT count(*) FROM generate_series(1, 400000)"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with running_servers() as running:
        yield running


@pytest.fixture
def exporter(servers: Servers, tmp_path: Path) -> Iterator[Exporter]:
    started = Exporter(servers, tmp_path)
    started.start()
    yield started
    started.stop()


def names(samples: dict[str, float]) -> set[str]:
    return {sample.partition("{")[0] for sample in samples}


def test_top_statements_are_counted_as_postgresql_does(
    servers: Servers, exporter: Exporter
) -> None:
    """Ten statements at most, each with its text on one line, and none of the exporter's own.

    A statement that is kept as it was sent shows no more than its first words.
    """
    dsn = make_conninfo(servers.superuser_dsn, dbname="postgres")
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(5):
            connection.execute("SELECT g\n  FROM generate_series(1, 40000) AS g")
        found = exporter.scrape()
        (row,) = connection.execute(
            "SELECT queryid::text, total_exec_time / 1000 FROM pg_stat_statements"
            " WHERE query LIKE 'SELECT g%'"
        )
    name = "pg_top_statement_calls_total"
    calls = {k: v for k, v in found.items() if k.startswith(name)}
    labels = f'{{query="SELECT g FROM generate_series($1, $2) AS g",queryid="{row[0]}"}}'
    assert calls[name + labels] == 5
    assert found[f"pg_top_statement_rows_total{labels}"] == 200_000
    assert found[f"pg_top_statement_seconds_total{labels}"] == pytest.approx(row[1])
    assert len(calls) <= 10
    assert not [k for k in calls if "pg_stat_activity" in k]
    assert [k for k in calls if 'query="CREATE ROLE"' in k]
    assert not [k for k in found if servers.exporter_password in k]


def test_answer_has_every_name_of_the_kept_one(servers: Servers, exporter: Exporter) -> None:
    """The kept answer stands for the real one in the tests of signals; this keeps it true."""
    (kept,) = GOLDEN.glob("poolscope_exporter*.prom")
    lines = [line for line in kept.read_text().splitlines() if not line.startswith("#")]
    expected = {re.split(r"[{ ]", line)[0] for line in lines}
    # These have no figures without a cgroup, or outside of a running statement.
    expected = {n for n in expected if "_cfs_" not in n} - {"pg_stat_activity_wait_events"}
    labels = {"run_id": "r", "cell_id": "c", "status": "accepted"}
    exporter.write_state(
        {"run_id": "r", "cell_id": "c"},
        moments=[{"run_id": "r", "cell_id": "c", "event": "window_start", "at": 1795192316}],
        results=[{"labels": labels, "figures": {"rps": 12.5}}],
        due=["postgres", "pgbouncer", "service"],
    )
    with psycopg.connect(servers.pgbouncer_client_dsn, prepare_threshold=None) as connection:
        connection.execute("SELECT 1")
        found = exporter.scrape()
    assert expected - names(found) == set()
    assert found['lab_cell_info{cell_id="c",run_id="r"}'] == 1
    moment = 'lab_cell_event_timestamp_seconds{cell_id="c",event="window_start",run_id="r"}'
    assert found[moment] == 1795192316
    assert all(v == 1 for k, v in found.items() if k.startswith("poolscope_collector_up"))


def test_sessions_and_cpu_of_short_connections_are_counted(
    servers: Servers, exporter: Exporter
) -> None:
    """The connect-per-request case: no backend is alive when the next scrape comes."""
    before = exporter.scrape()
    for _ in range(12):
        with psycopg.connect(servers.superuser_dsn) as connection:
            connection.execute(BURN)
    until(lambda: exporter.scrape()[SESSIONS] >= before[SESSIONS] + 12, "sessions counted")
    after = exporter.scrape()
    assert after[SESSIONS] - before[SESSIONS] == 12
    active = 'pg_stat_database_session_active_seconds_total{datname="poolscope"}'
    busy_s = after[active] - before[active]
    # A statement that only computes is busy for as long as it runs, or less on a busy host.
    assert 0.3 * busy_s < after[CPU] - before[CPU] < 2 * busy_s + 0.2


def test_cpu_never_falls_while_backends_come_and_go(servers: Servers, exporter: Exporter) -> None:
    stop = threading.Event()

    def connect() -> None:
        while not stop.is_set():
            with psycopg.connect(servers.superuser_dsn) as connection:
                connection.execute("SELECT count(*) FROM generate_series(1, 20000)")

    threads = [threading.Thread(target=connect) for _ in range(3)]
    for thread in threads:
        thread.start()
    values = [exporter.scrape()[CPU] for _ in range(60)]
    stop.set()
    for thread in threads:
        thread.join()
    assert values == sorted(values)
    assert values[-1] > values[0]


def test_exporter_does_not_count_among_the_sessions(servers: Servers, exporter: Exporter) -> None:
    """It keeps its connections, so that it is not part of what it measures."""
    everywhere = [exporter.scrape() for _ in range(5)]
    totals = [
        sum(v for k, v in one.items() if k.startswith("pg_stat_database_sessions_total"))
        for one in (everywhere[1], everywhere[-1])
    ]
    assert totals[0] == totals[1]


def test_backend_that_authenticates_is_seen(servers: Servers, exporter: Exporter) -> None:
    """In no view of PostgreSQL: only in its process title."""
    parameters = psycopg.conninfo.conninfo_to_dict(servers.superuser_dsn)
    name = 'pg_connecting_backends{phase="authentication"}'
    assert exporter.scrape()[name] == 0
    with socket.create_connection(
        (str(parameters["host"]), int(str(parameters["port"])))
    ) as client:
        body = struct.pack("!i", 3 << 16) + b"user\0postgres\0database\0poolscope\0\0"
        client.sendall(struct.pack("!i", len(body) + 4) + body)
        until(lambda: exporter.scrape()[name] == 1, "authentication seen")
    until(lambda: exporter.scrape()[name] == 0, "authentication over")


def test_room_for_connections_ends_where_postgresql_refuses(tmp_path: Path) -> None:
    """The exporter's own connection is one of those that are allowed."""

    def room() -> float:
        found = exporter.scrape()
        reserved = found["pg_settings_superuser_reserved_connections"]
        reserved += found.get("pg_settings_reserved_connections", 0)
        taken = found["pg_stat_activity_client_backends"]
        taken += sum(v for k, v in found.items() if k.startswith("pg_connecting_backends"))
        return found["pg_settings_max_connections"] - reserved - taken

    with running_servers(max_connections=8) as few, ExitStack() as opened:
        exporter = Exporter(few, tmp_path)
        exporter.start()
        opened.callback(exporter.stop)
        ordinary = make_conninfo(few.exporter_dsn, password=few.exporter_password)
        until(lambda: room() >= 2, "some room")
        while (left := room()) >= 1:
            opened.enter_context(psycopg.connect(ordinary))
            until(lambda: room() == left - 1, "connection counted")
        with pytest.raises(psycopg.OperationalError, match="connection slots"):
            psycopg.connect(ordinary)
        assert left == 0


def test_lock_waits_and_wait_events_are_seen(servers: Servers, exporter: Exporter) -> None:
    with (
        psycopg.connect(servers.superuser_dsn) as holder,
        psycopg.connect(servers.superuser_dsn) as waiter,
    ):
        holder.execute("SELECT pg_advisory_lock(1)")
        blocked = threading.Thread(
            target=lambda: waiter.execute("SELECT pg_advisory_lock(1)"), daemon=True
        )
        blocked.start()
        until(lambda: exporter.scrape()["pg_stat_activity_lock_waits"] == 1, "lock wait seen")
        event = 'state="active",wait_event="advisory",wait_event_type="Lock"'
        assert exporter.scrape()[f"pg_stat_activity_wait_events{{{event}}}"] == 1
        holder.execute("SELECT pg_advisory_unlock(1)")
        blocked.join(5)
    until(lambda: exporter.scrape()["pg_stat_activity_lock_waits"] == 0, "lock wait over")


def test_pgbouncer_queue_is_seen_below_a_second(servers: Servers, exporter: Exporter) -> None:
    """One server connection, held; the second client waits for it."""

    def run(statement: str) -> threading.Thread:
        def work() -> None:
            dsn = servers.pgbouncer_client_dsn
            with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
                connection.execute(statement)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    active = f"pgbouncer_pools_server_active_connections{POOL}"
    waiting = f"pgbouncer_pools_client_waiting_connections{POOL}"
    before = exporter.scrape()
    holder = run("SELECT pg_sleep(0.8)")
    until(lambda: exporter.scrape().get(active) == 1, "server connection in use")
    waiter = run("SELECT 1")
    until(lambda: exporter.scrape()[waiting] == 1, "client waiting")
    found = exporter.scrape()
    assert 0 < found[f"pgbouncer_pools_client_maxwait_seconds{POOL}"] < 1
    holder.join()
    waiter.join()
    total = 'pgbouncer_stats_totals_client_wait_seconds_total{database="poolscope"}'
    assert 0.05 < exporter.scrape()[total] - before.get(total, 0) < 2


def test_pgbouncer_that_dies_costs_its_own_figures_only(
    servers: Servers, exporter: Exporter
) -> None:
    exporter.scrape()
    os.kill(servers.pgbouncer_pid(), signal.SIGKILL)
    until(lambda: exporter.scrape()["pgbouncer_up"] == 0, "pgbouncer seen down")
    down = exporter.scrape()
    assert not any(name.startswith(("pgbouncer_pools_", "pgbouncer_stats_")) for name in down)
    assert down['poolscope_collector_up{collector="pgbouncer"}'] == 0
    assert down['poolscope_collector_up{collector="postgres"}'] == 1
    assert down[SESSIONS] >= 0
    servers.restart_pgbouncer()
    exporter.write_state()
    until(lambda: exporter.scrape()["pgbouncer_up"] == 1, "pgbouncer seen up")
    log = exporter.log()
    assert log.count("collector pgbouncer down") == 1
    assert log.count("collector pgbouncer up again") == 1


def test_postgres_connection_that_is_killed_is_opened_again(
    servers: Servers, exporter: Exporter
) -> None:
    """Within the same scrape: a restart of PostgreSQL costs no sample."""
    exporter.scrape()
    with psycopg.connect(servers.superuser_dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE usename = 'poolscope_exporter'"
        )
    assert exporter.scrape()['poolscope_collector_up{collector="postgres"}'] == 1


def test_postgres_that_hangs_does_not_hold_back_the_others(
    servers: Servers, tmp_path: Path
) -> None:
    exporter = Exporter(servers, tmp_path, deadline_s=0.3)
    exporter.start()
    try:
        exporter.scrape()
        with psycopg.connect(servers.superuser_dsn, autocommit=True) as connection:
            row = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE usename = 'poolscope_exporter'"
            ).fetchone()
        assert row is not None
        os.kill(row[0], signal.SIGSTOP)
        try:
            begin = time.monotonic()
            found = exporter.scrape()
            assert time.monotonic() - begin < 3
        finally:
            os.kill(row[0], signal.SIGCONT)
        assert found['poolscope_collector_up{collector="postgres"}'] == 0
        assert SESSIONS not in found
        assert found[CPU] > 0
        assert found["pgbouncer_up"] == 1
        up = 'poolscope_collector_up{collector="postgres"}'
        until(lambda: exporter.scrape()[up] == 1, "postgres collector up again")
    finally:
        exporter.stop()


def test_exporter_ends_cleanly_and_never_shows_a_password(servers: Servers, tmp_path: Path) -> None:
    exporter = Exporter(servers, tmp_path)
    exporter.start()
    exporter.scrape()
    argv = Path(f"/proc/{exporter.pid}/cmdline").read_bytes().decode()
    assert exporter.stop() == 0
    for secret in (servers.exporter_password, servers.pgbouncer_stats_password):
        assert secret not in exporter.log() + argv
    assert "Traceback" not in exporter.log()


def test_wrong_password_is_one_line_without_it(servers: Servers, tmp_path: Path) -> None:
    broken = Servers(**(vars(servers) | {"exporter_password": "wr0ng-s3cret"}))
    exporter = Exporter(broken, tmp_path)
    exporter.start()
    try:
        for _ in range(3):
            found = exporter.scrape()
    finally:
        exporter.stop()
    assert found['poolscope_collector_up{collector="postgres"}'] == 0
    assert found["pgbouncer_up"] == 1
    assert exporter.log().count("password authentication failed") == 1
    assert "wr0ng-s3cret" not in exporter.log()
