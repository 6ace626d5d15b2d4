"""Requests open connections of their own, and opening is what they wait for.

Each costs a fork, a log-in and cold caches: some 30 statements' worth of the database's CPU. So
the database, PgBouncer or the service may be at its CPU limit as well: those are symptoms, since
without the opening the same CPU does the work many times over.
"""

from __future__ import annotations

from lab.diagnosis import thresholds as t
from lab.diagnosis.facts import connects_per_request
from lab.diagnosis.model import Candidate, Remedy
from lab.diagnosis.verdicts.base import Rule, View, candidate

NAME, LABEL = "connection-set-up", "connection set-up"


def judge(view: View) -> Candidate:
    """Judge by connections per request and the share of the service's time that opening takes."""
    f = view.facts
    share = f.inside(f.connect_ms)
    needs = [
        t.CONNECTS.row("new connections", f.new_connections),
        t.CONNECT_SHARE.row("opening connections", share),
    ]
    opened, took = f.new_connections or 0.0, f.connect_ms or 0.0
    because = f"{opened:.2f} connections are opened per request, at {took:,.1f} ms per request"
    return candidate(NAME, LABEL, needs, [], because)


def remedy(view: View) -> Remedy:
    """Keep connections: by a maximum age, or a pool that holds as many as are opened."""
    s = view.facts.settings
    if "DB_POOL" in s and not connects_per_request(s):
        size = s["DB_POOL_SIZE"] + max(1, s["DB_MAX_OVERFLOW"])
        others = ["DB_MAX_OVERFLOW=0: what is beyond the pool is closed after use"]
        return Remedy(settings={"DB_POOL_SIZE": str(size)}, others=others)
    changes = {"DB_CONN_MAX_AGE": "600"}
    if s.get("DB_POOL") == "per-request":
        changes = {"DB_POOL": "persistent", **({} if s["DB_CONN_MAX_AGE"] else changes)}
    others = []
    if view.facts.route == "direct":
        others.append("ROUTE=pgbouncer, where the service cannot keep connections")
    return Remedy(settings=changes, others=others)


RULE = Rule(NAME, LABEL, judge, remedy, ("max-connections",))
