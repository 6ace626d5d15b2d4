"""PostgreSQL: CPU, transactions, waits, locks, WAL, cache, statements."""

from __future__ import annotations

from monitoring.dashboards.panel import (
    Dashboard,
    Panel,
    Query,
    Row,
    columns,
    limits,
    lines,
    of_signal,
    scoped,
    signal,
)
from monitoring.promql import ratio
from monitoring.signals import BY_NAME, SCRAPE_INTERVAL_S

CPU = Row(
    "CPU and memory",
    (
        lines(
            "CPU against its limit",
            "1 is the limit. Runbook: monitoring/runbooks/database-cpu.md.",
            signal("db_cpu_ratio", "used"),
            unit="percentunit",
            steps=limits("db_cpu_ratio"),
        ),
        of_signal(
            "timeseries",
            "Throttling",
            "Share of enforcement periods in which the limit ran out: every statement of the period"
            " then stands still until the next one.",
            "db_throttled_ratio",
            max=1,
        ),
        lines(
            "Memory",
            "Memory that cannot be dropped, and its limit (no line: none is enforced).",
            Query(
                scoped('poolscope:memory_working_set_bytes{name="postgres"}'), "used", due="always"
            ),
            Query(scoped('poolscope:memory_limit_bytes{name="postgres"}'), "limit"),
            unit="bytes",
        ),
    ),
)

WORK = Row(
    "Work",
    (
        lines(
            "Transactions per second",
            "Commits and rollbacks together, and rollbacks alone. A service that only reads may"
            " end each transaction by a rollback.",
            signal("postgres_transactions_per_second", "all"),
            signal("postgres_rollbacks_per_second", "rolled back"),
            unit="suffix:/s",
        ),
        lines(
            "Sessions at work",
            "Mean number of sessions that run a statement. Far above the CPU limit: they wait for"
            " CPU or for each other.",
            signal("postgres_active_sessions", "running a statement"),
        ),
        lines(
            "Rows per second",
            "Read by scans, fetched by index, inserted. Read far above fetched: a table is scanned"
            " as a whole.",
            signal("postgres_rows_returned_per_second", "read by scans"),
            signal("postgres_rows_fetched_per_second", "fetched by index"),
            signal("postgres_rows_inserted_per_second", "inserted"),
            unit="suffix:/s",
        ),
    ),
)

BY_STATEMENT = "sum by (queryid, query)"
#: How often the statements' counters are read.
STEP = f"{SCRAPE_INTERVAL_S['poolscope']}s"


def _grown(counter: str) -> str:
    """Return how much a counter of the statements grew in the range, while a chosen cell ran.

    In steps of a scrape, whose sum is the growth: increase() over the range would take that of
    other cells along. Where the counters begin anew, as they do before each cell, the step counts
    for nothing.
    """
    series = f"pg_top_statement_{counter}_total"
    grown = scoped(f"({series} - {series} offset {STEP}) >= 0")
    return f"{BY_STATEMENT} (sum_over_time(({grown})[$__range:{STEP}]))"


def top(name: str) -> Query:
    """Return a signal of the five statements that took most time in the range, by a short name."""
    run = scoped(BY_NAME["postgres_statement_sessions"].record)
    most = f"topk(5, sum_over_time(({run})[$__range:{STEP}] @ end()))"
    record = BY_NAME[name].record
    named = f'label_replace({record}, "statement", "$1", "query", "(?s)(.{{0,36}}).*")'
    numbered = f'label_replace({named}, "number", "$1", "queryid", ".*(.{{4}})")'
    expr = f"{numbered} and on(queryid, query) {most}"
    return Query(scoped(expr), "{{statement}} …{{number}}", due="load")


