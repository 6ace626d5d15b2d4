"""Signals of one part in detail, as its own dashboard shows them."""

from __future__ import annotations

from monitoring.promql import (
    DATABASE,
    LOAD_HANDLERS,
    POOLED,
    SLOW_W,
    grown,
    quantile,
    rate,
    ratio,
)
from monitoring.signal import VALIDITY_GATE, Signal
from monitoring.signals_infrastructure import BACKENDS, RESERVED

CONNECTING = "(sum(pg_connecting_backends) or vector(0))"
USABLE = f"(max(pg_settings_max_connections) - {RESERVED})"
NEARLY_FULL = 0.9
NEARLY_FULL_SOURCE = "less than a tenth of the limit is left"


def by_statement(counter: str) -> str:
    """Return the increase per second of a statement's counter, by statement."""
    return f"sum by (queryid, query) {grown(f'pg_top_statement_{counter}_total')}"


SERVICE_DETAIL = (
    Signal(
        "server_requests_by_status_per_second",
        f"sum by (status) {grown('http_request_duration_seconds_count', LOAD_HANDLERS)}",
        "requests/s",
        "requests that the service answered, by status",
        "load",
    ),
    Signal(
        "client_requests_by_status_per_second",
        f"sum by (status) {grown('locust_requests_total')}",
        "requests/s",
        "answers that the load generator got, by status",
        "load",
    ),
    *(
        Signal(f"{name}_p95_seconds", quantile(0.95, histogram), "s", meaning, "load")
        for name, histogram, meaning in (
            (
                "pool_wait",
                "db_client_connection_wait_time_seconds",
                "95% of the checkouts queued no longer than this for a connection",
            ),
            (
                "connection_open",
                "db_client_connection_create_time_seconds",
                "95% of the connections were opened within this time",
            ),
            (
                "connection_use",
                "db_client_connection_use_time_seconds",
                "95% of the connections were given back within this time",
            ),
            (
                "operation",
                "db_client_operation_duration_seconds",
                "95% of the statements took no longer, from sent to last row read",
            ),
        )
    ),
    Signal(
        "service_workers",
        "sum(service_workers)",
        "workers",
        "worker processes of the service that live now",
        "load",
    ),
    Signal(
        "service_workers_busy",
        "sum(service_workers_busy)",
        "workers",
        "workers with at least one request under way when they were looked at",
        "load",
    ),
    Signal(
        "service_backlog_connections",
        "sum(service_listen_backlog_connections)",
        "connections",
        "connections that the kernel accepted and no worker has taken yet",
        "load",
    ),
    Signal(
        "service_backlog_ratio",
        ratio(
            "sum(service_listen_backlog_connections)",
            "sum(service_listen_backlog_max_connections)",
        ),
        "ratio",
        "the backlog over its limit; at the limit the kernel drops new connections",
        "load",
        threshold=NEARLY_FULL,
        threshold_source=NEARLY_FULL_SOURCE,
    ),
    Signal(
        "cpu_cores",
        f"sum by (name) {grown('container_cpu_usage_seconds_total')}",
        "cores",
        "CPU used, in cores, by service",
    ),
    Signal(
        "cpu_limit_cores",
        "max by (name) (container_spec_cpu_quota / container_spec_cpu_period)",
        "cores",
        "CPU allowed, in cores, by service; no data without a limit",
    ),
    Signal(
        "memory_limit_bytes",
        "max by (name) (container_spec_memory_limit_bytes)",
        "bytes",
        "memory allowed, by service; no data without a limit",
    ),
    Signal(
        "memory_used_ratio",
        "max by (name) (container_memory_working_set_bytes)"
        " / on(name) (max by (name) (container_spec_memory_limit_bytes) > 0)",
        "ratio",
        "memory that cannot be dropped over its limit, by service; no data without a limit",
        threshold=NEARLY_FULL,
        threshold_source=NEARLY_FULL_SOURCE,
    ),
)

