"""PgBouncer's one thread is at its CPU limit.

Against PgBouncer's pool: a server connection stays taken while PgBouncer has no CPU to take its
answer, so the pool looks full too. Against connection set-up: log-ins (SCRAM) burn PgBouncer's
CPU as well, but then connections are opened per request.
"""

from __future__ import annotations

from lab.diagnosis.facts import PGBOUNCER
from lab.diagnosis.model import Candidate, Remedy
from lab.diagnosis.verdicts import cpu
from lab.diagnosis.verdicts.base import Rule, View

NAME, LABEL = "pgbouncer-cpu", "PgBouncer CPU"


def judge(view: View) -> Candidate:
    """Judge by CPU over its limit; without PgBouncer on the route there is nothing to judge."""
    if view.facts.route == "direct":
        return Candidate(name=NAME, label=LABEL, state="ruled out", why="not on the route")
    return cpu.judge(view, PGBOUNCER, NAME, LABEL, "PgBouncer")


def remedy(view: View) -> Remedy:
    """Raise its limit up to the one core it can use."""
    found = cpu.raised(view, PGBOUNCER, NAME, "PGBOUNCER_CPUS", 1.0)
    others = ["ROUTE=direct, where the services keep few connections",
              "several processes with so_reuseport, from one core on"]  # fmt: skip
    return found.model_copy(update={"others": others})


RULE = Rule(NAME, LABEL, judge, remedy, ("max-connections", "connection-set-up"))