#: Over the whole range: a table of rates would be empty once the load has ended.
TOP = tuple(
    Query(expr, instant=True, format="table", due="load")
    for expr in (
        f"{_grown('seconds')} and {_grown('calls')} > 0",
        f"{_grown('calls')} > 0",
        ratio(_grown("seconds"), _grown("calls")),
        ratio(_grown("rows"), _grown("calls")),
    )
)
STATEMENTS = Row(
    "Statements",
    (
        Panel(
            "table",
            "Top statements",
            "The statements that took most time in this range, by pg_stat_statements (the ten first"
            " at a time): time in all, calls, mean time and rows. One statement per request is"
            " equal work; another one that takes time is not the service's.",
            TOP,
            width=24,
            height=9,
            transformations=columns(
                "time", "calls", "mean time", "rows per call", labels=("query", "queryid")
            ),
            overrides={
                "time": {"unit": "s", "custom.width": 90},
                "calls": {"unit": "locale", "decimals": 0, "custom.width": 100},
                "mean time": {"unit": "s", "custom.width": 100},
                "rows per call": {"decimals": 1, "custom.width": 110},
                "queryid": {"unit": "string", "custom.width": 190},
            },
            options={"sortBy": [{"displayName": "time", "desc": True}]},
        ),
        lines(
            "Time by statement",
            "Mean number of sessions that run each of the five statements that take most time; the"
            " sum is most of the database's work.",
            top("postgres_statement_sessions"),
            unit="suffix: sessions",
            stack=True,
            width=12,
        ),
        lines(
            "Mean time by statement",
            "Inside PostgreSQL, of the same five. It grows with the load: waiting for CPU, locks or"
            " pages.",
            top("postgres_statement_mean_seconds"),
            unit="s",
            width=12,
        ),
    ),
)

WAITS = Row(
    "Waits and locks",
    (
        lines(
            "Active backends by what they wait for",
            "none: on a CPU, or ready for one; many of them with CPU at its limit is a queue for"
            " CPU. Lock, LWLock, IO, Client: the next panel says which.",
            signal("postgres_active_backends_by_wait", by="wait_event_type"),
            stack=True,
        ),
        lines(
            "Wait events",
            "Active backends by single wait event. WALWrite and WALSync: commits wait for the disk;"
            " ClientRead: the service is slow to send.",
            Query(
                scoped("poolscope:postgres_active_backends_by_event"),
                "{{wait_event_type}}: {{wait_event}}",
            ),
            stack=True,
        ),
        lines(
            "Lock waits",
            "Backends that wait for a lock another one holds, and deadlocks per second.",
            signal("postgres_lock_waits", "waiting"),
            signal("postgres_deadlocks_per_second", "deadlocks/s"),
        ),
        lines(
            "Locks by mode",
            "Held or wanted. AccessExclusive on a busy table stops everybody.",
            signal("postgres_locks", by="mode"),
            stack=True,
            width=12,
        ),
        lines(
            "Backends by state",
            "What all clients' backends do.",
            signal("postgres_backends", by="state"),
            stack=True,
            width=12,
            more="poolscope-connections",
        ),
    ),
)

PAGES = Row(
    "Pages and log",
    (
        of_signal(
            "timeseries",
            "Cache hits",
            "Share of pages found in shared_buffers. Below 99% here, data is larger than the"
            " cache.",
            "postgres_cache_hit_ratio",
            max=1,
            width=6,
        ),
        lines(
            "WAL",
            "Write-ahead log in bytes. Reading alone writes next to none.",
            signal("postgres_wal_bytes_per_second", "written"),
            unit="Bps",
            width=6,
        ),
        lines(
            "WAL records per second",
            "Records in the write-ahead log: several for each row that is written.",
            signal("postgres_wal_records_per_second", "records"),
            unit="suffix:/s",
            width=6,
        ),
        of_signal(
            "timeseries",
            "Temporary files",
            "Bytes per second written to disk by sorts and hashes, because work_mem was too small.",
            "postgres_temp_bytes_per_second",
            width=6,
        ),
    ),
)

DATABASE = Dashboard(
    "poolscope-database",
    "Poolscope: database",
    "What PostgreSQL does: whether it is short of CPU, which statements take the time, what"
    " backends wait for.",
    (CPU, WORK, STATEMENTS, WAITS, PAGES),
)
