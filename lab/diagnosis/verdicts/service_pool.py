"""Requests queue for a connection of the service's own pool, and what they queue for has room.

Against everything behind it (PgBouncer's pool, locks, the database's CPU): a pool's connections
are also all in use when each statement takes long for another reason; then that is the verdict.
Against workers: a thread that waits for the pool is busy; the pool is the deeper of the two.
"""

from __future__ import annotations

from lab.diagnosis import thresholds as t
from lab.diagnosis.facts import workers
from lab.diagnosis.model import Candidate, Remedy
from lab.diagnosis.verdicts import pools
from lab.diagnosis.verdicts.base import Rule, View, candidate

NAME, LABEL = "service-pool", "service pool"


def judge(view: View) -> Candidate:
    """Judge by pool wait and by the pool's occupancy."""
    f = view.facts
    pool = view.demand.of("service-pool")
    if f.framework is not None and f.pool_slots is None:
        why = "requests queue at no pool with these settings"
        return Candidate(name=NAME, label=LABEL, state="ruled out", why=why)
    needs = [t.POOL_SHARE.row("pool wait", f.inside(f.pool_wait_ms))]
    also = [t.SLOTS.row("the pool's connections", None if pool is None else pool.utilisation)]
    because = f"requests queue {f.pool_wait_ms or 0:,.1f} ms for one of {f.pool_slots} connections"
    return candidate(NAME, LABEL, needs, also, because)


def remedy(view: View) -> Remedy:
    """Enlarge each worker's pool, as far as PostgreSQL has room."""
    f = view.facts
    if "DB_POOL_SIZE" not in f.settings:
        return Remedy(words=f"{pools.factor(view, NAME):.1f} times as many connections in the pool")
    each = workers(f.settings)
    size = pools.enlarged(view, NAME, int(f.settings["DB_POOL_SIZE"]), each)
    room = f.connections_room
    if f.route == "direct" and room is not None:
        most = int((room + (f.pool_slots or 0)) // each) - f.settings["DB_MAX_OVERFLOW"]
        size = min(size, max(1, most))
    others = ["shorter use of a connection: check it out late, give it back early"]
    return Remedy(settings={"DB_POOL_SIZE": str(size)}, others=others)


BEHIND = (
    *("max-connections", "connection-set-up", "database-cpu", "database-locks"),
    *("database-wal-or-io", "pgbouncer-cpu", "pgbouncer-pool", "service-cpu"),
    "load-generator-or-host",  # one that is stopped in most periods sends in bursts
)
RULE = Rule(NAME, LABEL, judge, remedy, BEHIND)
