"""The figures that a diagnosis looks at, whatever they come from: a record, or a Prometheus.

Times in milliseconds per request, CPU in cores and as a share of the limit; None = not known, and
`missing` says why. Rules see nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.common.settings import auto_workers
from lab.results import CellRecord, Manifest, Measurement
from lab.settings import TOGGLES

SERVICE, DATABASE, PGBOUNCER = "service", "database", "pgbouncer"
GENERATOR, HOST = "generator", "host"
#: Backends that wait for the client or for nothing are not held up inside PostgreSQL.
NOT_HELD_UP = ("none", "Client", "Activity")
#: What a backend waits for whose commit is being written, or waits for its turn to be.
WAL_EVENTS = (
    *("IO/WALSync", "IO/WALWrite", "IPC/SyncRep"),
    *("LWLock/WALWrite", "LWLock/WALInsert", "LWLock/WALBufMapping"),
)


@dataclass(frozen=True)
class Cpu:
    """CPU of one part: cores used, cores allowed, and the share of periods that were throttled."""

    used: float | None = None
    limit: float | None = None
    utilisation: float | None = None
    throttled: float | None = None


@dataclass(frozen=True)
class Facts:
    """One cell, or what runs now."""

    subject: str
    framework: str | None = None
    route: str | None = None
    users: int | None = None
    rps: float | None = None
    mean_ms: float | None = None
    p95_ms: float | None = None
    error_rate: float | None = None
    errors: Mapping[str, int] = field(default_factory=dict)

    server_ms: float | None = None
    pool_wait_ms: float | None = None
    connect_ms: float | None = None
    check_ms: float | None = None
    statement_ms: float | None = None
    use_ms: float | None = None
    executed_ms: float | None = None
    pgbouncer_wait_ms: float | None = None
    pgbouncer_server_ms: float | None = None
    new_connections: float | None = None
    wal_bytes: float | None = None

    cpu: Mapping[str, Cpu] = field(default_factory=dict)
    steal: float | None = None

    #: mean active backends by what they wait for, empty where all were idle; None: not sampled
    waits: Mapping[str, float] | None = None
    wait_events: Mapping[str, float] = field(default_factory=dict)
    lock_waits: float | None = None
    connections_room: float | None = None
    clients_waiting: float | None = None
    servers_active: float | None = None

    #: how many can be had at most; None = no such limit, or not known
    service_slots: int | None = None
    pool_slots: int | None = None
    pgbouncer_slots: int | None = None
    max_connections: int | None = None

    settings: Mapping[str, Any] = field(default_factory=dict)
    host_cores: int | None = None
    enforced: bool = True
    #: CPU of one of the scenario's statements in PostgreSQL by pgbench, without any service
    statement_cpu_ms: float | None = None
    rejected: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    def share(self, ms: float | None) -> float | None:
        """Return a time as a share of the client's mean latency."""
        return None if ms is None or not self.mean_ms else ms / self.mean_ms

    def inside(self, ms: float | None) -> float | None:
        """Return a time as a share of the service's own mean latency.

        What requests wait for before the service is behind what those inside wait for.
        """
        return None if ms is None or not self.server_ms else ms / self.server_ms

    def utilisation(self, part: str) -> float | None:
        """Return the CPU of a part over its limit."""
        cpu = self.cpu.get(part)
        return None if cpu is None else cpu.utilisation

    @property
    def outside_ms(self) -> float | None:
        """Time of a request outside the service: the client's mean less the service's."""
        if self.mean_ms is None or self.server_ms is None:
            return None
        return self.mean_ms - self.server_ms

    @property
    def is_async(self) -> bool | None:
        """Whether one thread of the service holds many requests at once."""
        if self.framework is None:
            return None
        mode = self.settings.get("DJANGO_MODE", "wsgi")
        return self.framework == "fastapi" or (self.framework == "django" and mode != "wsgi")

    @property
    def held_up(self) -> float | None:
        """Share of the executing backends that wait for something inside PostgreSQL.

        Those that commit execute no more: their wait is `commit_ms`.
        """
        if not self.waits:
            return None
        committing = self.waiting_for_wal
        executing = sum(self.waits.values()) - committing
        held = sum(n for kind, n in self.waits.items() if kind not in NOT_HELD_UP) - committing
        return max(0.0, held) / executing if executing > 0 else None

    @property
    def waiting_for_wal(self) -> float:
        """Mean backends whose commit is being written, or waits for its turn to be."""
        return sum(self.wait_events.get(event, 0.0) for event in WAL_EVENTS)

    @property
    def at_database_ms(self) -> float | None:
        """Time of a request's statement and check, without what they wait in PgBouncer."""
        if self.statement_ms is None or (self.route != "direct" and self.pgbouncer_wait_ms is None):
            return None
        return self.statement_ms + (self.check_ms or 0.0) - (self.pgbouncer_wait_ms or 0.0)

    @property
    def commit_ms(self) -> float | None:
        """Time in which a request's commit waits to be written, None where nothing was sampled.

        pg_stat_statements does not have it: in autocommit a statement's clock stops before its
        commit. By Little's law it is the backends that wait for WAL over the throughput, and at
        most what the service's clock has beyond execution.
        """
        if self.waits is None or not self.rps or self.at_database_ms is None:
            return None
        seen = self.waiting_for_wal / self.rps * 1000
        return min(seen, max(0.0, self.at_database_ms - (self.executed_ms or 0.0)))

    def waiting_for(self, *kinds: str) -> float | None:
        """Return the share of active backends that wait for one of these types."""
        if self.waits is None:
            return None
        total = sum(self.waits.values())
        return sum(self.waits.get(kind, 0.0) for kind in kinds) / total if total else 0.0


