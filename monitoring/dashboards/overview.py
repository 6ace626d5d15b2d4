"""The page to begin with: what runs, how fast, and what is short."""

from __future__ import annotations

from typing import Any

from monitoring.dashboards import runbooks
from monitoring.dashboards.panel import (
    BLUE,
    CHOSEN,
    GREEN,
    RED,
    Dashboard,
    Panel,
    Query,
    Row,
    columns,
    limits,
    lines,
    now,
    of_signal,
    scoped,
    signal,
)
from monitoring.signals_pressure import most_saturated

CELL = ("cell_id", "framework", "route")
_LABELS = ", ".join(("run_id", *CELL))
_INFO = f"max by ({_LABELS}) (last_over_time(lab_cell_info{{{CHOSEN}}}[$__range]))"
_START = (
    'max by (run_id, cell_id) (last_over_time(lab_cell_event_timestamp_seconds{event="cell_start"}'
    "[$__range]))"
)
#: The cell that began last, also where the range ends after it.
NEWEST = f"{_INFO} and on(run_id, cell_id) topk(1, {_START} and on(run_id, cell_id) {_INFO})"
CLIENT, SERVER = (
    {"color": {"mode": "fixed", "fixedColor": BLUE}},
    {"color": {"mode": "fixed", "fixedColor": "orange"}},
)
ALERTS = 'max by (alertname, severity, alertstate, page) (ALERTS{alertstate=~"pending|firing"})'


def _stat(title: str, text: str, name: str, **more: Any) -> Panel:
    return of_signal("stat", title, text, name, **{"width": 3, "height": 3, **more})


NOW = Row(
    "Now",
    (
        Panel(
            "table",
            "Cell",
            "The cell that is measured, or the one measured last in this range. Its settings are"
            " the labels; everything below is about it while it runs.",
            (Query(NEWEST, instant=True, format="table", due="cells"),),
            width=8,
            height=4,
            nothing="no cell in this range",
            transformations=columns(None, labels=CELL, hidden=("run_id",)),
            overrides={
                "cell_id": {
                    "displayName": "cell",
                    "custom.cellOptions": {"type": "auto", "wrapText": True},
                },
                "framework": {"displayName": "service", "custom.width": 70},
                "route": {"custom.width": 80},
            },
        ),
        Panel(
            "stat",
            "Most saturated",
            "The resource that limits throughput at this moment, and its use over its limit: by the"
            " rules of the diagnosis, with a margin, so that it says what the cell's verdict will"
            " say, or -. It says - too where something is waited for that is no resource (locks,"
            " opening connections, busy threads), and where requests fail: look at pool wait, new"
            " connections, lock waits and errors then.",
            (Query(scoped(most_saturated()), "{{resource}}", instant=True),),
            unit="percentunit",
            steps=((None, "text"), (0, "orange"), (0.95, RED)),
            width=5,
            height=4,
            options={"textMode": "value_and_name"},
        ),
        Panel(
            "table",
            "Alerts",
            "Alerts that fire or are about to (pending). The runbook says what it means, how to"
            " confirm it, and what to change: monitoring/runbooks/<name>.md.",
            (Query(runbooks.with_runbook(ALERTS), instant=True, format="table"),),
            width=11,
            height=4,
            nothing="none firing",
            transformations=columns(
                None,
                labels=("severity", "alertname", "alertstate", "runbook"),
                hidden=("page",),
            ),
            overrides={
                "severity": {"custom.width": 68},
                "alertname": {"displayName": "alert", "custom.width": 165},
                "alertstate": {"displayName": "state", "custom.width": 68},
                "runbook": runbooks.cell(),
            },
        ),
        _stat(
            "RPS",
            "Requests per second: answers counted by the load generator. Compare cells, not"
            " machines.",
            "client_requests_per_second",
        ),
        Panel(
            "stat",
            "Latency",
            "As users see it. P50: half of the requests were at least this fast; P95: 19 of 20;"
            " P99: 99 of 100, and far above P95 it is a queue that sometimes overflows, or"
            " throttling."
            " Interpolated between the buckets of a histogram: the exact figures of a cell are in"
            " its record.",
            tuple(
                now(signal(f"client_latency_p{percent}_seconds", f"P{percent}"))
                for percent in (50, 95, 99)
            ),
            unit="s",
            steps=((None, "text"), (0, GREEN)),
            width=7,
            height=3,
            options={"textMode": "value_and_name"},
        ),
        _stat(
            "Errors",
            "Share of requests without the expected answer. Above 0 look at the service's status"
            " codes: 503 is a pool that gave up.",
            "client_failures_ratio",
            steps=((None, "text"), (0, GREEN), (1e-6, RED)),
        ),
        _stat(
            "Users",
            "Users that send requests. In a closed loop without think time this is also how many"
            " requests are under way or queued.",
            "client_users",
        ),
        _stat(
            "New conn/s",
            "Connections per second that the service opens. With a pool that keeps them, 0; each"
            " one costs the database about 30 queries' worth of CPU.",
            "new_connections_per_second",
            width=4,
        ),
        _stat(
            "Pool wait",
            "Mean time that a request queued for a connection. Compare it with P50: what share of"
            " the latency is it?",
            "pool_wait_mean_seconds",
            width=4,
        ),
    ),
)

