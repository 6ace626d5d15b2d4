"""Facts from a Prometheus alone: our own stack's, or anybody's that has our recording rules.

A mapping file (TOML) names other expressions for signals, and says what no metric tells:

    [signals]
    server_requests_per_second = 'sum(rate(http_requests_total{job="shop"}[1m]))'
    [settings]
    FRAMEWORK = "django"   # fastapi, django or flask
    ROUTE = "pgbouncer"    # or direct
    THREADS_IN_ALL = 16    # requests that the service can hold at once

Signals are those of monitoring/signals.py, and the few of OTHERS below. What has no data is said.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.diagnosis import decide
from lab.diagnosis.facts import DATABASE, GENERATOR, HOST, PGBOUNCER, SERVICE, Cpu, Facts
from lab.diagnosis.model import Diagnosis
from lab.errors import ConfigError
from lab.prometheus import Prometheus
from monitoring.signals import BY_NAME, EVALUATION_INTERVAL_S

#: Gauges are averaged over so many seconds.
WINDOW_S = 30
#: What is asked for beside the signals: limits, by their exporters' own names.
OTHERS = {
    "db_cpu_limit_cores": (
        'max(container_spec_cpu_quota{name="postgres"}'
        ' / container_spec_cpu_period{name="postgres"})'
    ),
    "service_cpu_limit_cores": (
        'max(container_spec_cpu_quota{name=~"fastapi|django|flask"}'
        ' / container_spec_cpu_period{name=~"fastapi|django|flask"})'
    ),
    "pgbouncer_cpu_limit_cores": (
        'max(container_spec_cpu_quota{name="pgbouncer"}'
        ' / container_spec_cpu_period{name="pgbouncer"})'
    ),
    "postgres_max_connections": "max(pg_settings_max_connections)",
    "pgbouncer_pool_size": 'max(pgbouncer_databases_pool_size{name="poolscope"})',
    "pgbouncer_up": "max(pgbouncer_up)",
    "host_cores": 'count(node_cpu_seconds_total{mode="idle"})',
}
SETTINGS = frozenset({"FRAMEWORK", "ROUTE", "THREADS_IN_ALL"})


@dataclass
class Source:
    """Answers for signals; remembers those without data."""

    prometheus: Prometheus
    expressions: Mapping[str, str]
    at: float
    missing: dict[str, str] = field(default_factory=dict)

    def series(self, name: str, wrap: str = "{}") -> list[dict[str, Any]]:
        """Return a signal's series now; `wrap` puts its expression into another one."""
        default = OTHERS.get(name) or BY_NAME[name].record
        expr = self.expressions.get(name, default)
        found = self.prometheus.query(wrap.format(expr), self.at)
        if not found:
            self.missing[name] = f"no data for {expr}"
        return found

    def value(self, name: str, wrap: str = "{}") -> float | None:
        """Return a signal's largest value now, None where it has no data."""
        return max((float(one["value"][1]) for one in self.series(name, wrap)), default=None)

    def mean(self, name: str, how: str = "avg") -> float | None:
        """Return a gauge's mean (or `min`, `max`) over the last seconds."""
        return self.value(name, f"{how}_over_time(({{}})[{WINDOW_S}s:{EVALUATION_INTERVAL_S}s])")


def diagnose(url: str, mapping: Path | None = None) -> Diagnosis:
    """Diagnose what a Prometheus sees now; raise ServiceError where it does not answer."""
    expressions, settings = read_mapping(mapping)
    source = Source(Prometheus(url.rstrip("/")), expressions, time.time())
    return decide.diagnose(facts(source, settings, f"{subject(source)}, by {url}"))


def subject(source: Source) -> str:
    """Return the name of the cell that is announced, which only our own stack does."""
    found = source.prometheus.query("lab_cell_info", source.at)
    names = [str(one["metric"].get("cell_id")) for one in found]
    return ", ".join(names) or "what runs now"


def read_mapping(path: Path | None) -> tuple[dict[str, str], dict[str, Any]]:
    """Read a mapping file; raise ConfigError where it is missing, wrong, or names nothing known."""
    if path is None:
        return {}, {}
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"MAPPING={path} cannot be read: {error}") from None
    signals, settings = data.get("signals", {}), data.get("settings", {})
    for name in signals:
        if name not in BY_NAME and name not in OTHERS:
            raise ConfigError(f"MAPPING={path}: {name} is no signal; see monitoring/signals.py")
    for name in settings:
        if name not in SETTINGS:
            known = ", ".join(sorted(SETTINGS))
            raise ConfigError(f"MAPPING={path}: {name} is no setting of it; there: {known}")
    return dict(signals), dict(settings)


