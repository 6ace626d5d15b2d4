"""Utilisation, service demand, bounds and knee of every resource.

Utilisation law U = X*D and Little's law N = X*R: Denning and Buzen, "The operational analysis of
queueing network models", ACM Computing Surveys 10(3), 1978. Asymptotic bounds X <= min(1/D_max,
N/sum D) and the knee N* = sum D / D_max: Lazowska, Zahorjan, Graham and Sevcik, "Quantitative
System Performance", 1984, chapter 5.
"""

from __future__ import annotations

from lab.diagnosis.facts import DATABASE, GENERATOR, PGBOUNCER, SERVICE, Facts
from lab.diagnosis.model import Demand, Resource
from lab.diagnosis.thresholds import BUSY, CPU

CPU_LABELS = {
    DATABASE: "database CPU",
    SERVICE: "service CPU",
    PGBOUNCER: "PgBouncer CPU",
    GENERATOR: "generator CPU",
}


def demand(facts: Facts) -> Demand:
    """Return every resource of the route, what binds first first; unknown ones last."""
    found = [_cpu(facts, part, label) for part, label in CPU_LABELS.items() if _there(facts, part)]
    found += _slots(facts)
    resources = sorted(found, key=lambda r: -1.0 if r.utilisation is None else r.utilisation)[::-1]
    demands = [r.demand_ms for r in found if r.kind == "cpu" and r.demand_ms is not None]
    little = None
    if facts.rps and facts.mean_ms and facts.users:
        little = facts.rps * facts.mean_ms / 1000 / facts.users
    return Demand(
        resources=resources,
        users=facts.users,
        little=little,
        knee_users=_knee(facts, demands),
    )


def waiting_ms(facts: Facts) -> float:
    """Return how long a request is held up in PostgreSQL by something that is no CPU."""
    commit_ms = facts.commit_ms or 0.0
    if facts.executed_ms is None:
        return commit_ms
    cpu_ms = _per_request_ms(facts, DATABASE) or 0.0
    busy = facts.utilisation(DATABASE)
    held = facts.held_up
    if busy is not None and busy >= CPU.value:
        # One that its CPU limit stops in the middle of a read is seen waiting for that read.
        held = facts.waiting_for("Lock", "Timeout")
    if held is not None:
        return facts.executed_ms * held + commit_ms
    return max(0.0, facts.executed_ms - cpu_ms) if busy is not None and busy < BUSY.value else 0.0


def _there(facts: Facts, part: str) -> bool:
    return part != PGBOUNCER or facts.route != "direct"


def _per_request_ms(facts: Facts, part: str) -> float | None:
    cpu = facts.cpu.get(part)
    if cpu is None or cpu.used is None or not facts.rps:
        return None
    return cpu.used / facts.rps * 1000


def _cpu(facts: Facts, part: str, label: str) -> Resource:
    cpu = facts.cpu.get(part)
    share = None if cpu is None else cpu.utilisation
    limit = None if cpu is None else cpu.limit
    if share is None or not facts.rps:
        why = "no CPU figures" if share is None else "no throughput"
        return Resource(name=part, label=label, kind="cpu", limit=limit, unit="cores",
                        utilisation=share, demand_ms=None, bound_rps=None, missing=why)  # fmt: skip
    each = share / facts.rps
    return Resource(
        name=part, label=label, kind="cpu", limit=limit, unit="cores", utilisation=share,
        demand_ms=each * 1000, bound_rps=1 / each if each > 0 else None,
    )  # fmt: skip


def _slots(facts: Facts) -> list[Resource]:
    f = facts
    held = None if f.use_ms is None else f.use_ms + (f.check_ms or 0.0)
    rows = [
        ("service-pool", "service pool", "connections", f.pool_slots, held),
        ("workers", "workers", "threads", f.service_slots, f.server_ms),
    ]
    if f.route != "direct":
        connections = ("pgbouncer-pool", "PgBouncer pool", "connections")
        rows.append((*connections, f.pgbouncer_slots, f.pgbouncer_server_ms))
    found = [_slot(facts, *row) for row in rows if row[3] is not None]
    if f.max_connections and f.connections_room is not None:
        used = 1 - max(0.0, f.connections_room) / f.max_connections
        found.append(_connections(f.max_connections, used))
    return found


def _connections(most: int, used: float) -> Resource:
    return Resource(
        name="max-connections", label="server connections", kind="slots", limit=most,
        unit="connections", utilisation=used, demand_ms=None, bound_rps=None,
    )  # fmt: skip


def _slot(
    facts: Facts, name: str, label: str, unit: str, slots: int | None, held_ms: float | None
) -> Resource:
    assert slots is not None
    if held_ms is None or not facts.rps or slots < 1:
        return Resource(name=name, label=label, kind="slots", limit=slots, unit=unit,
                        utilisation=None, demand_ms=None, bound_rps=None,
                        missing="how long a request holds one is not known")  # fmt: skip
    each = held_ms / slots
    return Resource(
        name=name, label=label, kind="slots", limit=slots, unit=unit,
        utilisation=facts.rps * each / 1000, demand_ms=each,
        bound_rps=1000 / each if each > 0 else None,
    )  # fmt: skip


def _knee(facts: Facts, demands: list[float]) -> float | None:
    """Return N*: how many users it takes to saturate the first CPU, waits without CPU included."""
    if not demands or max(demands) <= 0:
        return None
    return (sum(demands) + waiting_ms(facts)) / max(demands)
