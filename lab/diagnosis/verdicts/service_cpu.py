"""The service's own CPU limit is used up, or its worker processes are a core each and too few.

Against the service's pool: with an event loop that is late, and threads that wait for a CPU, a
connection is held longer, so the pool's queue is the CPU's. Against workers: their threads are
all busy because each request takes CPU, not because it waits.
"""

from __future__ import annotations

import math

from lab.diagnosis.facts import SERVICE, workers
from lab.diagnosis.model import Candidate, Remedy
from lab.diagnosis.verdicts import cpu
from lab.diagnosis.verdicts.base import Rule, View

NAME, LABEL = "service-cpu", "service CPU"


def judge(view: View) -> Candidate:
    """Judge by CPU over its limit and throttling."""
    return cpu.judge(view, SERVICE, NAME, LABEL, "the service")


def remedy(view: View) -> Remedy:
    """Raise WORKERS where they cannot use the limit, else APP_CPUS."""
    f = view.facts
    limit = f.settings.get("APP_CPUS")
    if limit is not None and workers(f.settings) < limit:
        return Remedy(settings={"WORKERS": str(math.ceil(limit) + 1)})
    found = cpu.raised(view, SERVICE, NAME, "APP_CPUS", f.host_cores)
    wanted = found.settings.get("APP_CPUS")
    if wanted is not None and workers(f.settings) < float(wanted):
        settings = found.settings | {"WORKERS": str(math.ceil(float(wanted)))}
        found = found.model_copy(update={"settings": settings})
    others = ["a profile of the service; fewer or cheaper serialised rows per request"]
    return found.model_copy(update={"others": others})


RULE = Rule(NAME, LABEL, judge, remedy, ("max-connections", "connection-set-up"))