def facts(source: Source, settings: Mapping[str, Any], subject: str) -> Facts:
    """Return the facts that the signals give; a signal without data is None and in `missing`."""
    ask = source.value
    served = ask("server_requests_per_second")
    rps = _either(ask("client_requests_per_second"), served)
    framework = settings.get("FRAMEWORK") or _framework(source)
    route = settings.get("ROUTE") or _route(source)
    pooled = route == "pgbouncer"
    users = ask("client_users")
    server_ms = _ms(ask("server_latency_mean_seconds"))
    client_ms = _ms(ask("client_latency_mean_seconds"))
    in_pgbouncer = _ms(ask("pgbouncer_client_wait_mean_seconds")) if pooled else None
    query_ms = _ms(ask("pgbouncer_query_mean_seconds")) if pooled else None
    queries = _over(ask("pgbouncer_queries_per_second") if pooled else None, served)
    waits = _backends(source, "postgres_active_backends_by_wait", "wait_event_type")
    if waits is None and source.value("postgres_backends") is not None:
        waits = {}  # all were idle whenever they were looked at
        source.missing.pop("postgres_active_backends_by_wait")
    events = _backends(source, "postgres_active_backends_by_event", "wait_event_type", "wait_event")
    source.missing.pop("postgres_active_backends_by_event", None)  # often nobody waits
    waiting_s = ask("pool_waiting_requests")
    checkouts = _over(ask("pool_waits_per_second"), served)
    opened = ask("new_connections_per_request")
    return Facts(
        subject=subject, framework=framework, route=route,
        users=None if users is None else round(users), rps=rps,
        mean_ms=_either(client_ms, server_ms),
        p95_ms=_ms(_either(ask("client_latency_p95_seconds"), ask("server_latency_p95_seconds"))),
        error_rate=_either(ask("client_failures_ratio"), ask("server_failures_ratio")),
        server_ms=server_ms,
        pool_wait_ms=_ms(_over(waiting_s, served)),
        connect_ms=_connecting(opened, ask("connection_open_mean_seconds") if opened else None),
        check_ms=_ms(_over(ask("connection_checking_requests"), served)),
        statement_ms=_ms(ask("operation_mean_seconds")),
        use_ms=_times(_ms(ask("connection_use_mean_seconds")), checkouts),
        executed_ms=_ms(_over(ask("postgres_active_sessions"), served)),
        pgbouncer_wait_ms=_times(in_pgbouncer, queries),
        pgbouncer_server_ms=_times(_less(query_ms, in_pgbouncer), queries),
        new_connections=opened,
        wal_bytes=_over(ask("postgres_wal_bytes_per_second"), served),
        cpu=_cpu(source, pooled=pooled), steal=ask("host_cpu_steal_ratio"), waits=waits,
        wait_events=events or {},
        lock_waits=source.mean("postgres_lock_waits"),
        connections_room=source.mean("postgres_connections_room", "min"),
        clients_waiting=source.mean("pgbouncer_clients_waiting") if pooled else None,
        servers_active=source.mean("pgbouncer_servers_active") if pooled else None,
        service_slots=settings.get("THREADS_IN_ALL"),
        pool_slots=_count(source.mean("pool_connections_max", "max")),
        pgbouncer_slots=_count(ask("pgbouncer_pool_size")) if pooled else None,
        max_connections=_count(ask("postgres_max_connections")),
        settings={"DJANGO_MODE": "wsgi"}, host_cores=_count(ask("host_cores")),
        missing=source.missing,
    )  # fmt: skip


def _cpu(source: Source, *, pooled: bool) -> dict[str, Cpu]:
    found = {}
    parts = [
        (DATABASE, "db"),
        (SERVICE, "service"),
        *([(PGBOUNCER, "pgbouncer")] if pooled else []),
    ]
    for part, prefix in parts:
        share = source.value(f"{prefix}_cpu_ratio")
        limit = source.value(f"{prefix}_cpu_limit_cores")
        used = None if share is None or limit is None else share * limit
        found[part] = Cpu(used, limit, share, source.value(f"{prefix}_throttled_ratio"))
    share = source.value("generator_cpu_ratio")
    found[GENERATOR] = Cpu(share, 1.0, share)
    found[HOST] = Cpu(utilisation=source.value("host_cpu_busy_ratio"))
    return found


def _backends(source: Source, signal: str, *labels: str) -> dict[str, float] | None:
    """Return the mean backends by what they wait for; a wait absent at a moment was nobody's."""
    count = WINDOW_S / EVALUATION_INTERVAL_S
    wrap = f"sum_over_time(({{}})[{WINDOW_S}s:{EVALUATION_INTERVAL_S}s])"
    found = {
        "/".join(str(one["metric"].get(label, "none")) for label in labels):
            float(one["value"][1]) / count
        for one in source.series(signal, wrap)
    }  # fmt: skip
    return found or None


def _route(source: Source) -> str | None:
    """Return the route by whether PgBouncer answers, None where nobody says."""
    up = source.value("pgbouncer_up")
    if up is None:
        source.missing["pgbouncer_up"] = "no data: say ROUTE under [settings] in a MAPPING file"
        return None
    return "pgbouncer" if up == 1 else "direct"


def _framework(source: Source) -> str | None:
    names = [str(one["metric"].get("name")) for one in source.series("service_cpu_ratio")]
    known = [name for name in names if name in ("fastapi", "django", "flask")]
    return known[0] if known else None


def _connecting(opened: float | None, mean_s: float | None) -> float | None:
    if opened is None:
        return None
    return 0.0 if opened == 0 else _times(_ms(mean_s), opened)


def _either(one: float | None, other: float | None) -> float | None:
    return other if one is None else one


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _over(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _times(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(0.0, one - other)


def _count(value: float | None) -> int | None:
    return None if value is None else round(value)
