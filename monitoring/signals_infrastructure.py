"""Signals of PostgreSQL, PgBouncer, the machine, and the instrument itself."""

from __future__ import annotations

from monitoring.promql import (
    DATABASE,
    POOLED,
    SLOW_W,
    TARGET_DUE,
    cpu_mode,
    cpu_share,
    due,
    rate,
    ratio,
    samples_missing,
    throttled,
)
from monitoring.signal import VALIDITY_GATE, Due, Signal

SERVICES = "fastapi|django|flask"
BACKENDS = "sum(pg_stat_activity_client_backends)"
RESERVED = (
    "(max(pg_settings_superuser_reserved_connections)"
    " + (max(pg_settings_reserved_connections) or vector(0)))"
)
LOADED: Due = "load"
POOLED_AND_LOADED: Due = "pgbouncer load"

#: Of a limit that is enforced in periods, no more than this can be used steadily.
SATURATED = 0.95
SATURATED_SOURCE = "less than a twentieth of the limit is left"

POSTGRES = (
    Signal(
        "postgres_sessions_per_second",
        rate("pg_stat_database_sessions_total", DATABASE),
        "sessions/s",
        "connections that PostgreSQL accepted, by its own count",
    ),
    Signal(
        "postgres_backends",
        f"sum by (state) (pg_stat_activity_count{DATABASE})",
        "backends",
        "backends by state: active, idle, idle in transaction",
    ),
    Signal(
        "postgres_connecting_backends",
        "sum by (phase) (pg_connecting_backends)",
        "backends",
        "backends that no client can use yet, by phase; authentication = waiting for the client's"
        " password exchange",
    ),
    Signal(
        "postgres_connections_room",
        f"max(pg_settings_max_connections) - {RESERVED} - {BACKENDS}"
        " - (sum(pg_connecting_backends) or vector(0))",
        "connections",
        "connections that the service or PgBouncer can still open",
        threshold=1,
        threshold_source="PostgreSQL refuses the next one: too many clients already",
        low_is_bad=True,
    ),
    Signal(
        "postgres_transactions_per_second",
        f"{rate('pg_stat_database_xact_commit', DATABASE, SLOW_W)}"
        f" + {rate('pg_stat_database_xact_rollback', DATABASE, SLOW_W)}",
        "transactions/s",
        "transactions that ended, by commit or rollback",
    ),
    Signal(
        "postgres_cache_hit_ratio",
        ratio(
            rate("pg_stat_database_blks_hit", DATABASE, SLOW_W),
            "("
            + rate("pg_stat_database_blks_hit", DATABASE, SLOW_W)
            + " + "
            + rate("pg_stat_database_blks_read", DATABASE, SLOW_W)
            + ")",
        ),
        "ratio",
        "pages found in shared_buffers",
        "load",
    ),
    Signal(
        "postgres_lock_waits",
        "sum(pg_stat_activity_lock_waits)",
        "backends",
        "backends that wait for a lock another one holds",
    ),
    Signal(
        "postgres_active_backends_by_wait",
        'sum by (wait_event_type) (pg_stat_activity_wait_events{state="active"})',
        "backends",
        "active backends by what they wait for; none = on a CPU, or ready for one",
        "load",
    ),
    Signal(
        "postgres_active_sessions",
        rate("pg_stat_database_session_active_seconds_total", DATABASE),
        "sessions",
        "seconds spent in statements per second: the mean number of sessions that run one",
    ),
    Signal(
        "postgres_wal_bytes_per_second",
        rate("pg_stat_wal_bytes_total"),
        "bytes/s",
        "write-ahead log written; PostgreSQL 14 and later",
    ),
)