TRAFFIC = Row(
    "Client beside server",
    (
        lines(
            "Requests per second",
            "What the client counted and what the service counted; they lie on each other. A gap"
            " that stays means that requests do not reach the service, or that figures are lost.",
            signal("client_requests_per_second", "client"),
            signal("server_requests_per_second", "server"),
            unit="reqps",
            overrides={"client": CLIENT, "server": SERVER},
            more="poolscope-services",
        ),
        lines(
            "Latency as users see it",
            "P50, P95 and P99 of the client. All three high and close together: a queue that every"
            " request stands in. P99 alone high: a few requests meet something rare.",
            signal("client_latency_p50_seconds", "P50"),
            signal("client_latency_p95_seconds", "P95"),
            signal("client_latency_p99_seconds", "P99"),
            unit="s",
        ),
        lines(
            "P95: client and server",
            "The gap is time before a worker takes the request: the backlog in front of the"
            " service. No gap: the time is spent inside, on the pool, the database or CPU.",
            signal("client_latency_p95_seconds", "client"),
            signal("server_latency_p95_seconds", "server"),
            unit="s",
            overrides={"client": CLIENT, "server": SERVER},
            more="poolscope-services",
        ),
        lines(
            "Errors",
            "Share of requests that failed: as the client saw it, and answers of 500 and above by"
            " the service. Only the client's line up: connections refused or timed out.",
            signal("client_failures_ratio", "client"),
            signal("server_failures_ratio", "server"),
            unit="percentunit",
            overrides={"client": CLIENT, "server": SERVER},
            more="poolscope-services",
        ),
        lines(
            "Users",
            "Users of the load generator. The ramp is no part of a window.",
            signal("client_users", "users"),
            signal("server_requests_in_progress", "requests inside the service"),
            more="poolscope-services",
        ),
        lines(
            "CPU throttling",
            "Share of enforcement periods in which a service's CPU limit ran out. Above about a"
            " third, latency is mostly time in which nothing may run.",
            signal("db_throttled_ratio", "{{name}}"),
            signal("service_throttled_ratio", "{{name}}"),
            signal("pgbouncer_throttled_ratio", "{{name}}"),
            unit="percentunit",
            max=1,
            more="poolscope-database",
        ),
    ),
)

CAUSES = Row(
    "Where it comes from",
    (
        lines(
            "New connections per second",
            "Opened by the service (or by PgBouncer) and accepted by PostgreSQL, each by its own"
            " count. As high as requests per second: every request connects.",
            signal("new_connections_per_second", "service"),
            signal("postgres_sessions_per_second", "PostgreSQL"),
            unit="suffix:/s",
            more="poolscope-connections",
        ),
        lines(
            "Pool wait",
            "Time in the queue for a connection. High with an idle database: the pool is too small."
            " High with a busy one: a larger pool would only move the queue into the database.",
            signal("pool_wait_mean_seconds", "service, mean"),
            signal("pool_wait_p95_seconds", "service, P95"),
            signal("pgbouncer_client_wait_mean_seconds", "PgBouncer, mean"),
            unit="s",
            more="poolscope-connections",
        ),
        lines(
            "Database CPU against its limit",
            "1 is the limit. At 1 the database is the bottleneck, whatever the pool settings say.",
            signal("db_cpu_ratio", "used"),
            signal("db_throttled_ratio", "periods throttled"),
            unit="percentunit",
            steps=limits("db_cpu_ratio"),
            more="poolscope-database",
        ),
        Panel(
            "bargauge",
            "Use over limit",
            "Every resource that has a limit, by how much of it is used. The first is what"
            " limits throughput first; several near 100% are in balance.",
            (
                Query(
                    f"sort_desc({scoped('poolscope:bottleneck_pressure')})",
                    "{{resource}}",
                    instant=True,
                    due="always",
                ),
            ),
            unit="percentunit",
            max=1,
            steps=((None, GREEN), (0.8, "orange"), (0.95, RED)),
            width=12,
            height=11,
            more="poolscope-services",
        ),
        lines(
            "Use over limit, over time",
            "The same over time: which resource reached its limit first, and what followed.",
            Query(scoped("poolscope:bottleneck_pressure"), "{{resource}}", due="always"),
            unit="percentunit",
            steps=limits("bottleneck_pressure"),
            width=12,
            height=11,
        ),
    ),
)

OVERVIEW = Dashboard(
    "poolscope-overview",
    "Poolscope: overview",
    "What runs now, how fast it is for users, and which resource is short. Read it from top to"
    " bottom.",
    (NOW, TRAFFIC, CAUSES),
)
