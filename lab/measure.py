"""Two edges and the generator's window -> a Measurement: pure arithmetic, no input or output.

Utilisation law U = X*D and Little's law N = X*R: Denning and Buzen, "The operational analysis of
queueing network models", ACM Computing Surveys 10(3), 1978.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.edges import Edge, Scrape
from lab.intervals import LoadWindow
from lab.results import Measurement

#: cAdvisor's name of each limited service, beside the framework's own.
DB, PGBOUNCER = "postgres", "pgbouncer"


@dataclass
class Figures:
    """Values found so far, and the reason for each that could not be had."""

    values: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: float | None, reason: str) -> None:
        """Keep a value, or why there is none."""
        if value is None:
            self.missing[name] = reason
        else:
            self.values[name] = value


def measurement(
    load: LoadWindow,
    first: Edge,
    last: Edge,
    framework: str,
    route: str,
    cores: int,
    sampled: dict[str, float] | None = None,
) -> Measurement:
    """Return what the window gave; a figure without its sources is None, with the reason.

    `sampled` holds the means of gauges over the window: see `sample_means`.
    """
    figures = Figures()
    _service(figures, first, last)
    _database(figures, first, last)
    _pgbouncer(figures, first, last, route)
    _write_ahead_log(figures, first, last)
    for prefix, name in (("db", DB), ("app", framework), ("pgbouncer", PGBOUNCER)):
        if name == PGBOUNCER and route == "direct":
            continue
        _cpu(figures, first, last, prefix, name, cores)
    _host(figures, first, last)
    figures.put("generator_cpu", load.generator_cpu, "the generator reported no CPU time")
    figures.put("generator_late_ms", load.late_ms, "the generator did not say when it wrote")
    return Measurement(
        window_s=load.window_s,
        requests=load.responses,
        failures=load.failures,
        statuses=load.statuses,
        errors=load.errors,
        rps=load.rps,
        mean_ms=load.mean_ms,
        p50_ms=load.p50_ms,
        p95_ms=load.p95_ms,
        p99_ms=load.p99_ms,
        max_ms=load.max_ms,
        error_rate=load.error_rate,
        hdr=load.hdr,
        timeline=load.timeline,
        host_cores=cores,
        sampled=sampled or {},
        missing=figures.missing,
        **figures.values,
    )


def _delta(first: Scrape, last: Scrape, metric: str, /, **labels: str) -> float | None:
    """Return how far a counter went; a series that began in the window counts from zero."""
    end = last.total(metric, **labels)
    if end is None:
        return None
    grown = end - (first.total(metric, **labels) or 0.0)
    return grown if grown >= 0 else None  # a restarted source: the difference means nothing


def _load(first: Scrape, last: Scrape, suffix: str) -> float | None:
    """Return how far the service's histogram of requests went, health checks left out."""
    name = f"http_request_duration_seconds_{suffix}"
    handlers = {dict(labels).get("handler", "") for labels in last.samples.get(name, {})}
    parts = [
        _delta(first, last, name, handler=handler)
        for handler in handlers
        if handler.startswith("/benchmark/")
    ]
    found = [part for part in parts if part is not None]
    return sum(found) if found else None


def _answered(first: Edge, last: Edge) -> float | None:
    """Return how many requests the service answered between the edges."""
    pair = _pair(first, last, "service")
    return None if pair is None else _load(*pair, "count")


def _ratio(part: float | None, whole: float | None, scale: float = 1.0) -> float | None:
    return None if part is None or not whole else part / whole * scale


def _pair(first: Edge, last: Edge, job: str) -> tuple[Scrape, Scrape] | None:
    if job in first.scrapes and job in last.scrapes:
        return first.scrapes[job], last.scrapes[job]
    return None


def _why(first: Edge, last: Edge, job: str) -> str:
    return first.failed.get(job) or last.failed.get(job) or f"{job} was not running"


def _service(figures: Figures, first: Edge, last: Edge) -> None:
    pair = _pair(first, last, "service")
    names = ("server_requests", "server_mean_ms", "new_connections_per_request", "connect_ms",
             "pool_wait_ms", "use_ms", "statement_ms", "check_ms", "pool_timeouts")  # fmt: skip
    if pair is None:
        figures.missing |= dict.fromkeys(names, f"service metrics: {_why(first, last, 'service')}")
        return

    def grown(metric: str, **labels: str) -> float | None:
        return _delta(*pair, metric, **labels)

    def benchmark(suffix: str) -> float | None:
        return _load(*pair, suffix)

    requests = benchmark("count")
    figures.put(
        "server_requests", None if requests is None else int(requests), "no request was counted"
    )
    figures.put("server_mean_ms", _ratio(benchmark("sum"), requests, 1000), "no request counted")
    created = grown("db_client_connection_create_time_seconds_count")
    figures.put("new_connections_per_request", _ratio(created, requests), "no connection counter")
    for name, metric in (
        ("connect_ms", "db_client_connection_create_time_seconds_sum"),
        ("pool_wait_ms", "db_client_connection_wait_time_seconds_sum"),
        ("use_ms", "db_client_connection_use_time_seconds_sum"),
        ("statement_ms", "db_client_operation_duration_seconds_sum"),
        ("check_ms", "db_client_connection_check_time_seconds_sum"),
    ):
        figures.put(name, _ratio(grown(metric), requests, 1000), f"no {metric}")
    timeouts = grown("db_client_connection_timeouts_total")
    figures.put("pool_timeouts", None if timeouts is None else int(timeouts), "no timeout counter")


