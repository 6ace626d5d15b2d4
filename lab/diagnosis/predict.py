"""What a remedy should bring: the cell's network with the new settings, against it as measured.

The model's error on the cell as it is scales its answer on the cell as it would be, so that what it
leaves out in both cancels out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lab.diagnosis.facts import (
    DATABASE,
    GENERATOR,
    PGBOUNCER,
    SERVICE,
    Facts,
    connects_per_request,
    pool_slots,
    service_slots,
    workers,
)
from lab.diagnosis.model import Prediction, Remedy
from lab.diagnosis.network import USABLE, Network
from lab.diagnosis.verdicts.base import View

#: Beyond it the model does not describe the cell as it is, and its answer is not scaled by it.
MOST_SCALE = 1.5
#: Half the width of the interval: where only a limit or a number of slots changes, where waiting
#: of another kind goes, and where work goes whose CPU was not measured apart.
WIDTH, WIDTH_WAITING, WIDTH_WORK = 0.2, 0.35, 0.4
#: CPU of the service per request over that of the statement in PostgreSQL by pgbench, simple
#: protocol: measured in the quick preset on a 2-core machine in November 2026.
SERVICE_OVER_STATEMENT = {"fastapi": 2.2, "flask": 2.2, "django": 3.6}
PGBOUNCER_OVER_STATEMENT = 0.25
#: The statement's own CPU, with its check of the connection and the monitoring beside it.
STATEMENT_AND_CHECK, STATEMENT_ALONE = 1.5, 1.15
#: Milliseconds of CPU of one statement where pgbench was not run; same machine.
STATEMENT_CPU_MS = 0.45
#: CPU per request falls with the rate, as its power: waking up and cold caches are shared by more.
#: Fitted to the training cells of a fault suite, 9 to 1,180 requests per second, all three services
#: and PostgreSQL; it halves the error of a constant demand. November 2026.
WARM = 0.2
#: It takes few to settle: each round's error is a fifth of the one before.
ROUNDS = 6
#: Not PgBouncer's: one that is late reads many requests at each wake-up.
CPU_DEMANDS = ("database_ms", "service_ms", "generator_ms", "host_ms")
#: A kept connection stays with the worker that took it, and workers take unevenly: of the threads
#: of 2 and 3 gthread workers, 87% and 74% were busy while requests queued. Same training cells.
UNEVEN, LEAST_EVEN = 0.13, 0.5
LIMITS = {
    DATABASE: "DB_CPUS", SERVICE: "APP_CPUS", PGBOUNCER: "PGBOUNCER_CPUS",
    GENERATOR: "GENERATOR_CPUS",
}  # fmt: skip
#: Of the database's CPU per request, what is left once nobody queues at a row: measured with 47 and
#: 49 users, November 2026.
CPU_WITHOUT_CONTENTION = 0.6


def predict(view: View, remedy: Remedy, cause: str) -> Prediction | None:
    """Return what the settings should bring, None where there is no model or nothing to set."""
    facts, net = view.facts, view.network
    if net is None or not remedy.settings or not facts.rps or "DB_POOL" not in facts.settings:
        return None
    after = changed(facts, net, remedy.settings)
    base = facts.rps * (1 - (facts.error_rate or 0.0))
    now = net.throughput()
    scale = facts.rps / now if now > 0 else 1.0
    if not cause.endswith("-cpu") or not 1 / MOST_SCALE <= scale <= MOST_SCALE:
        scale = 1.0  # what was late while slots or locks were held is not late on a CPU
    if cause != "connection-set-up":  # whose work afterwards is known at its own rate
        after = _warmed(after, facts.rps / scale)
    rps = after.throughput() * scale
    width = _width(facts, cause)
    low, high = rps * (1 - width), rps * (1 + width)
    p95 = _p95(facts, rps)
    then = after.binding()
    return Prediction(
        rps=rps, rps_low=low, rps_high=high, p95_ms=p95,
        p95_low_ms=_p95(facts, high), p95_high_ms=_p95(facts, low),
        gain=rps / base if base else 1.0, next_bottleneck=then[0] if then else "not-saturated",
        next_limits=then,
        basis=f"closed queueing network, scaled by {scale:.2f} to the cell as measured",
    )  # fmt: skip


def changed(facts: Facts, net: Network, settings: Mapping[str, str]) -> Network:
    """Return the network as it would be with the settings."""
    old = facts.settings
    new: dict[str, Any] = {**old, **{n: _typed(old.get(n), v) for n, v in settings.items()}}
    after = net
    if connects_per_request(old) and not connects_per_request(new):
        after = _without_connecting(facts, after)
    cores = float(facts.host_cores or 256)
    for part, name in LIMITS.items():
        if name in new:
            before, later = (_limit(s, part, cores) for s in (old, new))
            demand = getattr(after, f"{part}_ms") * before / later
            after = replace(after, **{f"{part}_ms": demand})
    if new.get("HOT_ROWS") != old.get("HOT_ROWS"):
        # Each request still keeps its row as long, but others' rows go on beside it.
        share = after.serial_ms * after.rows / new["HOT_ROWS"]
        after = _without_contention(facts, replace(after, serial_ms=share, rows=new["HOT_ROWS"]))
    if new.get("POSTGRES_MAX_CONNECTIONS") != old.get("POSTGRES_MAX_CONNECTIONS"):
        # Those that were refused opened a connection each time, and executed nothing.
        waits = after.waiting_ms / max(0.01, 1 - (facts.error_rate or 0.0))
        after = replace(_without_connecting(facts, after), waiting_ms=waits)
    if new.get("POSTGRES_SYNCHRONOUS_COMMIT") == "off" != old.get("POSTGRES_SYNCHRONOUS_COMMIT"):
        after = replace(after, waiting_ms=0.0)
    after = replace(after, host_ms=_host_ms(facts, net, after, old, new))
    framework = facts.framework or ""
    pooled = new.get("ROUTE") == "pgbouncer"
    return replace(
        after,
        service_slots=_evenly(service_slots(framework, new), workers(new)),
        pool_slots=_evenly(pool_slots(framework, new), workers(new)),
        pgbouncer_slots=new["PGBOUNCER_DEFAULT_POOL_SIZE"] if pooled else None,
    )


def _warmed(net: Network, rps: float) -> Network:
    """Return the network with CPU demands of the rate that it reaches, not of the one measured."""
    found = net
    for _ in range(ROUNDS):
        factor = (found.throughput() / rps) ** -WARM
        cpu = {name: getattr(net, name) * factor for name in CPU_DEMANDS}
        found = replace(net, **cpu)
    return found


def _evenly(slots: int | None, count: int) -> int | None:
    """Return how many of all workers' slots are in use where requests queue for one."""
    if slots is None:
        return None
    return max(1, round(slots * max(LEAST_EVEN, 1 - UNEVEN * (count - 1))))


