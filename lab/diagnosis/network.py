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

import numpy as np

from lab.diagnosis.demand import waiting_ms
from lab.diagnosis.facts import DATABASE, GENERATOR, HOST, PGBOUNCER, SERVICE, Facts

#: Of network and hand-over, where nothing queues; milliseconds.
TRANSFER_MS = 0.5
#: Share of a host's cores that the measured parts can have: monitoring and kernel take the rest.
USABLE = 0.9


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
        for name, slots, each in (
            ("pgbouncer-pool", self.pgbouncer_slots, inside),
            ("service-pool", self.pool_slots, held),
            ("workers-or-backlog", self.service_slots, held + self.service_ms),
        ):
            if slots and slots < self.users:  # as many as there are users: nobody queues
                found[name] = each / slots
        return {name: 1000 / ms for name, ms in found.items() if ms > 0}

    def first_bottleneck(self, saturated: float = 0.85) -> str:
        """Return what binds first, `not-saturated` where the users are too few to reach it."""
        bounds = self.bounds()
        if not bounds:
            return "not-saturated"
        name, least = min(bounds.items(), key=lambda item: item[1])
        return name if self.throughput() >= saturated * least else "not-saturated"


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
    if locked is not None and locked >= 0.3:
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


def with_cpu(net: Network, part: str, ratio: float) -> Network:
    """Return the network with a CPU limit that is `ratio` times what it was."""
    name = f"{part}_ms"
    return replace(net, **{name: getattr(net, name) / ratio})


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
    whole = np.zeros(n + 1)
    whole[0] = 1.0
    steps = np.arange(1, n + 1)
    centres = [np.full(n, d / scale) for d in queueing if d > 0]
    centres += [1 / (rates * scale) for rates in nested]
    if delay > 0:
        centres.append(delay / scale / steps)
    for factors in centres:
        logs = np.concatenate(([0.0], np.cumsum(np.log(factors))))
        whole = np.convolve(whole, np.exp(np.clip(logs, -600, 600)))[: n + 1]
        whole /= whole.max()
    if not centres:
        return np.full(n, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = whole[:-1] / whole[1:] / scale
    return np.where(np.isfinite(rates) & (rates > 0), rates, 1 / scale)


def _capped(rates: np.ndarray, slots: int | None) -> np.ndarray:
    """Return the rates where at most `slots` requests may be inside, the others queueing."""
    if slots is None or slots >= len(rates):
        return rates
    return np.concatenate((rates[:slots], np.full(len(rates) - slots, rates[slots - 1])))
