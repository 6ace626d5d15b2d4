"""The gate: why a cell's measurement cannot be trusted. Pure functions of what was collected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lab.measure import little
from lab.results import Measurement

#: Of one core. One Locust process is one thread: near a core it times its own queue.
MAX_GENERATOR_CPU = 0.90
#: Of the host's CPU time, taken by the hypervisor for others.
MAX_STEAL = 0.01
#: Between the answers that the client got and the requests that the service counted.
MAX_COUNT_DIFFERENCE = 0.005
#: Of X*R against N; a closed loop obeys Little's law unless time is lost in the generator.
MAX_LITTLE_ERROR = 0.05
#: Share of the host's CPU from which time lost in the generator is put down to it.
BUSY_HOST = 0.9


@dataclass(frozen=True)
class Counts:
    """Answers counted by both sides from the first request of the load to the last.

    `server` is None where nothing on the other side could count, with the reason in `why`.
    """

    client: int
    server: int | None
    source: str
    why: str = ""


@dataclass(frozen=True)
class Gathered:
    """What the gate judges beside the measurement."""

    users: int
    users_min: int
    users_max: int
    missing_seconds: int
    counts: Counts
    unequal: str | None
    samples: str | None
    ended: tuple[str, ...] = ()
    generator_cpus: float = 1.0


def reasons(m: Measurement, g: Gathered) -> list[str]:
    """Return each reason to reject the cell; none means it can be trusted."""
    found: Iterable[str | None] = (
        *(f"{name} ended during the window" for name in g.ended),
        f"work not equal: {g.unequal}" if g.unequal else None,
        f"samples missing: {g.samples}" if g.samples else None,
        _seconds(g),
        _users(g),
        _answers(m),
        _generator(m, g.generator_cpus),
        _steal(m),
        _counts(g.counts),
        _little(m, g),
    )
    return [reason for reason in found if reason]


def _seconds(g: Gathered) -> str | None:
    if g.missing_seconds:
        return f"generator reported nothing for {g.missing_seconds} s of the window"
    return None


def _users(g: Gathered) -> str | None:
    if (g.users_min, g.users_max) != (g.users, g.users):
        return f"users were {g.users_min} to {g.users_max}, not {g.users}, in the window"
    return None


def _answers(m: Measurement) -> str | None:
    return None if m.requests else "no request was answered in the window"


def _generator(m: Measurement, limit_cpus: float) -> str | None:
    if m.generator_cpu is None:
        return "generator's CPU time is unknown"
    if limit_cpus < 1 and m.generator_cpu > MAX_GENERATOR_CPU * limit_cpus:
        return (
            f"load generator used {m.generator_cpu / limit_cpus:.0%} of its {limit_cpus:g} cores "
            f"(limit {MAX_GENERATOR_CPU:.0%}); GENERATOR_CPUS=0 lifts its limit"
        )
    if m.generator_cpu > MAX_GENERATOR_CPU:
        return (
            f"load generator used {m.generator_cpu:.0%} of a core (limit {MAX_GENERATOR_CPU:.0%}); "
            "fewer users, or lower APP_CPUS and DB_CPUS"
        )
    return None


def _steal(m: Measurement) -> str | None:
    if m.steal is not None and m.steal > MAX_STEAL:
        return f"CPU steal was {m.steal:.1%} (limit {MAX_STEAL:.0%}); measure again on a calm host"
    return None


def _counts(c: Counts) -> str | None:
    if c.server is None:
        return f"nothing to check the client's count against: {c.why}"
    if not c.client and not c.server:
        return None  # said by _answers
    difference = abs(c.client - c.server) / max(c.client, c.server)
    if difference > MAX_COUNT_DIFFERENCE:
        return (
            f"client counted {c.client} answers, {c.source} {c.server} "
            f"({difference:.1%} apart, limit {MAX_COUNT_DIFFERENCE:.1%})"
        )
    return None


def _little(m: Measurement, g: Gathered) -> str | None:
    attempts = (m.requests + m.statuses.get("0", 0)) / m.window_s
    if m.mean_ms is None or not attempts:
        return None  # said by _answers
    found = little(attempts, m.mean_ms, g.users)
    if abs(found - 1) > MAX_LITTLE_ERROR:
        busy = m.host_cpu is not None and m.host_cpu > BUSY_HOST
        why = (
            f"this host was {m.host_cpu:.0%} busy, so the generator waited for CPU"
            if busy
            else "a longer WINDOW may help"
        )
        return (
            f"Little's law: X*R = {found * g.users:.1f} for N = {g.users} users "
            f"({abs(found - 1):.0%} off, limit {MAX_LITTLE_ERROR:.0%}); {why}"
        )
    return None
