"""PgBouncer's console under the names of prometheus-community/pgbouncer_exporter 0.11 and later.

Added: `pgbouncer_pools_client_maxwait_seconds` has its microseconds, which the packaged exporter
drops (a wait of 0.3 s reads 0 there), and PgBouncer 1.24's server assignments. Columns are found
by name, so 1.18 to 1.24 are read alike. The console is a database `pgbouncer` of its own and
appears in these figures, this exporter's connection with it: leave it out in PromQL.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from prometheus_client.metrics_core import Metric
from psycopg import ClientCursor

from monitoring.exporter.connection import Columns, KeptConnection, fetch
from monitoring.exporter.reading import Reading, counter, gauge, number

US = 1e-6

#: SHOW STATS: column, exposed name, factor, text.
STATS = (
    ("total_query_count", "queries_pooled_total", 1, "SQL queries pooled"),
    ("total_query_time", "queries_duration_seconds_total", US, "Time of queries, waits included"),
    ("total_xact_count", "sql_transactions_pooled_total", 1, "SQL transactions pooled"),
    ("total_xact_time", "server_in_transaction_seconds_total", US, "Time in transactions"),
    ("total_wait_time", "client_wait_seconds_total", US, "Time clients waited for a server"),
    ("total_received", "received_bytes_total", 1, "Bytes received from clients"),
    ("total_sent", "sent_bytes_total", 1, "Bytes sent to clients"),
    ("total_server_assignment_count", "server_assignments_total", 1, "Servers given to clients"),
    ("total_client_parse_count", "client_parses_total", 1, "Parse messages from clients"),
    ("total_server_parse_count", "server_parses_total", 1, "Parse messages to PostgreSQL"),
    ("total_bind_count", "binds_total", 1, "Bind messages to PostgreSQL"),
)
#: SHOW POOLS: column, exposed name, text.
POOLS = (
    ("cl_active", "client_active_connections", "Clients linked to a server connection"),
    ("cl_waiting", "client_waiting_connections", "Clients waiting for a server connection"),
    ("cl_active_cancel_req", "client_active_cancel_connections", "Cancels being answered"),
    ("cl_waiting_cancel_req", "client_waiting_cancel_connections", "Cancels not yet sent on"),
    ("sv_active", "server_active_connections", "Servers linked to a client"),
    ("sv_active_cancel", "server_active_cancel_connections", "Servers sending a cancel"),
    ("sv_being_canceled", "server_being_canceled_connections", "Servers kept for a cancel"),
    ("sv_idle", "server_idle_connections", "Servers ready for a client"),
    ("sv_used", "server_used_connections", "Servers idle long enough to want a check"),
    ("sv_tested", "server_testing_connections", "Servers running a reset or check query"),
    ("sv_login", "server_login_connections", "Servers logging in"),
)
#: SHOW DATABASES: columns (renamed in 1.23), exposed name, text.
DATABASES = (
    (("pool_size",), "pool_size", "Server connections allowed per user"),
    (("reserve_pool_size", "reserve_pool"), "reserve_pool", "Additional ones under pressure"),
    (("max_connections",), "max_connections", "Server connections allowed; 0 = no limit"),
    (("current_connections",), "current_connections", "Server connections now"),
    (("paused",), "paused", "1 if paused"),
    (("disabled",), "disabled", "1 if disabled"),
)
DATABASE_LABELS = ("name", "host", "port", "database", "force_user", "pool_mode")
#: SHOW LISTS: item, exposed name.
LISTS = {
    "databases": "databases",
    "users": "users",
    "pools": "pools",
    "free_clients": "free_clients",
    "used_clients": "used_clients",
    "login_clients": "login_clients",
    "free_servers": "free_servers",
    "used_servers": "used_servers",
    "dns_names": "cached_dns_names",
    "dns_zones": "cached_dns_zones",
    "dns_queries": "in_flight_dns_queries",
}
#: SHOW CONFIG: key, exposed name.
CONFIG = {
    "max_client_conn": "max_client_connections",
    "max_user_connections": "max_user_connections",
}


@dataclass
class PgbouncerSource:
    """Asks PgBouncer's console."""

    conninfo: str
    name: str = "pgbouncer"

    def __post_init__(self) -> None:
        # The console speaks the simple protocol only: no parameters apart, nothing prepared.
        self._connection = KeptConnection(
            self.conninfo, {"prepare_threshold": None, "cursor_factory": ClientCursor}
        )

    def read(self) -> Reading:
        """Return all figures; where PgBouncer does not answer, only `pgbouncer_up` 0."""
        try:
            return Reading([_up(1), *self._connection.run(_families)])
        except psycopg.Error as error:
            return Reading([_up(0)], [str(error)])


