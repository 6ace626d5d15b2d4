"""PostgreSQL's CPU limit is used up by the statements themselves.

Against connection set-up: that also burns the database's CPU, but then connections are opened
per request and opening takes much of the latency. Against the pools: their queues are long
because each statement waits for CPU, so a larger pool would only move the queue.
"""

from __future__ import annotations

from lab.diagnosis.facts import DATABASE
from lab.diagnosis.model import Candidate, Remedy
from lab.diagnosis.verdicts import cpu
from lab.diagnosis.verdicts.base import Rule, View

NAME, LABEL = "database-cpu", "database CPU"


def judge(view: View) -> Candidate:
    """Judge by CPU over its limit and throttling."""
    return cpu.judge(view, DATABASE, NAME, LABEL, "PostgreSQL")


def remedy(view: View) -> Remedy:
    """Raise DB_CPUS; fewer statements and plans are the ways without more CPU."""
    f = view.facts
    found = cpu.raised(view, DATABASE, NAME, "DB_CPUS", f.host_cores)
    others = []
    if f.settings.get("DB_PREPARED") == "off":
        others.append("DB_PREPARED=on saves parsing and planning, where the route carries it")
    if f.settings.get("DB_CONN_HEALTH_CHECKS"):
        others.append("DB_CONN_HEALTH_CHECKS=false saves one statement of two per request")
    if f.route == "direct":
        others.append("ROUTE=pgbouncer, where many busy backends share few cores")
    others.append("an index or a cheaper statement: pg_stat_statements by total_exec_time")
    return found.model_copy(update={"others": others})


RULE = Rule(NAME, LABEL, judge, remedy, ("max-connections", "connection-set-up"))
