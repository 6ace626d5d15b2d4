"""A connection's life: opened, waited for, used; in the service, PgBouncer and PostgreSQL."""

from __future__ import annotations

from monitoring.dashboards.panel import Dashboard, Row, heat, limits, lines, of_signal, signal

OPENING = Row(
    "Opening a connection",
    (
        lines(
            "How often",
            "Connections per second opened by the service, accepted by PostgreSQL, and, through"
            " PgBouncer, opened by PgBouncer. Equal to requests per second: a connection storm."
            " Runbook: monitoring/runbooks/connection-set-up.md.",
            signal("new_connections_per_second", "service"),
            signal("postgres_sessions_per_second", "PostgreSQL"),
            signal("pgbouncer_server_connections_per_second", "PgBouncer's servers"),
            unit="suffix:/s",
        ),
        of_signal(
            "timeseries",
            "Per request",
            "1: every request opens a connection of its own. Near 0: connections are kept.",
            "new_connections_per_request",
        ),
        lines(
            "What it costs",
            "Time to open one, as the service sees it. Direct it is PostgreSQL's fork and the"
            " password exchange; through PgBouncer only the exchange.",
            signal("connection_open_mean_seconds", "mean"),
            signal("connection_open_p95_seconds", "P95"),
            unit="s",
        ),
        heat(
            "Time to open",
            "Each column is a moment, each row a duration, the colour how many connections were"
            " opened. Empty while the pool keeps its connections.",
            "db_client_connection_create_time_seconds",
        ),
        lines(
            "Backends that no client can use yet",
            "By phase. Many in authentication: the password exchange is what costs; many in"
            " initializing: the fork is.",
            signal("postgres_connecting_backends", by="phase"),
            stack=True,
            width=12,
        ),
    ),
)

WAITING = Row(
    "Waiting for a connection",
    (
        lines(
            "Pool wait",
            "Time that a request queued for a connection, opening not counted. Runbook:"
            " monitoring/runbooks/service-pool.md.",
            signal("pool_wait_mean_seconds", "mean"),
            signal("pool_wait_p95_seconds", "P95"),
            unit="s",
        ),
        lines(
            "Requests in the queue",
            "Mean number of requests that wait for a connection (seconds waited per second),"
            " beside those that have one.",
            signal("pool_waiting_requests", "waiting"),
            signal("pool_connections_used", "with a connection"),
        ),
        of_signal(
            "timeseries",
            "Checkouts that gave up",
            "Each is a request answered with 503. Anything above 0 is an error users see.",
            "pool_timeouts_per_second",
        ),
        heat(
            "Time waited",
            "Two bands, one at the bottom and one higher up: some requests find a free connection,"
            " the others stand in the queue.",
            "db_client_connection_wait_time_seconds",
        ),
        lines(
            "Checkouts per second",
            "How often a connection is taken from the pool: once per request, unless a request"
            " does so several times.",
            signal("pool_waits_per_second", "checkouts"),
            signal("server_requests_per_second", "requests"),
            unit="suffix:/s",
            width=12,
        ),
    ),
)

USING = Row(
    "Using a connection",
    (
        lines(
            "Time in use",
            "Checkout to checkin, and the part of it that is the statement. A wide gap: the"
            " service holds connections while it does other things.",
            signal("connection_use_mean_seconds", "in use, mean"),
            signal("connection_use_p95_seconds", "in use, P95"),
            signal("operation_mean_seconds", "statement, mean"),
            signal("operation_p95_seconds", "statement, P95"),
            unit="s",
        ),
        lines(
            "The service's pools by state",
            "All workers together. All used and requests waiting: the pool is the limit, or what"
            " it leads to is.",
            signal("pool_connections_used", "used"),
            signal("pool_connections_idle", "idle"),
            stack=True,
        ),
        lines(
            "Pool use over its size",
            "1: every connection that may be opened is in use. No line: nothing is pooled.",
            signal("pool_used_ratio", "used over allowed"),
            unit="percentunit",
            steps=limits("pool_used_ratio"),
        ),
        heat(
            "Time in use",
            "A wide spread: the same statement takes very different times, as under throttling.",
            "db_client_connection_use_time_seconds",
        ),
        heat(
            "Time of a statement",
            "Statement sent to last row read. Beside time in use it shows what else is done with"
            " a connection in hand.",
            "db_client_operation_duration_seconds",
        ),
    ),
)

PGBOUNCER = Row(
    "PgBouncer (empty on the direct route)",
    (
        lines(
            "Clients by state",
            "Waiting above 0: more clients want a server connection than there are. Runbook:"
            " monitoring/runbooks/pgbouncer-pool.md.",
            signal("pgbouncer_clients_active", "active"),
            signal("pgbouncer_clients_waiting", "waiting"),
            signal("pgbouncer_clients_login", "logging in"),
            stack=True,
            more="poolscope-pgbouncer",
        ),
        lines(
            "Server connections by state",
            "All active and clients waiting: the pool is full.",
            signal("pgbouncer_servers_active", "active"),
            signal("pgbouncer_servers_idle", "idle"),
            signal("pgbouncer_servers_used", "used"),
            signal("pgbouncer_servers_login", "logging in"),
            stack=True,
            more="poolscope-pgbouncer",
        ),
        lines(
            "Wait for a server connection",
            "The oldest client in the queue by now, and the mean of the waits that ended. The"
            " first moves and the second does not: the queue stands still.",
            signal("pgbouncer_client_wait_max_seconds", "head of the queue"),
            signal("pgbouncer_client_wait_mean_seconds", "mean"),
            unit="s",
            more="poolscope-pgbouncer",
        ),
    ),
)

POSTGRES = Row(
    "PostgreSQL",
    (
        lines(
            "Backends by state",
            "Many idle: connections that cost memory and nothing else. Many idle in transaction:"
            " the service keeps transactions open.",
            signal("postgres_backends", by="state"),
            stack=True,
            more="poolscope-database",
        ),
        of_signal(
            "timeseries",
            "Room below max_connections",
            "Connections that can still be opened. At 0 the next one is refused. Runbook:"
            " monitoring/runbooks/max-connections.md.",
            "postgres_connections_room",
            min=None,  # below 0 where the reserved ones are in use
        ),
        of_signal(
            "timeseries",
            "Use of max_connections",
            "Backends, and connections being opened, over what clients may have.",
            "postgres_connections_used_ratio",
            max=1,
        ),
    ),
)

CONNECTIONS = Dashboard(
    "poolscope-connections",
    "Poolscope: connections",
    "What opening, waiting for and using a connection costs, from the service's pool through"
    " PgBouncer to PostgreSQL.",
    (OPENING, WAITING, USING, PGBOUNCER, POSTGRES),
)
