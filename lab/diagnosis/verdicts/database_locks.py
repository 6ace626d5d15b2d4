"""Statements wait for locks that others hold: a row or a table that all of them change.

Against database CPU: the lock queue forms whether or not the CPU is busy, and the backends' wait
events say Lock, where for the CPU they say nothing. Against WAL: a holder may itself wait for its
commit to be written, but then the many wait for Lock and only the one for WAL.
"""

from __future__ import annotations

from lab.diagnosis import thresholds as t
from lab.diagnosis.model import Candidate, Remedy
from lab.diagnosis.verdicts.base import Rule, View, candidate

NAME, LABEL = "database-locks", "database locks"


def judge(view: View) -> Candidate:
    """Judge by the backends that wait for a lock and what statements take."""
    f = view.facts
    locked = f.waiting_for("Lock")
    if locked is None and f.lock_waits == 0:
        locked = 0.0
    needs = [
        t.LOCK_WAITS.row("backends that wait for a lock", f.lock_waits),
        t.LOCKED.row("active backends that wait for a lock", locked),
        t.EXECUTING_SHARE.row("executing statements", f.share(f.executed_ms)),
    ]
    because = f"{f.lock_waits or 0:.1f} backends wait for a lock that another one holds"
    return candidate(NAME, LABEL, needs, [], because)


def remedy(view: View) -> Remedy:
    """Spread the row, or shorten what holds it."""
    s = view.facts.settings
    others = ["shorter transactions; append rows instead of changing one, and add up later"]
    if s.get("SCENARIO") == "hot-row" and "HOT_ROWS" in s:
        rows = max(20, 4 * int(s["HOT_ROWS"]))
        if s.get("POSTGRES_SYNCHRONOUS_COMMIT") == "on":
            others.append("POSTGRES_SYNCHRONOUS_COMMIT=off shortens the lock by the flush")
        return Remedy(settings={"HOT_ROWS": str(rows)}, others=others)
    words = "spread what all change over several rows (a counter per worker, summed when read)"
    return Remedy(words=words, others=others)


RULE = Rule(NAME, LABEL, judge, remedy, ("max-connections", "connection-set-up"))
