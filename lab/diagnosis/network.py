"""A closed queueing network of the cell: what throughput would be with other limits.

Lazowska et al., "Quantitative System Performance", 1984: queueing and delay centres by
convolution (Buzen's algorithm), and a part that holds at most m requests as a
flow-equivalent service centre (chapter 9): its throughput with 1, 2, ... m inside is solved
first, and stands for it then. The nesting is the system's own:

    users [ generator, service's threads [ service CPU, pool [ PgBouncer CPU, PgBouncer's pool
        [ database CPU, waiting in the database ] ] ] ]

A CPU limit of q cores is a server that takes c/q for c of CPU time: right where it is saturated,
which is where a prediction matters, and too slow where requests are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lab.diagnosis import thresholds as t
from lab.diagnosis.demand import waiting_ms
from lab.diagnosis.facts import DATABASE, GENERATOR, HOST, PGBOUNCER, SERVICE, Facts
from lab.diagnosis.model import Demand

#: Of network and hand-over, where nothing queues; milliseconds.
TRANSFER_MS = 0.5
#: Share of a host's cores that the measured parts can have: monitoring and kernel take the rest.
USABLE = 0.9
#: From the inside out: where one is full, those around it are as well.
SLOTS = ("pgbouncer-pool", "service-pool", "workers-or-backlog")
#: The field of a network that has a resource's limit, and its value without one.
LIMIT_OF: dict[str, tuple[str, Any]] = {
    DATABASE: ("database_ms", 0.0), SERVICE: ("service_ms", 0.0), PGBOUNCER: ("pgbouncer_ms", 0.0),
    GENERATOR: ("generator_ms", 0.0), "pgbouncer-pool": ("pgbouncer_slots", None),
    "service-pool": ("pool_slots", None), "workers": ("service_slots", None),
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """Demands in milliseconds on the whole resource, and the slots of what is nested."""

    users: int
    database_ms: float
    waiting_ms: float
    pgbouncer_ms: float
    service_ms: float
    generator_ms: float
    pgbouncer_slots: int | None = None
    pool_slots: int | None = None
    service_slots: int | None = None
    #: waiting that only one request at a time can do, of each row that all lock; over all requests
    serial_ms: float = 0.0
    #: such rows, of which each request takes one at random
    rows: int = 1
    connecting_ms: float = 0.0
    #: CPU of all parts together over the host's cores: what no limits can exceed
    host_ms: float = 0.0

    def throughput(self) -> float:
        """Return requests per second."""
        n = self.users
        inner = _rates([self.database_ms, *[self.serial_ms] * self.rows], [], self.waiting_ms, n)
        inner = _capped(inner, self.pgbouncer_slots)
        middle = _rates([self.pgbouncer_ms], [inner], self.connecting_ms, n)
        middle = _capped(middle, self.pool_slots)
        outer = _rates([self.service_ms], [middle], 0.0, n)
        outer = _capped(outer, self.service_slots)
        found = float(_rates([self.generator_ms], [outer], TRANSFER_MS, n)[-1] * 1000)
        return min(found, 1000 / self.host_ms) if self.host_ms > 0 else found

    def bounds(self) -> dict[str, float]:
        """Return the most that each part allows, in requests per second."""
        inside = self.database_ms + self.serial_ms * self.rows + self.waiting_ms
        held = inside + self.pgbouncer_ms
        found = {
            "database-cpu": self.database_ms,
            "database-locks": self.serial_ms,
            "pgbouncer-cpu": self.pgbouncer_ms,
            "service-cpu": self.service_ms,
            "load-generator-or-host": max(self.generator_ms, self.host_ms),
        }
        sizes = (self.pgbouncer_slots, self.pool_slots, self.service_slots)
        times = (inside, held, held + self.service_ms)
        for name, slots, each in zip(SLOTS, sizes, times, strict=True):
            if slots and slots < self.users:  # as many as there are users: nobody queues
                found[name] = each / slots
        return {name: 1000 / ms for name, ms in found.items() if ms > 0}

    def binding(self) -> list[str]:
        """Return what holds throughput where it is, as the rules will find it; none: too few users.

        What computes or is locked goes before slots, whose queues it then explains; of the slots
        the innermost goes first, with those that are next to it.
        """
        bounds, found = self.bounds(), self.throughput()
        deep = [n for n, b in bounds.items() if n not in SLOTS and found >= t.CPU.value * b]
        if deep:
            return sorted(deep, key=lambda name: bounds[name])
        full = [n for n in SLOTS if n in bounds and found >= t.SLOTS.value * bounds[n]]
        return [n for n in full if bounds[n] * t.NEAR.value <= bounds[full[0]]]


def network(facts: Facts) -> Network | None:
    """Return the cell's network, None where its CPU figures or its users are not known."""
    f = facts
    if not f.rps or not f.users:
        return None
    demands = {part: _demand_ms(f, part) for part in (DATABASE, SERVICE, PGBOUNCER, GENERATOR)}
    database, service = demands[DATABASE], demands[SERVICE]
    if database is None or service is None:
        return None
    waits = waiting_ms(f)
    locked = f.waiting_for("Lock")
    serial = 0.0
    if locked is not None and locked >= t.LOCKED.value:
        # Whoever waits for a row waits for all before him: one holder at a time, so 1/X each.
        serial, waits = max(0.0, 1000 / f.rps), 0.0
    return Network(
        users=f.users,
        database_ms=database,
        waiting_ms=waits,
        pgbouncer_ms=(demands[PGBOUNCER] or 0.0) if f.route != "direct" else 0.0,
        service_ms=service,
        generator_ms=demands[GENERATOR] or 0.0,
        pgbouncer_slots=f.pgbouncer_slots if f.route != "direct" else None,
        pool_slots=f.pool_slots,
        service_slots=f.service_slots,
        serial_ms=serial,
        rows=int(f.settings.get("HOT_ROWS") or 1) if serial else 1,
        host_ms=_host_ms(f),
    )


