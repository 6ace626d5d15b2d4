"""The latency budget: the client's mean latency in parts that add up, for means add.

    client = outside the service + pool wait + opening a connection + database + service's own
    database = statement and check
             = executing in PostgreSQL + waiting for the commit + waiting in PgBouncer + the rest

The service's clocks nest without overlap: pool wait ends before a connection is opened or checked,
and that before the statement is sent. Outside is the client's mean less the service's: network,
the listen backlog, waiting for a worker or for the event loop to read the request. "The rest" of
the database's part is transfer, PgBouncer's own work, and waiting for a CPU before and after
executing: in the driver, or as a backend whose CPU limit is used up.

Each part but the two residuals (outside, own) is measured by its own clock. A sum of the measured
ones that exceeds the whole shows as a negative residual: that is the error. The commit's wait is
sampled from wait events, for no clock has it.
"""

from __future__ import annotations

from lab.diagnosis.facts import Facts
from lab.diagnosis.model import Budget, Part

#: Of the whole; beyond it the parts do not describe the request.
TOLERANCE = 0.05
#: A commit's wait is sampled, and shown from this share of the whole on.
SEEN = 0.01


def budget(facts: Facts) -> Budget:
    """Split the client's mean latency; what cannot be split is said in `missing`."""
    f, total = facts, facts.mean_ms
    if total is None:
        return Budget(total_ms=None, missing=["client's mean latency"])
    known = {
        "mean latency inside the service": f.server_ms,
        "pool wait": f.pool_wait_ms,
        "time to open connections": f.connect_ms,
        "time of statements": f.statement_ms,
    }
    missing = [name for name, value in known.items() if value is None]
    if f.server_ms is None or missing:
        return Budget(total_ms=total, missing=missing)
    wait, opening = f.pool_wait_ms or 0.0, f.connect_ms or 0.0
    database = (f.statement_ms or 0.0) + (f.check_ms or 0.0)
    outside = total - f.server_ms
    own = f.server_ms - wait - opening - database
    executed, queued, rest, inner = _database(f, database)
    commit = f.commit_ms if (f.commit_ms or 0.0) >= SEEN * total and not inner else None
    rest -= commit or 0.0
    missing += inner
    error = (max(0.0, -outside) + max(0.0, -own) + max(0.0, -rest)) / total
    rows = [
        ("outside", "outside the service", outside, None),
        ("pool-wait", "waiting for the service's pool", wait, None),
        ("connecting", "opening a connection", opening, None),
        ("database", "statement and check", database, None),
        ("executing", "executing in PostgreSQL", executed, "database"),
        ("committing", "waiting for the commit", commit, "database"),
        ("pgbouncer-wait", "waiting in PgBouncer", queued, "database"),
        ("database-rest", "transfer, proxy, waiting for a CPU", rest, "database"),
        ("own", "the service's own time", own, None),
    ]
    parts = [
        Part(name=name, label=label, ms=max(0.0, ms), share=max(0.0, ms) / total, inside=inside)
        for name, label, ms, inside in rows
        if ms is not None and not (inside and inner)
    ]
    return Budget(total_ms=total, parts=parts, error=error, missing=missing)


def _database(f: Facts, whole: float) -> tuple[float, float, float, list[str]]:
    """Return executing, waiting in PgBouncer, the rest, and what is missing to tell them apart."""
    missing = []
    if f.executed_ms is None:
        missing.append("execution time in PostgreSQL (pg_stat_statements)")
    if f.route != "direct" and f.pgbouncer_wait_ms is None:
        missing.append("wait in PgBouncer")
    if missing:
        return 0.0, 0.0, 0.0, missing
    executed, queued = f.executed_ms or 0.0, f.pgbouncer_wait_ms or 0.0
    return executed, queued, whole - executed - queued, []


def leaves(found: Budget) -> list[Part]:
    """Return the parts that hold no other: what is drawn as one stacked bar."""
    holders = {part.inside for part in found.parts}
    return [part for part in found.parts if part.name not in holders]
