"""PgBouncer: clients, servers, the queue between them, traffic, limits."""

from __future__ import annotations

from monitoring.dashboards.panel import (
    Dashboard,
    Panel,
    Query,
    Row,
    growing,
    limits,
    lines,
    now,
    of_signal,
    scoped,
    signal,
)
from monitoring.promql import POOLED


def _raw(name: str, legend: str, by: str = "database") -> Query:
    """Return a figure of PgBouncer's own that no signal needs, its console left out."""
    expr = f'sum(pgbouncer_{name}{{{by}="poolscope"}})'
    return Query(scoped(expr), legend, due="pgbouncer")


def _rate(name: str, legend: str) -> Query:
    counter = growing(f"pgbouncer_stats_totals_{name}_total", POOLED)
    return Query(scoped(f"sum{counter}"), legend)


QUEUE = Row(
    "Clients and the queue",
    (
        lines(
            "Clients by state",
            "Active: with a server connection, or in need of none. Waiting: in the queue. Runbook:"
            " monitoring/runbooks/pgbouncer-pool.md.",
            signal("pgbouncer_clients_active", "active"),
            signal("pgbouncer_clients_waiting", "waiting"),
            signal("pgbouncer_clients_login", "logging in"),
            stack=True,
        ),
        lines(
            "Wait for a server connection",
            "Head of the queue by now, and the mean of waits that ended. At query_wait_timeout"
            " clients are disconnected.",
            signal("pgbouncer_client_wait_max_seconds", "head of the queue"),
            signal("pgbouncer_client_wait_mean_seconds", "mean"),
            unit="s",
        ),
        of_signal(
            "timeseries",
            "Clients over max_client_conn",
            "At 1 the next client is refused.",
            "pgbouncer_clients_used_ratio",
            max=1,
        ),
    ),
)

SERVERS = Row(
    "Server connections",
    (
        lines(
            "By state",
            "Active: in use by a client. Idle: ready. Used: idle for long, checked before the next"
            " use. Logging in: being opened.",
            signal("pgbouncer_servers_active", "active"),
            signal("pgbouncer_servers_idle", "idle"),
            signal("pgbouncer_servers_used", "used"),
            signal("pgbouncer_servers_login", "logging in"),
            _raw("pools_server_testing_connections", "being checked"),
            stack=True,
        ),
        lines(
            "Use of the pool",
            "Active over pool size. At 1 with clients waiting the pool is full: larger only if the"
            " database has CPU left.",
            signal("pgbouncer_pool_used_ratio", "active over pool size"),
            unit="percentunit",
            steps=limits("pgbouncer_pool_used_ratio"),
        ),
        lines(
            "Opened per second",
            "Server connections that PgBouncer opened. Above 0 in steady load: they are closed too"
            " early (server_idle_timeout, server_lifetime), or break.",
            signal("pgbouncer_server_connections_per_second", "opened"),
            unit="suffix:/s",
        ),
    ),
)

TRAFFIC = Row(
    "Traffic",
    (
        lines(
            "Queries and transactions per second",
            "In transaction pooling each transaction takes a server connection and gives it back"
            " (assignments). Parses to servers far below those from clients: prepared statements"
            " are used again. Assignments, parses and binds are there from PgBouncer 1.24 on.",
            signal("pgbouncer_queries_per_second", "queries"),
            signal("pgbouncer_transactions_per_second", "transactions"),
            _rate("server_assignments", "assignments"),
            _rate("client_parses", "parses from clients"),
            _rate("server_parses", "parses to servers"),
            _rate("binds", "binds"),
            unit="suffix:/s",
        ),
        lines(
            "Time of a query",
            "Inside PgBouncer with its wait, the wait alone, and how long a transaction held its"
            " server connection.",
            signal("pgbouncer_query_mean_seconds", "query, wait included"),
            signal("pgbouncer_client_wait_mean_seconds", "wait"),
            signal("pgbouncer_transaction_mean_seconds", "transaction"),
            unit="s",
        ),
        lines(
            "Bytes per second",
            "From clients and to clients.",
            signal("pgbouncer_received_bytes_per_second", "from clients"),
            signal("pgbouncer_sent_bytes_per_second", "to clients"),
            unit="Bps",
        ),
    ),
)

PROCESS = Row(
    "The process",
    (
        of_signal(
            "timeseries",
            "CPU against its limit",
            "PgBouncer has one thread: its limit is one core at most. Near it, run several by"
            " so_reuseport. Runbook: monitoring/runbooks/pgbouncer-cpu.md.",
            "pgbouncer_cpu_ratio",
            "{{name}}",
        ),
        of_signal(
            "timeseries",
            "Throttling",
            "Share of enforcement periods in which PgBouncer's CPU limit ran out.",
            "pgbouncer_throttled_ratio",
            "{{name}}",
            max=1,
        ),
        lines(
            "Cancel requests",
            "Clients that gave up on a query and had it cancelled: waiting to be sent on, being"
            " answered, and servers kept back for it. Above 0: timeouts in the service.",
            _raw("pools_client_waiting_cancel_connections", "waiting"),
            _raw("pools_client_active_cancel_connections", "being answered"),
            _raw("pools_server_active_cancel_connections", "servers that send one"),
            _raw("pools_server_being_canceled_connections", "servers kept back"),
        ),
        Panel(
            "stat",
            "Limits",
            "Server connections per pool, those in reserve, those there now; clients allowed in"
            " all, and clients now.",
            (
                now(signal("pgbouncer_pool_size", "pool size")),
                now(_raw("databases_reserve_pool", "reserve", "name")),
                now(_raw("databases_current_connections", "server connections", "name")),
                now(
                    Query(
                        scoped("max(pgbouncer_config_max_client_connections)"),
                        "max_client_conn",
                        due="pgbouncer",
                    )
                ),
                now(signal("pgbouncer_clients", "clients")),
            ),
            width=24,
            height=4,
        ),
    ),
)

PGBOUNCER = Dashboard(
    "poolscope-pgbouncer",
    "Poolscope: PgBouncer",
    "The queue between clients and server connections. Everything here is empty on the direct"
    " route.",
    (QUEUE, SERVERS, TRAFFIC, PROCESS),
)