def _host_ms(facts: Facts) -> float:
    """Return the CPU per request of the measured parts, over the cores that can be had.

    Not the host's busy time: others on it come and go, and the next measurement may be without.
    """
    used = [cpu.used for part, cpu in facts.cpu.items() if part != HOST and cpu.used is not None]
    if not facts.host_cores or not facts.rps:
        return 0.0
    return sum(used) / facts.rps / (facts.host_cores * USABLE) * 1000


def with_next(demand: Demand, facts: Facts, net: Network | None) -> Demand:
    """Return the demand with what throughput would be if each resource's limit were gone.

    It is what the network gains by that, over what was measured.
    """
    if net is None or not facts.rps:
        return demand
    now, found = net.throughput(), []
    for one in demand.resources:
        if one.name in LIMIT_OF:
            field, without = LIMIT_OF[one.name]
            gain = replace(net, **{field: without}).throughput() / now
            one = one.model_copy(update={"next_rps": facts.rps * gain})
        found.append(one)
    return demand.model_copy(update={"resources": found})


def _demand_ms(facts: Facts, part: str) -> float | None:
    share = facts.utilisation(part)
    return None if share is None or not facts.rps else share / facts.rps * 1000


def _rates(
    queueing: Sequence[float], nested: Sequence[np.ndarray], delay: float, n: int
) -> np.ndarray:
    """Return the throughput per millisecond with 1 to n requests inside, by convolution.

    `nested` are flow-equivalent centres: their rates with 1 to n requests.
    """
    scale = max([*queueing, delay / n, *(1 / rates[-1] for rates in nested), 1e-6])
    # A delay of a thousand times the largest demand takes a thousand users' factors to e^1000:
    # beyond the range of a double, and within that of a long double on Linux.
    whole = np.zeros(n + 1, dtype=np.longdouble)
    whole[0] = 1.0
    steps = np.arange(1, n + 1)
    centres = [np.full(n, d / scale) for d in queueing if d > 0]
    centres += [1 / (rates * scale) for rates in nested]
    if delay > 0:
        centres.append(delay / scale / steps)
    for factors in centres:
        products = np.cumprod(np.concatenate(([1.0], factors)), dtype=np.longdouble)
        whole = np.convolve(whole, products)[: n + 1]
        whole /= whole.max()
    if not centres:
        return np.full(n, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = (whole[:-1] / whole[1:] / scale).astype(float)
    return np.where(np.isfinite(rates) & (rates > 0), rates, 1 / scale)


def _capped(rates: np.ndarray, slots: int | None) -> np.ndarray:
    """Return the rates where at most `slots` requests may be inside, the others queueing."""
    if slots is None or slots >= len(rates):
        return rates
    return np.concatenate((rates[:slots], np.full(len(rates) - slots, rates[slots - 1])))
