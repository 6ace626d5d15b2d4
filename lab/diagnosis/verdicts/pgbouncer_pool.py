"""Clients queue in PgBouncer for a server connection, and PostgreSQL has room.

PgBouncer adds a client's wait to its total only when a server connection is given, so a queue
that does not move shows in the waiting clients instead: either is enough. Against database CPU
and locks: server connections are also all taken when each statement takes long for those.
"""

from __future__ import annotations

from lab.diagnosis import thresholds as t
from lab.diagnosis.model import Candidate, Evidence, Remedy
from lab.diagnosis.verdicts import pools
from lab.diagnosis.verdicts.base import Rule, View, candidate

NAME, LABEL = "pgbouncer-pool", "PgBouncer pool"


def judge(view: View) -> Candidate:
    """Judge by the wait in PgBouncer and by its server connections."""
    f = view.facts
    if f.route == "direct":
        return Candidate(name=NAME, label=LABEL, state="ruled out", why="not on the route")
    pool = view.demand.of("pgbouncer-pool")
    used = None if pool is None else pool.utilisation
    if used is None and f.servers_active is not None and f.pgbouncer_slots:
        used = f.servers_active / f.pgbouncer_slots
    also = [t.SLOTS.row("server connections", used)]
    because = f"clients queue in PgBouncer for one of {f.pgbouncer_slots} server connections"
    return candidate(NAME, LABEL, [_queue(view)], also, because)


def _queue(view: View) -> Evidence:
    f = view.facts
    counted = f.inside(f.pgbouncer_wait_ms)
    # Little's law: mean waiting clients over the throughput is the wait of one request.
    seen = None
    if f.clients_waiting is not None and f.users:
        seen = f.clients_waiting / f.users
    known = [share for share in (counted, seen) if share is not None]
    return t.POOL_SHARE.row("wait in PgBouncer", max(known) if known else None)


def remedy(view: View) -> Remedy:
    """Enlarge the pool of server connections."""
    f = view.facts
    if not f.pgbouncer_slots:
        return Remedy(words="a larger default_pool_size in PgBouncer")
    size = pools.enlarged(view, NAME, f.pgbouncer_slots)
    if f.connections_room is not None:
        size = max(f.pgbouncer_slots + 1, min(size, f.pgbouncer_slots + int(f.connections_room)))
    return Remedy(
        settings={"PGBOUNCER_DEFAULT_POOL_SIZE": str(size)},
        others=["shorter transactions: a server connection is held until they end"],
    )


BEHIND = (
    *("max-connections", "connection-set-up", "database-cpu", "database-locks"),
    *("database-wal-or-io", "pgbouncer-cpu", "service-cpu"),
    "load-generator-or-host",  # one that is stopped in most periods sends in bursts
)
RULE = Rule(NAME, LABEL, judge, remedy, BEHIND)
