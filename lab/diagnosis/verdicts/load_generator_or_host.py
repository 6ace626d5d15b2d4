"""The load generator, or the host as a whole, is at its limit: the measurement is of that.

Against the service's side: there no limit is reached and threads are idle, while the client's
latency is much longer than the service's. The gate rejects such a cell; the diagnosis says why.
"""

from __future__ import annotations

from lab.diagnosis import thresholds as t
from lab.diagnosis.facts import DATABASE, GENERATOR, HOST, PGBOUNCER, SERVICE
from lab.diagnosis.model import Candidate, Remedy
from lab.diagnosis.verdicts.base import Rule, View, candidate

NAME, LABEL = "load-generator-or-host", "load generator or host"


def judge(view: View) -> Candidate:
    """Judge by the generator's CPU, by steal, and by a host that is full without a limit hit."""
    f = view.facts
    generator = t.GENERATOR.row("load generator CPU", f.utilisation(GENERATOR))
    steal = t.STEAL.row("CPU steal", f.steal)
    host = t.HOST.row("host CPU", f.utilisation(HOST))
    outside = t.QUEUE_SHARE.row("time before the service", f.share(f.outside_ms))
    if generator.supports:
        because = f"the generator uses {f.utilisation(GENERATOR) or 0:.0%} of the CPU it may have"
        return candidate(NAME, LABEL, [generator], [outside], because)
    if steal.supports:
        return candidate(NAME, LABEL, [steal], [generator], "the hypervisor gives CPU to others")
    limited = [f.utilisation(part) or 0.0 for part in (DATABASE, SERVICE, PGBOUNCER)]
    if host.supports and max(limited) < t.CPU.value:
        because = "the host's CPU is full, and no part is at its own limit"
        return candidate(NAME, LABEL, [host], [generator], because)
    if generator.value is None and f.users is None:
        # Somebody's own service: its load comes from real users, on hosts of their own.
        return Candidate(name=NAME, label=LABEL, state="ruled out", why="no generator is known",
                         evidence=[steal, host])  # fmt: skip
    return candidate(NAME, LABEL, [generator], [steal, host], "")


def remedy(view: View) -> Remedy:
    """Free the generator or the host; the figures of this cell are not the service's."""
    limited = view.facts.settings.get("GENERATOR_CPUS")
    others = ["a generator on a host of its own", "lower APP_CPUS and DB_CPUS"]
    if limited:
        return Remedy(settings={"GENERATOR_CPUS": "0"}, others=others)
    return Remedy(words="fewer USERS, or a host with more free cores", others=others)


RULE = Rule(NAME, LABEL, judge, remedy)
