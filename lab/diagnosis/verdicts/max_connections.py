"""PostgreSQL has no room for another connection and refuses: requests fail.

It comes before all others: what the remaining requests wait for says little while others are
refused at once, and the failures themselves may be fast enough to fill a CPU.
"""

from __future__ import annotations

from lab.diagnosis import thresholds as t
from lab.diagnosis.facts import pool_slots, service_slots
from lab.diagnosis.model import Candidate, Remedy
from lab.diagnosis.verdicts.base import Rule, View, candidate

NAME, LABEL = "max-connections", "max_connections"
#: Superuser's reserve, exporters and the instrument itself.
OTHERS = 10
#: superuser_reserved_connections: PostgreSQL's default.
RESERVED = 3


def judge(view: View) -> Candidate:
    """Judge by the room that is left and by refused requests."""
    f = view.facts
    room = t.CONNECTIONS_ROOM.row("room for connections", f.connections_room)
    if f.connections_room is None:
        # Who counts the connections was refused as well.
        room = t.CONNECTIONS_ROOM.row("room, by the settings", _room_by_settings(view))
    refused = t.FAILURES.row("failed for want of a connection", _refused(view))
    because = "PostgreSQL refuses connections: too many clients already"
    return candidate(NAME, LABEL, [refused, room], [], because)


def _room_by_settings(view: View) -> float | None:
    """Return max_connections less what the service may open, None where that is not known."""
    wanted = _wanted(view)
    if view.facts.max_connections is None or wanted is None or view.facts.route != "direct":
        return None
    return float(view.facts.max_connections - RESERVED - wanted)


def _wanted(view: View) -> int | None:
    """Return how many connections the service may hold at once."""
    f = view.facts
    if "DB_POOL" not in f.settings or f.framework is None:
        return None
    return pool_slots(f.framework, f.settings) or service_slots(f.framework, f.settings) or f.users


def _refused(view: View) -> float | None:
    """Return the share of requests that failed by the database's absence, not by a pool's."""
    f = view.facts
    if f.error_rate is None or not f.errors:
        return f.error_rate
    named = sum(n for error, n in f.errors.items() if "database-unavailable" in error)
    return f.error_rate * named / max(1, sum(f.errors.values()))


def remedy(view: View) -> Remedy:
    """Allow what the pools want; through PgBouncer where that is many."""
    f = view.facts
    if "DB_POOL" not in f.settings or f.framework is None:
        return Remedy(words="raise max_connections, or put PgBouncer in between")
    wanted = (_wanted(view) or 100) if f.route == "direct" else f.pgbouncer_slots or 20
    others = [f"smaller pools: DB_POOL_SIZE (now {f.settings.get('DB_POOL_SIZE')}) or WORKERS"]
    if f.route == "direct" and wanted > 200:
        return Remedy(settings={"ROUTE": "pgbouncer"}, others=others)
    return Remedy(settings={"POSTGRES_MAX_CONNECTIONS": str(wanted + OTHERS)}, others=others)


RULE = Rule(NAME, LABEL, judge, remedy)