def _limit(settings: Mapping[str, Any], part: str, cores: float) -> float:
    """Return the cores that a part can use with these settings."""
    most = 1.0 if part in (PGBOUNCER, GENERATOR) else cores
    value = min(settings.get(LIMITS[part]) or most, most)
    return min(value, float(workers(settings))) if part == SERVICE else value


def _host_ms(
    facts: Facts, net: Network, after: Network, old: Mapping[str, Any], new: Mapping[str, Any]
) -> float:
    """Return the demand on the host's cores, with what the parts need more or less CPU."""
    cores = float(facts.host_cores or 256)
    more = sum(
        getattr(after, f"{part}_ms") * _limit(new, part, cores)
        - getattr(net, f"{part}_ms") * _limit(old, part, cores)
        for part in LIMITS
    )
    return max(0.0, net.host_ms + more / (cores * USABLE))


def _typed(old: Any, text: str) -> Any:
    """Return a setting's text as the kind of value it has."""
    if isinstance(old, bool):
        return text == "true"
    if isinstance(old, int) and not isinstance(old, bool):
        return int(float(text))
    return float(text) if isinstance(old, float) else text


def _without_connecting(facts: Facts, net: Network) -> Network:
    """Return the network without opening connections: the statement's work alone is left."""
    statement = facts.statement_cpu_ms or STATEMENT_CPU_MS
    checks = facts.settings.get("DB_CONN_HEALTH_CHECKS")
    database = statement * (STATEMENT_AND_CHECK if checks else STATEMENT_ALONE)
    service = statement * SERVICE_OVER_STATEMENT.get(facts.framework or "", 2.5)
    cpu = {part: one.limit or 1.0 for part, one in facts.cpu.items()}
    pgbouncer = statement * PGBOUNCER_OVER_STATEMENT
    return replace(
        net,
        database_ms=min(net.database_ms, database / cpu["database"]),
        service_ms=min(net.service_ms, service / cpu["service"]),
        pgbouncer_ms=min(net.pgbouncer_ms, pgbouncer / cpu["pgbouncer"]),
        connecting_ms=0.0,
    )


def _without_contention(facts: Facts, net: Network) -> Network:
    """Return the network without a queue at a row: each release wakes waiters, which costs CPU."""
    left = net.database_ms * CPU_WITHOUT_CONTENTION
    if facts.statement_cpu_ms is not None:
        limit = facts.cpu["database"].limit or 1.0
        left = min(left, facts.statement_cpu_ms * STATEMENT_AND_CHECK / limit)
    return replace(net, database_ms=left)


def _width(facts: Facts, cause: str) -> float:
    if cause == "connection-set-up":
        return WIDTH_WORK if facts.statement_cpu_ms else 0.6
    if cause in ("database-locks", "database-wal-or-io", "max-connections"):
        return WIDTH_WAITING
    return WIDTH


def _p95(facts: Facts, rps: float) -> float | None:
    """Return the P95 at a throughput: R = N/X, and the tail keeps its shape."""
    if not facts.users or not facts.mean_ms or facts.p95_ms is None or rps <= 0:
        return None
    return facts.p95_ms * (facts.users / rps * 1000) / facts.mean_ms