PGBOUNCER = (
    *(
        Signal(
            f"pgbouncer_{name}",
            f"sum(pgbouncer_pools_{metric}{POOLED})",
            unit,
            meaning,
            "pgbouncer",
        )
        for name, metric, unit, meaning in (
            (
                "clients_active",
                "client_active_connections",
                "clients",
                "clients that have a server connection, or need none now",
            ),
            (
                "clients_waiting",
                "client_waiting_connections",
                "clients",
                "clients that queue for a server connection",
            ),
            (
                "servers_active",
                "server_active_connections",
                "connections",
                "server connections in use",
            ),
            (
                "servers_idle",
                "server_idle_connections",
                "connections",
                "server connections ready for a client",
            ),
            (
                "servers_login",
                "server_login_connections",
                "connections",
                "server connections being opened",
            ),
        )
    ),
    Signal(
        "pgbouncer_client_wait_max_seconds",
        f"max(pgbouncer_pools_client_maxwait_seconds{POOLED})",
        "s",
        "how long the client at the head of the queue has waited by now",
        "pgbouncer",
    ),
    Signal(
        "pgbouncer_client_wait_mean_seconds",
        ratio(
            rate("pgbouncer_stats_totals_client_wait_seconds_total", POOLED),
            rate("pgbouncer_stats_totals_queries_pooled_total", POOLED),
        ),
        "s",
        "wait for a server connection per query; counted when the wait ends, so look at"
        " pgbouncer_client_wait_max_seconds for a queue that does not move",
        "pgbouncer load",
    ),
    Signal(
        "pgbouncer_queries_per_second",
        rate("pgbouncer_stats_totals_queries_pooled_total", POOLED),
        "queries/s",
        "queries that went through PgBouncer",
        "pgbouncer",
    ),
    Signal(
        "pgbouncer_query_mean_seconds",
        ratio(
            rate("pgbouncer_stats_totals_queries_duration_seconds_total", POOLED),
            rate("pgbouncer_stats_totals_queries_pooled_total", POOLED),
        ),
        "s",
        "a query inside PgBouncer, its wait for a server connection included (PgBouncer's clock"
        " starts when the client sends it): less pgbouncer_client_wait_mean_seconds it is the"
        " time on the server connection",
        "pgbouncer load",
    ),
    Signal(
        "pgbouncer_server_connections_per_second",
        rate("pg_stat_database_sessions_total", DATABASE) + " and on() (max(pgbouncer_up) == 1)",
        "connections/s",
        "server connections that PgBouncer opened; on this route PostgreSQL's sessions are its own",
        "pgbouncer",
    ),
)

RESOURCES = (
    Signal(
        "db_cpu_ratio",
        cpu_share("postgres"),
        "ratio",
        "PostgreSQL's CPU over its limit",
        threshold=SATURATED,
        threshold_source=SATURATED_SOURCE,
    ),
    Signal(
        "service_cpu_ratio",
        cpu_share(SERVICES),
        "ratio",
        "the service's CPU over its limit, by service",
        "load",
        threshold=SATURATED,
        threshold_source=SATURATED_SOURCE,
    ),
    Signal(
        "pgbouncer_cpu_ratio",
        cpu_share("pgbouncer", single_threaded=True),
        "ratio",
        "PgBouncer's CPU over its limit, which is one core at most",
        "pgbouncer",
        threshold=0.8,
        threshold_source="one server at 80% answers in five times its service time: 1 / (1 - 0.8)",
    ),
    *(
        Signal(
            f"{name}_throttled_ratio",
            throttled(services),
            "ratio",
            "enforcement periods in which the CPU limit ran out; no data without a limit",
            due,
        )
        for name, services, due in (
            ("db", "postgres", LOADED),
            ("service", SERVICES, LOADED),
            ("pgbouncer", "pgbouncer", POOLED_AND_LOADED),
        )
    ),
    Signal(
        "memory_working_set_bytes",
        "max by (name) (container_memory_working_set_bytes)",
        "bytes",
        "memory that cannot be dropped, by service",
    ),
    Signal(
        "host_cpu_busy_ratio",
        cpu_mode('mode!~"idle|iowait"'),
        "ratio",
        "CPU of the whole host that is in use",
    ),
    Signal(
        "host_cpu_steal_ratio",
        cpu_mode('mode="steal"'),
        "ratio",
        "CPU that the hypervisor gave to others",
        threshold=0.01,
        threshold_source=VALIDITY_GATE,
    ),
)

INSTRUMENT = (
    Signal(
        "exporter_up",
        due("min by (job) (up)", TARGET_DUE, "job"),
        "1 or 0",
        "whether the last scrape of the job succeeded; no data while its server is not due",
        threshold=1,
        threshold_source="a target that does not answer has no data",
        low_is_bad=True,
    ),
    Signal(
        "collector_up",
        due("min by (collector) (poolscope_collector_up)", "poolscope_collector_due", "collector"),
        "1 or 0",
        "whether a collector of Poolscope's exporter had all of its figures; no data while what it"
        " reads is not due",
        threshold=1,
        threshold_source="a collector that fails leaves its figures out",
        low_is_bad=True,
    ),
    Signal(
        "scrape_duration_seconds",
        "max by (job) (scrape_duration_seconds)",
        "s",
        "how long a scrape took",
    ),
    Signal(
        "samples_missing_ratio",
        samples_missing(),
        "ratio",
        "scrapes of the last twelve that failed or did not happen, by job",
        threshold=0,
        threshold_source=VALIDITY_GATE,
    ),
)