def _database(figures: Figures, first: Edge, last: Edge) -> None:
    names = (
        *("executed_statements", "executed_mean_ms", "executed_request_ms"),
        "new_sessions_per_request",
    )
    if first.sql is None or last.sql is None:
        reason = first.failed.get("sql") or last.failed.get("sql") or "no connection"
        figures.missing |= dict.fromkeys(names, f"PostgreSQL's counters: {reason}")
        return
    calls = last.sql.calls - first.sql.calls
    figures.put("executed_statements", calls if calls >= 0 else None, "the counters were reset")
    spent = last.sql.exec_ms - first.sql.exec_ms
    figures.put("executed_mean_ms", _ratio(spent, calls), "no statement was executed")
    everything = None
    if last.sql.all_exec_ms is not None and first.sql.all_exec_ms is not None:
        everything = last.sql.all_exec_ms - first.sql.all_exec_ms
    answered = _answered(first, last)
    figures.put("executed_request_ms", _ratio(everything, answered), "no request was counted")
    sessions = last.sql.sessions - first.sql.sessions
    figures.put("new_sessions_per_request", _ratio(sessions, calls), "no statement was executed")


def _pgbouncer(figures: Figures, first: Edge, last: Edge, route: str) -> None:
    if route == "direct":
        return  # nothing to wait for, and nothing that could be measured
    pair = _pair(first, last, "poolscope")
    waited = queries = spent = None
    if pair is not None:
        waited = _delta(*pair, "pgbouncer_stats_totals_client_wait_seconds_total",
                        database="poolscope")  # fmt: skip
        queries = _delta(*pair, "pgbouncer_stats_totals_sql_transactions_pooled_total",
                         database="poolscope")  # fmt: skip
        spent = _delta(*pair, "pgbouncer_stats_totals_queries_duration_seconds_total",
                       database="poolscope")  # fmt: skip
    reason = _why(first, last, "poolscope") if pair is None else "PgBouncer gave no statistics"
    figures.put("pgbouncer_wait_ms", _ratio(waited, queries, 1000), reason)
    answered = _answered(first, last)
    figures.put("pgbouncer_wait_request_ms", _ratio(waited, answered, 1000), reason)
    # PgBouncer's clock of a query starts when the client sends it, so the wait is part of it.
    on_server = None if spent is None or waited is None else max(0.0, spent - waited)
    figures.put("pgbouncer_server_ms", _ratio(on_server, answered, 1000), reason)


def _write_ahead_log(figures: Figures, first: Edge, last: Edge) -> None:
    pair = _pair(first, last, "poolscope")
    grown = None if pair is None else _delta(*pair, "pg_stat_wal_bytes_total")
    reason = "PostgreSQL before 14" if pair else f"exporter: {_why(first, last, 'poolscope')}"
    figures.put("wal_bytes_per_request", _ratio(grown, _answered(first, last)), reason)


def _cpu(figures: Figures, first: Edge, last: Edge, prefix: str, name: str, cores: int) -> None:
    """CPU seconds, share of the limit and share of throttled periods of one service."""
    pair = _pair(first, last, "poolscope")
    fields = (f"{prefix}_cpu", f"{prefix}_cpu_s", f"{prefix}_throttled")
    if pair is None:
        reason = f"Poolscope's exporter: {_why(first, last, 'poolscope')}"
        figures.missing |= dict.fromkeys(fields, reason)
        return
    start, end = pair
    spent = _delta(start, end, "container_cpu_usage_seconds_total", name=name)
    quota = end.total("container_spec_cpu_quota", name=name)
    period = end.total("container_spec_cpu_period", name=name)
    # PgBouncer is one process with one thread: more than a core is never its limit.
    most = 1.0 if name == PGBOUNCER else float(cores)
    limit = min(most, quota / period) if quota and period and quota > 0 else most
    reason = f"no CPU counter for {name}"
    figures.put(fields[0], _ratio(spent, (end.at - start.at) * limit), reason)
    figures.put(fields[1], spent, reason)
    periods = _delta(start, end, "container_cpu_cfs_periods_total", name=name)
    throttled = _delta(start, end, "container_cpu_cfs_throttled_periods_total", name=name)
    figures.put(fields[2], _ratio(throttled, periods), f"no limit is enforced for {name}")


def _host(figures: Figures, first: Edge, last: Edge) -> None:
    spent = {mode: last.cpu[mode] - first.cpu[mode] for mode in last.cpu}
    # The kernel counts guest time in user and nice as well.
    total = sum(v for mode, v in spent.items() if mode not in ("guest", "guest_nice"))
    reason = "this host gives no such figure"
    idle = spent.get("idle", 0) + spent.get("iowait", 0)
    figures.put("host_cpu", _ratio(total - idle, total), reason)
    figures.put("steal", _ratio(spent.get("steal"), total), reason)


def sample_means(series: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean over a window of each sampled series, by its name without our prefix.

    The value of its one telling label follows after a slash. A series that is absent at a moment
    at which its metric was read counts as 0 then: a wait that nobody was in.
    """
    values: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for one in series:
        labels = dict(one["metric"])
        name = str(labels.pop("__name__", "")).removeprefix("poolscope:")
        key = "/".join([name, *(str(labels[label]) for label in sorted(labels, reverse=True))])
        points = [(float(at), float(value)) for at, value in one["values"]]
        values.setdefault(name, {})[key] = points
    found = {}
    for parts in values.values():
        moments = {at for points in parts.values() for at, _ in points}
        for key, points in parts.items():
            found[key] = sum(value for _, value in points) / len(moments)
    return found


def little(rps: float, mean_ms: float, users: int) -> float:
    """Return X*R/N, which is 1 in a closed loop without think time."""
    return rps * mean_ms / 1000 / users
