"""Edges, samples and the generator's account -> what a rung's window gave: arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psutil

from lab.edges import Edge
from lab.ladder.generator import Account, Window
from lab.ladder.plan import Rung
from lab.ladder.records import Measured
from lab.ladder.watch import time_in


@dataclass(frozen=True)
class Reading:
    """What the lab read itself at one edge of the window: WAL in bytes, statements of the role."""

    edge: Edge
    wal: int
    statements: int


@dataclass
class Watched:
    """Backends by what they did, and why that is not known where it is not."""

    waits: dict[str, float] = field(default_factory=dict)
    failed: str | None = None


def measured(
    rung: Rung, window: Window, account: Account, first: Reading, last: Reading, watched: Watched,
    limit_cores: float,
) -> Measured:  # fmt: skip
    """Return the figures of a window; one without its source is None, with the reason."""
    missing: dict[str, str] = {}
    if watched.failed or not watched.waits:
        missing["time_in"] = watched.failed or "no sample was taken"
    database = _of_database(window, first, last, limit_cores, missing)
    lanes = rung.lanes * rung.processes
    return Measured(
        **_of_generator(window, account, lanes),
        **database,
        time_in=time_in(watched.waits, lanes, database["db_cores"]) if watched.waits else {},
        waits={name: round(value, 3) for name, value in watched.waits.items()},
        host_cpu=_host(first.edge, last.edge, busy=True),
        host_cores=psutil.cpu_count() or 1,
        steal=_host(first.edge, last.edge, busy=False),
        timeline=window.timeline,
        missing=missing,
    )


def _of_generator(window: Window, account: Account, lanes: int) -> dict[str, Any]:
    """Return what the generator's own seconds and account say."""
    p50, p95, p99, highest = window.latencies_ms
    attempts = window.rows + window.failed_rows
    # A late write's latency holds its wait for a lane; no lane is busier than the window is long.
    spent_s = min(window.sum_ms / 1000, window.window_s * lanes)
    return {
        "window_s": window.window_s,
        "rows": window.rows,
        "writes": window.writes,
        "rows_per_s": window.rows / window.window_s,
        "commits_per_s": window.writes / window.window_s,
        "latency_mean_ms": window.sum_ms / window.writes if window.writes else None,
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        "latency_p99_ms": p99,
        "latency_max_ms": highest,
        "row_us": window.sum_ms * 1000 / window.rows if window.rows else None,
        "failed_rows": window.failed_rows,
        "failed_writes": window.failed_writes,
        "error_rate": window.failed_rows / attempts if attempts else None,
        "errors": window.errors,
        "queue_mean": sum(window.queue) / len(window.queue),
        "queue_max": max(window.queue),
        "generator_cpu": window.busiest_cpu,
        "generator_cores": window.cores,
        "generator_memory_bytes": account.highest_memory_bytes or None,
        "bodies_s": account.mean("bodies_s"),
        "making_us_per_row": account.mean("making_us_per_row"),
        "open_s": account.mean("open_s"),
        "opened": account.total("opened"),
        "new_connections": window.connects,
        "connect_ms": window.connect_s / window.connects * 1000 if window.connects else None,
        "connect_share": min(1.0, window.connect_s / spent_s) if spent_s else None,
    }


def _of_database(
    window: Window, first: Reading, last: Reading, limit_cores: float, missing: dict[str, str]
) -> dict[str, Any]:
    """Return what PostgreSQL and the groups say.

    The edges lie some milliseconds beside the seconds that the generator counted, so rates are
    compared, and not counts.
    """
    length_s = last.edge.at - first.edge.at
    wal = last.wal - first.wal
    cores = _cores(first.edge, last.edge, "postgres", missing, "db_cores")
    rows_per_s = window.rows / window.window_s
    measurable = length_s > 0 and rows_per_s > 0
    return {
        "db_cores": cores,
        "db_cpu": None if cores is None else cores / limit_cores,
        "pgbouncer_cores": _cores(first.edge, last.edge, "pgbouncer", missing, "pgbouncer_cores"),
        "wal_bytes": wal,
        "wal_bytes_per_row": wal / length_s / rows_per_s if measurable else None,
        "wal_mb_per_s": wal / length_s / 1e6 if length_s > 0 else None,
        "statements_per_row": (
            (last.statements - first.statements) / length_s / rows_per_s if measurable else None
        ),
    }


def _cores(
    first: Edge, last: Edge, server: str, missing: dict[str, str], name: str
) -> float | None:
    """Return the CPU seconds per second of one server, from its group."""
    start, end = first.scrapes.get("poolscope"), last.scrapes.get("poolscope")
    if start is None or end is None:
        why = first.failed.get("poolscope") or last.failed.get("poolscope") or "MONITORING=off"
        missing[name] = f"Poolscope's exporter: {why}"
        return None
    counter = "container_cpu_usage_seconds_total"
    before, after = start.total(counter, name=server), end.total(counter, name=server)
    if before is None or after is None or after < before or end.at <= start.at:
        missing[name] = f"no CPU counter for {server}"
        return None
    return (after - before) / (end.at - start.at)


def _host(first: Edge, last: Edge, *, busy: bool) -> float | None:
    """Return the share of the host's CPU time that was spent, or stolen."""
    spent = {mode: last.cpu[mode] - first.cpu[mode] for mode in last.cpu}
    # The kernel counts guest time in user and nice as well.
    total = sum(v for mode, v in spent.items() if mode not in ("guest", "guest_nice"))
    if total <= 0:
        return None
    idle = spent.get("idle", 0.0) + spent.get("iowait", 0.0)
    return (total - idle) / total if busy else spent.get("steal", 0.0) / total
