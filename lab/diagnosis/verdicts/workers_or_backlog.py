"""All threads of all workers are busy, so requests wait in front of the service.

Against service CPU: the threads wait, they do not compute. Against the load generator: there the
time outside the service is long too, but threads are idle. Against whatever the threads wait
for (a pool, PgBouncer, locks): that is the deeper cause wherever it has a queue of its own.
"""

from __future__ import annotations

import math

from lab.config import memory_size
from lab.diagnosis import thresholds as t
from lab.diagnosis.facts import workers
from lab.diagnosis.model import Candidate, Remedy
from lab.diagnosis.verdicts import pools, service_pool
from lab.diagnosis.verdicts.base import Rule, View, candidate

NAME, LABEL = "workers-or-backlog", "workers or backlog"
#: Megabytes of one worker process, by which the service's memory limit bounds their number.
#: The working set of a service's group over its two workers, master included, was 53 (Django) to 78
#: (FastAPI): quick preset, 25 November 2026.
WORKER_MB = 80


def judge(view: View) -> Candidate:
    """Judge by the time before the service and by its busy threads."""
    f = view.facts
    if f.is_async:
        why = "an event loop takes every request at once"
        return Candidate(name=NAME, label=LABEL, state="ruled out", why=why)
    threads = view.demand.of("workers")
    used = None if threads is None else threads.utilisation
    outside = f.share(f.outside_ms)
    because = f"requests wait {f.outside_ms or 0:,.1f} ms for one of {f.service_slots} threads"
    enough = t.SLOTS.row("threads of the workers", used)
    if not enough.supports and _uneven(view, outside):
        enough = t.SLOTS_UNEVEN.row("threads of the workers", used)
        because += f", of which {used or 0:.0%} are busy: connections are spread unevenly"
    needs = [enough, t.WORKER_QUEUE_SHARE.row("time before the service", outside)]
    return candidate(NAME, LABEL, needs, [], because)


def _uneven(view: View, outside: float | None) -> bool:
    """Return whether users queue at one worker while another one has threads to spare."""
    f = view.facts
    several = "THREADS" not in f.settings or workers(f.settings) > 1
    crowded = f.users is None or f.service_slots is None or f.users > f.service_slots
    return several and crowded and (outside or 0.0) >= t.OUTSIDE_UNEVEN


def remedy(view: View) -> Remedy:
    """More threads, with a connection for each; more workers where a worker has one thread."""
    f = view.facts
    s = f.settings
    if "THREADS" not in s or not f.service_slots:
        return Remedy(words=f"{pools.factor(view, NAME):.1f} times as many workers or threads")
    slots = pools.enlarged(view, NAME, f.service_slots)
    if f.route == "direct" and f.connections_room is not None:
        slots = min(slots, f.service_slots + int(f.connections_room))  # each takes a connection
    if s["WORKER_CLASS"] == "sync":
        most = max(1, memory_size(s["APP_MEMORY"]) // (WORKER_MB * 2**20))
        return Remedy(settings={"WORKERS": str(min(most, slots))})
    count = workers(s)
    threads = min(256, math.ceil(slots / count))
    changes = {"THREADS": str(threads)}
    pooled = f.framework == "flask" or s["DB_POOL"] == "psycopg"
    if pooled and s["DB_POOL_SIZE"] + s["DB_MAX_OVERFLOW"] < threads:
        changes["DB_POOL_SIZE"] = str(threads)  # a thread without a connection would wait again
    others = [f"WORKERS={2 * count}, at about {WORKER_MB} MB each"]
    return Remedy(settings=changes, others=others)


BEHIND = (*service_pool.BEHIND, "service-pool")
RULE = Rule(NAME, LABEL, judge, remedy, BEHIND)
