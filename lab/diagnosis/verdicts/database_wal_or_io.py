"""Statements wait for the disk: commits for the write-ahead log, or pages that are not in memory.

A commit's wait is not in pg_stat_statements, so the service's clock decides whether it matters.
Against database CPU: the CPU has room. Against locks: the wait events say IO, or LWLock at
WALWrite where many commit at once, not Lock.
"""

from __future__ import annotations

from lab.diagnosis import thresholds as t
from lab.diagnosis.facts import WAL_EVENTS
from lab.diagnosis.model import Candidate, Evidence, Remedy
from lab.diagnosis.verdicts.base import Rule, View, candidate

NAME, LABEL = "database-wal-or-io", "database WAL or IO"


def judge(view: View) -> Candidate:
    """Judge by the backends that wait for the disk and what statements take."""
    f = view.facts
    needs: list[Evidence] = [
        t.IO.row("active backends that wait for WAL or IO", _held(view)),
        t.EXECUTING_SHARE.row("statements and commits", f.share(f.at_database_ms)),
    ]
    also = [t.WRITES.row("WAL", f.wal_bytes)]
    return candidate(NAME, LABEL, needs, also, "backends wait for the disk")


def _held(view: View) -> float | None:
    """Return the share of the active backends that wait for the disk."""
    waits = view.facts.waits
    if not waits:
        return view.facts.waiting_for("IO")
    return _waiting(view) / sum(waits.values())


def _waiting(view: View) -> float:
    """Return the mean backends that wait for the disk."""
    f = view.facts
    # LWLocks of WAL are of another type, and the many hold those while the one writes.
    locks = [event for event in WAL_EVENTS if not event.startswith("IO/")]
    return (f.waits or {}).get("IO", 0.0) + sum(f.wait_events.get(event, 0.0) for event in locks)


def remedy(view: View) -> Remedy:
    """Write in the background, or keep more pages in memory."""
    f = view.facts
    others = ["several rows per transaction", "a faster disk for pg_wal"]
    for_wal = (f.waiting_for_wal / held) if f.waits and (held := _waiting(view)) else 0.0
    if for_wal >= t.FOR_WAL.value and f.settings.get("POSTGRES_SYNCHRONOUS_COMMIT") == "on":
        others.append("off may lose the last commits at a crash, never consistency")
        return Remedy(settings={"POSTGRES_SYNCHRONOUS_COMMIT": "off"}, others=others)
    return Remedy(words="raise POSTGRES_SHARED_BUFFERS to hold the pages in use", others=others)


RULE = Rule(NAME, LABEL, judge, remedy, ("max-connections", "connection-set-up", "database-cpu"))