def from_record(record: CellRecord, manifest: Manifest | None = None) -> Facts | None:
    """Return a record's facts, None where the cell ended before its measurement.

    The manifest adds what pgbench got out of the same database.
    """
    m = record.measurement
    if m is None:
        return None
    s = settings_of(record)
    return Facts(
        subject=record.cell_id,
        framework=record.framework,
        route=record.route,
        users=record.users,
        rps=(m.requests + m.statuses.get("0", 0)) / m.window_s,
        mean_ms=m.mean_ms,
        p95_ms=m.p95_ms,
        error_rate=m.error_rate,
        errors=m.errors,
        server_ms=m.server_mean_ms,
        pool_wait_ms=m.pool_wait_ms,
        connect_ms=m.connect_ms,
        check_ms=m.check_ms,
        statement_ms=m.statement_ms,
        use_ms=m.use_ms,
        executed_ms=m.executed_request_ms,
        pgbouncer_wait_ms=m.pgbouncer_wait_request_ms,
        pgbouncer_server_ms=m.pgbouncer_server_ms,
        new_connections=m.new_connections_per_request,
        wal_bytes=m.wal_bytes_per_request,
        cpu=_cpu(record, m),
        steal=m.steal,
        waits=_waits(m),
        wait_events=_by_label(m, "wait_event") or {},
        lock_waits=m.sampled.get("postgres_lock_waits"),
        connections_room=m.sampled.get("postgres_connections_room"),
        clients_waiting=m.sampled.get("pgbouncer_clients_waiting"),
        servers_active=m.sampled.get("pgbouncer_servers_active"),
        service_slots=service_slots(record.framework, s),
        pool_slots=pool_slots(record.framework, s),
        pgbouncer_slots=s["PGBOUNCER_DEFAULT_POOL_SIZE"] if record.route == "pgbouncer" else None,
        max_connections=s.get("POSTGRES_MAX_CONNECTIONS"),
        settings=s,
        host_cores=m.host_cores,
        enforced=record.limits_enforced,
        statement_cpu_ms=_statement_cpu_ms(record, manifest),
        rejected=tuple(record.reject_reasons),
        missing=m.missing,
    )


def settings_of(record: CellRecord) -> dict[str, Any]:
    """Return every toggle of a record; one that is younger than the record has its default."""
    return {name: one.default for name, one in TOGGLES.items()} | record.settings


def connects_per_request(settings: Mapping[str, Any]) -> bool:
    """Return whether each request opens a connection of its own with these settings."""
    kind = settings["DB_POOL"]
    return kind == "per-request" or (kind == "persistent" and not settings["DB_CONN_MAX_AGE"])


