"""What the verdicts on something of which there are only so many have in common."""

from __future__ import annotations

import math

from lab.diagnosis.verdicts.base import View

#: Beyond the next bound, so that the slots are not what binds again; and the most at one step.
HEADROOM, MOST = 1.5, 32.0


def factor(view: View, name: str) -> float:
    """Return how many times the slots are needed for the next bound, of other kinds, to bind."""
    net = view.network
    if net is None or name not in net.bounds():
        return 2.0
    slots = {"service-pool", "pgbouncer-pool", "workers-or-backlog"}
    bounds = net.bounds()
    others = [bound for other, bound in bounds.items() if other not in slots]
    if not others:
        return 2.0
    return min(MOST, max(2.0, min(others) / bounds[name] * HEADROOM))


def enlarged(view: View, name: str, now: int, per: int = 1) -> int:
    """Return a new size of `now` slots, of which there are `per` of each: users fill no more."""
    wanted = math.ceil(now * factor(view, name))
    if view.facts.users:
        wanted = min(wanted, max(now + 1, math.ceil(view.facts.users / per)))
    return wanted
