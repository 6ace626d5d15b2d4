"""The write ladder: what the rung that is measured writes, how long it takes, and what it costs."""

from __future__ import annotations

from monitoring.dashboards.panel import (
    CHOSEN_RUN,
    Dashboard,
    Panel,
    Query,
    Row,
    columns,
    growing,
    heat,
    lines,
    now,
    of_signal,
    scoped,
)


def _rate(counter: str, legend: str = "{{rung}}", **labels: str) -> Query:
    """Return a counter of the ladder's generator per second, by rung."""
    chosen = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    selector = f"{{{chosen}}}" if chosen else ""
    expr = f"sum by (rung) {growing(f'ladder_{counter}_total', selector)}"
    return Query(scoped(expr, CHOSEN_RUN), legend)


def _gauge(name: str, legend: str) -> Query:
    return Query(scoped(f"sum by (rung) (ladder_{name})", CHOSEN_RUN), legend)


def _quantile(share: float, legend: str) -> Query:
    buckets = f"sum by (le) {growing('ladder_write_duration_seconds_bucket')}"
    return Query(scoped(f"histogram_quantile({share:g}, {buckets})", CHOSEN_RUN), legend)


RUNG = Row(
    "The rung",
    (
        Panel(
            "table",
            "Rung",
            "Which rung is being measured, and what it promises: committed to disk, up to 600 ms at"
            " risk, or lost on a crash.",
            (
                Query(
                    scoped("max by (rung, method, durability, client) (ladder_info)", CHOSEN_RUN),
                    instant=True,
                    format="table",
                ),
            ),
            nothing="no rung here",
            transformations=columns(None, labels=("rung", "method", "durability", "client")),
            overrides={
                "rung": {"custom.width": 85},
                "method": {"custom.cellOptions": {"type": "auto", "wrapText": True}},
                "durability": {"custom.width": 150},
                "client": {"custom.width": 75},
            },
            width=12,
            height=4,
        ),
        Panel(
            "stat",
            "Rows per second",
            "Rows that PostgreSQL acknowledged.",
            (now(_rate("rows", "rows", outcome="acknowledged")),),
            unit="rowsps",
            width=6,
            height=4,
        ),
        Panel(
            "stat",
            "Writes due and not begun",
            "Above 0 the writer is behind its intended rate. Always 0 at full speed, where a write"
            " is due when the one before has ended.",
            (now(_gauge("queue_length", "writes")),),
            steps=((None, "green"), (1, "red")),
            width=6,
            height=4,
        ),
    ),
)

WRITES = Row(
    "Writes",
    (
        lines(
            "Rows per second",
            "Acknowledged rows by rung, and the intended rate where there is one (TARGET_TPS).",
            _rate("rows", "{{rung}}", outcome="acknowledged"),
            _gauge("target_rows_per_second", "intended"),
            unit="rowsps",
        ),
        lines(
            "Write calls per second",
            "Each acknowledged one is a commit. Failed: refused or without an answer; their rows"
            " are never counted as written.",
            _rate("writes", "{{rung}}", outcome="acknowledged"),
            _rate("writes", "{{rung}}, failed", outcome="failed"),
            unit="suffix:/s",
        ),
        lines(
            "Time of a write call",
            "From its intended start to its acknowledgement, so that lateness shows. A call writes"
            " a whole batch.",
            _quantile(0.5, "P50"),
            _quantile(0.95, "P95"),
            _quantile(0.99, "P99"),
            unit="s",
        ),
        heat(
            "Distribution of the time of a write call",
            "Two bands: some writes wait for something that others do not, such as the flush of"
            " another's commit.",
            "ladder_write_duration_seconds",
            due="sometimes",
            chosen=CHOSEN_RUN,
            width=24,
        ),
    ),
)

COST = Row(
    "What it costs",
    (
        lines(
            "Generator's CPU",
            "In cores. A Python process has one: from there on only more processes help (3-G).",
            _rate("cpu_seconds"),
        ),
        of_signal(
            "timeseries",
            "PostgreSQL's CPU against its limit",
            "Near 1 the database computes all it can: fewer statements per row, not more"
            " connections, make it faster.",
            "db_cpu_ratio",
            "{{name}}",
            CHOSEN_RUN,
        ),
        of_signal(
            "timeseries",
            "WAL",
            "Bytes per second. A row costs about 230 bytes by itself and 140 in a COPY; an unlogged"
            " table costs none.",
            "postgres_wal_bytes_per_second",
            chosen=CHOSEN_RUN,
        ),
        lines(
            "Generator's memory",
            "All processes, pages that they share counted once. It should stay below 300 MB.",
            _gauge("memory_bytes", "{{rung}}"),
            unit="bytes",
            steps=((None, "green"), (300 * 2**20, "red")),
        ),
        lines(
            "Connections opened per second",
            "One per row on the first rungs, none above them.",
            _rate("connections_created"),
            unit="suffix:/s",
        ),
        lines(
            "Time spent opening connections",
            "Seconds per second, over all writes under way: 1 on rung 1 means that it does nothing"
            " else.",
            _rate("connection_create_seconds"),
        ),
    ),
)

LADDER = Dashboard(
    "poolscope-ladder",
    "Poolscope: write ladder",
    "What the rung that is measured writes, how long it takes, and what it costs. Filled by make"
    " ladder.",
    (RUNG, WRITES, COST),
    since="now-15m",
    chosen=CHOSEN_RUN,
)