POSTGRES_DETAIL = (
    Signal(
        "postgres_connections_used_ratio",
        # Of those being opened, what is beyond the limit will be refused.
        f"clamp_max(({BACKENDS} + {CONNECTING}) / {USABLE}, 1)",
        "ratio",
        "connections of clients, those being opened included, over max_connections without the"
        " reserved ones; more than all of it cannot be used",
        threshold=NEARLY_FULL,
        threshold_source=NEARLY_FULL_SOURCE,
    ),
    Signal(
        "postgres_active_backends_by_event",
        "sum by (wait_event_type, wait_event)"
        ' (pg_stat_activity_wait_events{state="active", wait_event_type!="none"})',
        "backends",
        "active backends that wait, by what for",
        "load",
    ),
    Signal(
        "postgres_locks",
        f"sum by (mode) (pg_locks_count{DATABASE}) > 0",
        "locks",
        "locks held or wanted, by mode; no data for a mode without any",
        "load",
    ),
    Signal(
        "postgres_deadlocks_per_second",
        rate("pg_stat_database_deadlocks", DATABASE, SLOW_W),
        "deadlocks/s",
        "deadlocks, each of which ended a transaction",
        threshold=0,
        threshold_source="each is a failed transaction",
    ),
    Signal(
        "postgres_rollbacks_per_second",
        rate("pg_stat_database_xact_rollback", DATABASE, SLOW_W),
        "transactions/s",
        "transactions that were rolled back; a service that only reads may end them so",
    ),
    *(
        Signal(
            f"postgres_rows_{name}_per_second",
            rate(f"pg_stat_database_tup_{name}", DATABASE, SLOW_W),
            "rows/s",
            meaning,
        )
        for name, meaning in (
            ("returned", "rows read by scans"),
            ("fetched", "rows fetched by index scans"),
            ("inserted", "rows inserted"),
        )
    ),
    Signal(
        "postgres_temp_bytes_per_second",
        rate("pg_stat_database_temp_bytes", DATABASE, SLOW_W),
        "bytes/s",
        "written to temporary files, because work_mem was too small",
    ),
    Signal(
        "postgres_wal_records_per_second",
        rate("pg_stat_wal_records_total"),
        "records/s",
        "records written to the write-ahead log; PostgreSQL 14 and later",
    ),
    Signal(
        "postgres_statement_calls_per_second",
        by_statement("calls"),
        "calls/s",
        "executions, by statement; the ten that took most time so far",
        "load",
    ),
    Signal(
        "postgres_statement_sessions",
        by_statement("seconds"),
        "sessions",
        "seconds spent per second, by statement: the mean number of sessions that run it",
        "load",
    ),
    Signal(
        "postgres_statement_mean_seconds",
        ratio(by_statement("seconds"), by_statement("calls")),
        "s",
        "time of one execution inside PostgreSQL, by statement",
        "load",
    ),
    Signal(
        "postgres_statement_rows_per_call",
        ratio(by_statement("rows"), by_statement("calls")),
        "rows",
        "rows that one execution returned or changed, by statement",
        "load",
    ),
)

PGBOUNCER_DETAIL = (
    Signal(
        "pgbouncer_servers_used",
        f"sum(pgbouncer_pools_server_used_connections{POOLED})",
        "connections",
        "server connections idle for so long that they are checked before the next use",
        "pgbouncer",
    ),
    Signal(
        "pgbouncer_pool_size",
        'max(pgbouncer_databases_pool_size{name="poolscope"})',
        "connections",
        "server connections that PgBouncer may open for the service",
        "pgbouncer",
    ),
    Signal(
        "pgbouncer_pool_used_ratio",
        ratio(
            f"sum(pgbouncer_pools_server_active_connections{POOLED})",
            'max(pgbouncer_databases_pool_size{name="poolscope"})',
        ),
        "ratio",
        "server connections in use over the pool's size; the reserve pool may take it above 1",
        "pgbouncer",
        threshold=1,
        threshold_source="the next client has to wait",
    ),
    Signal(
        "pgbouncer_clients",
        "sum(pgbouncer_used_clients)",
        "clients",
        "client connections of all kinds, the exporter's own included",
        "pgbouncer",
    ),
    Signal(
        "pgbouncer_clients_login",
        "sum(pgbouncer_login_clients)",
        "clients",
        "clients that are logging in",
        "pgbouncer",
    ),
    Signal(
        "pgbouncer_clients_used_ratio",
        ratio("sum(pgbouncer_used_clients)", "sum(pgbouncer_config_max_client_connections)"),
        "ratio",
        "client connections over max_client_conn",
        "pgbouncer",
        threshold=NEARLY_FULL,
        threshold_source=NEARLY_FULL_SOURCE,
    ),
    Signal(
        "pgbouncer_transactions_per_second",
        rate("pgbouncer_stats_totals_sql_transactions_pooled_total", POOLED),
        "transactions/s",
        "transactions that went through PgBouncer: in transaction pooling each takes a server"
        " connection and gives it back",
        "pgbouncer",
    ),
    Signal(
        "pgbouncer_transaction_mean_seconds",
        ratio(
            rate("pgbouncer_stats_totals_server_in_transaction_seconds_total", POOLED),
            rate("pgbouncer_stats_totals_sql_transactions_pooled_total", POOLED),
        ),
        "s",
        "how long a transaction held its server connection",
        "pgbouncer load",
    ),
    *(
        Signal(
            f"pgbouncer_{name}_bytes_per_second",
            rate(f"pgbouncer_stats_totals_{name}_bytes_total", POOLED),
            "bytes/s",
            meaning,
            "pgbouncer",
        )
        for name, meaning in (
            ("received", "traffic from clients"),
            ("sent", "traffic to clients"),
        )
    ),
)

MEASURING = (
    Signal(
        "littles_law_ratio",
        ratio(rate("locust_request_duration_seconds_sum"), "sum(locust_users)"),
        "ratio",
        "seconds that requests took per second over the users: near 1 in a closed loop without"
        " think time; below it the generator loses time of its own",
        "load",
        threshold=0.95,
        threshold_source=VALIDITY_GATE,
        low_is_bad=True,
    ),
    Signal(
        "collector_duration_seconds",
        "max by (collector) (poolscope_collector_duration_seconds)",
        "s",
        "how long a collector of Poolscope's exporter took",
    ),
    Signal(
        "instrument_cpu_cores",
        f"sum by (job) {grown('process_cpu_seconds_total', window=SLOW_W)}",
        "cores",
        "CPU that the measuring itself takes, in cores, by job",
    ),
    Signal(
        "rules_duration_seconds",
        "sum(prometheus_rule_group_last_duration_seconds)",
        "s",
        "how long one evaluation of all recording rules takes",
    ),
    Signal(
        "host_load",
        "max(node_load1)",
        "processes",
        "processes that ran or wanted to, on average over the last minute",
    ),
)