def _statement_cpu_ms(record: CellRecord, manifest: Manifest | None) -> float | None:
    """Return the limit over pgbench's rate, None where that was held up by no CPU."""
    if manifest is None or manifest.limits is None:
        return None
    s = settings_of(record)
    protocol = "prepared" if s["DB_PREPARED"] == "on" else "simple"
    wanted = (s["SCENARIO"], "direct", protocol, False)
    for ceiling in manifest.ceilings:
        if (ceiling.scenario, ceiling.route, ceiling.protocol, ceiling.connects) == wanted:
            limit = ceiling.db_cpus or manifest.settings["DB_CPUS"]
            bound = bool(ceiling.tps) and _computes(s, ceiling.latency_ms)
            return 1000 * limit / ceiling.tps if ceiling.tps and bound else None
    return None


def _computes(settings: Mapping[str, Any], latency_ms: float | None) -> bool:
    """Return whether pgbench's clients waited for CPU: not for a row, nor asleep most of the time.

    Clients that sleep for most of their latency do not fill a CPU.
    """
    if settings["SCENARIO"] == "slow-query":
        return latency_ms is not None and latency_ms >= 2 * settings["SLOW_QUERY_MS"]
    return settings["SCENARIO"] != "hot-row"


def workers(settings: Mapping[str, Any]) -> int:
    """Return the worker processes of a cell's settings."""
    return int(settings.get("WORKERS") or auto_workers(float(settings["APP_CPUS"])))


def service_slots(framework: str, settings: Mapping[str, Any]) -> int | None:
    """Return how many requests the service can hold at once, None where nothing limits it."""
    if framework == "fastapi" or (framework == "django" and settings["DJANGO_MODE"] != "wsgi"):
        return None
    kind = settings["WORKER_CLASS"]
    if kind == "gevent":
        return workers(settings) * int(settings["WORKER_CONNECTIONS"])
    return workers(settings) * (1 if kind == "sync" else int(settings["THREADS"]))


def pool_slots(framework: str, settings: Mapping[str, Any]) -> int | None:
    """Return the connections that all pools may hold, None where requests queue at no pool."""
    # Django keeps a connection per thread; where requests have no lasting thread, it needs a pool.
    no_threads = settings["DJANGO_MODE"] != "wsgi" or settings["WORKER_CLASS"] == "gevent"
    pooled = framework != "django" or settings["DB_POOL"] == "psycopg" or no_threads
    if connects_per_request(settings) or not pooled:
        return None  # a connection for each request, or for each thread
    return workers(settings) * int(settings["DB_POOL_SIZE"] + settings["DB_MAX_OVERFLOW"])


def _waits(m: Measurement) -> dict[str, float] | None:
    """Return the active backends by what they wait for; none where all were idle when looked at."""
    found = _by_label(m, "postgres_active_backends_by_wait")
    return {} if found is None and _by_label(m, "postgres_backends") else found


def _by_label(m: Measurement, name: str) -> dict[str, float] | None:
    found = {
        k.removeprefix(f"{name}/"): v for k, v in m.sampled.items() if k.startswith(f"{name}/")
    }
    return found or None


def _cpu(record: CellRecord, m: Measurement) -> dict[str, Cpu]:
    s, cores = settings_of(record), m.host_cores
    found = {}
    for part, prefix, limit in (
        (SERVICE, "app", s["APP_CPUS"]),
        (DATABASE, "db", s["DB_CPUS"]),
        (PGBOUNCER, "pgbouncer", s["PGBOUNCER_CPUS"]),
    ):
        share = getattr(m, f"{prefix}_cpu")
        most = 1.0 if part == PGBOUNCER else cores
        limit = min(limit, most or limit) if record.limits_enforced else most
        used = None if share is None or limit is None else share * limit
        if part == SERVICE and limit is not None and (processes := workers(s)) < limit:
            # Python runs one thread of a process at a time: a process is a core at most.
            limit, share = float(processes), None if used is None else used / processes
        found[part] = Cpu(used, limit, share, getattr(m, f"{prefix}_throttled"))
    allowed = min(1.0, s.get("GENERATOR_CPUS") or 1.0)
    used = m.generator_cpu
    found[GENERATOR] = Cpu(used, allowed, None if used is None else used / allowed)
    busy = None if m.host_cpu is None or cores is None else m.host_cpu * cores
    found[HOST] = Cpu(busy, cores, m.host_cpu)
    return found