def _up(value: int) -> Metric:
    return gauge("pgbouncer_up", "Whether PgBouncer's console answered", [], [((), value)])


def _families(connection: psycopg.Connection) -> list[Metric]:
    version = str(fetch(connection, "SHOW VERSION")[0]["version"])
    return [
        gauge("pgbouncer_version_info", "PgBouncer's version", ["version"], [((version,), 1)]),
        *stats_families(fetch(connection, "SHOW STATS")),
        *pools_families(fetch(connection, "SHOW POOLS")),
        *databases_families(fetch(connection, "SHOW DATABASES")),
        *lists_families(fetch(connection, "SHOW LISTS")),
        *config_families(fetch(connection, "SHOW CONFIG")),
    ]


def stats_families(rows: list[Columns]) -> list[Metric]:
    """Return the counters of SHOW STATS, times in seconds."""
    families = []
    for column, name, factor, text in STATS:
        values = [((str(row["database"]),), number(row, column)) for row in rows]
        scaled = [(labels, None if value is None else value * factor) for labels, value in values]
        families.append(counter(f"pgbouncer_stats_totals_{name}", text, ["database"], scaled))
    return families


def pools_families(rows: list[Columns]) -> list[Metric]:
    """Return the gauges of SHOW POOLS."""
    families = []
    labels = ["database", "user"]
    for column, name, text in POOLS:
        values = [((str(row["database"]), str(row["user"])), number(row, column)) for row in rows]
        families.append(gauge(f"pgbouncer_pools_{name}", text, labels, values))
    waits = [((str(row["database"]), str(row["user"])), _maxwait_s(row)) for row in rows]
    text = "How long the client at the head of the queue has waited"
    families.append(gauge("pgbouncer_pools_client_maxwait_seconds", text, labels, waits))
    return families


def _maxwait_s(row: Columns) -> float | None:
    seconds, microseconds = number(row, "maxwait"), number(row, "maxwait_us")
    return None if seconds is None else seconds + (microseconds or 0) * US


def databases_families(rows: list[Columns]) -> list[Metric]:
    """Return the gauges of SHOW DATABASES."""
    families = []
    for columns, name, text in DATABASES:
        values = [
            (
                ["" if row.get(label) is None else str(row[label]) for label in DATABASE_LABELS],
                number(row, *columns),
            )
            for row in rows
        ]
        families.append(gauge(f"pgbouncer_databases_{name}", text, DATABASE_LABELS, values))
    return families


def lists_families(rows: list[Columns]) -> list[Metric]:
    """Return the gauges of SHOW LISTS."""
    items = {str(row["list"]): number(row, "items") for row in rows}
    return [
        gauge(f"pgbouncer_{name}", f"Count of {name}", [], [((), items.get(item))])
        for item, name in LISTS.items()
    ]


def config_families(rows: list[Columns]) -> list[Metric]:
    """Return the limits of SHOW CONFIG; 0 means unlimited there."""
    values = {str(row["key"]): row["value"] for row in rows if row["key"] in CONFIG}
    return [
        gauge(f"pgbouncer_config_{name}", f"{key} of PgBouncer", [], [((), number(values, key))])
        for key, name in CONFIG.items()
    ]
