"""What the verdicts on a CPU limit have in common: the test, and how much more it takes."""

from __future__ import annotations

import math

from lab.diagnosis import thresholds as t
from lab.diagnosis.facts import Cpu
from lab.diagnosis.model import Candidate, Evidence, Remedy
from lab.diagnosis.verdicts.base import View, candidate

#: How far beyond the next bound a new limit goes, so that it is not what binds again when it works
#: in bursts (1 / CPU_IN_BURSTS is 1.33); and the most that one step raises it.
HEADROOM, MOST = 1.4, 4.0


def rows(view: View, part: str, words: str) -> tuple[list[Evidence], list[Evidence]]:
    """Return (needed, further) rows for a part's CPU."""
    cpu = view.facts.cpu.get(part, Cpu())
    stopped = t.THROTTLED.row(f"{words} throttled", cpu.throttled)
    plain = t.CPU.row(f"{words} CPU", cpu.utilisation)
    if stopped.supports:
        return [t.CPU_IN_BURSTS.row(f"{words} CPU", cpu.utilisation)], [stopped]
    if not plain.supports and _crowded(view, part):
        return [t.CPU_CROWDED.row(f"{words} CPU", cpu.utilisation)], [plain, stopped]
    return [plain], [stopped]


def _crowded(view: View, part: str) -> bool:
    """Return whether the users are many times the knee, and this is the most used resource."""
    knee, users = view.demand.knee_users, view.facts.users
    known = [r for r in view.demand.resources if r.utilisation is not None and r.bound_rps]
    if not known or knee is None or users is None:
        return False
    return known[0].name == part and users >= t.CROWD * knee


def judge(view: View, part: str, name: str, label: str, words: str) -> Candidate:
    """Judge a CPU limit."""
    needs, also = rows(view, part, words)
    cpu = view.facts.cpu.get(part, Cpu())
    cores = "" if cpu.limit is None else f" of {cpu.limit:g} cores"
    used = "" if cpu.utilisation is None else f"{cpu.utilisation:.0%}"
    return candidate(name, label, needs, also, f"{words} uses {used}{cores}")


def raised(view: View, part: str, name: str, toggle: str, most: float | None) -> Remedy:
    """Return the limit that brings the next bound within reach, at most `most` cores."""
    cpu = view.facts.cpu.get(part, Cpu())
    net, behind = view.network, view.bound_behind(name)
    factor = 2.0
    if net is not None and behind is not None and name in net.bounds():
        factor = min(MOST, max(1.25, behind / net.bounds()[name] * HEADROOM))
    limit = view.facts.settings.get(toggle)
    if not view.facts.enforced:
        return Remedy(words="limits are not enforced here: it takes a host with more cores")
    if limit is None or cpu.limit is None:
        return Remedy(words=f"{toggle}: {factor:.1f} times what it is now")
    wanted = math.ceil(limit * factor * 20 - 1e-9) / 20
    if most is not None:
        wanted = min(wanted, float(most))
    if wanted < limit * 1.05:
        return Remedy(words=f"{toggle}={limit:g} is all that this host has: it takes more cores")
    return Remedy(settings={toggle: f"{wanted:g}"})
