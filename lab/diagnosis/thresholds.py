"""Every threshold of the rules: value, unit, and where it is from."""

from __future__ import annotations

from dataclasses import dataclass

from lab.diagnosis.model import Evidence

GREGG = "Gregg, Systems Performance, 2nd ed., USE method: high utilisation with queueing saturates"
DENNING = "Denning and Buzen 1978: X = U/D, so throughput ends where U nears 1"
KUBERNETES = "kubernetes-mixin, CPUThrottlingHigh: 25% of the periods; here twice that"
OWN = "Poolscope's fault suite, training part"


@dataclass(frozen=True)
class Threshold:
    """A value from which on (or, with `below`, up to which) a signal supports a candidate."""

    value: float
    unit: str
    source: str
    below: bool = False

    def row(self, signal: str, value: float | None) -> Evidence:
        """Return the row of evidence for a signal's value."""
        held = None
        if value is not None:
            held = value <= self.value if self.below else value >= self.value
        return Evidence(
            signal=signal, value=value, threshold=self.value, unit=self.unit, supports=held,
            source=self.source,
        )  # fmt: skip


CPU = Threshold(0.90, "of the limit", DENNING)
#: A part that works in bursts is stopped in most periods before its mean nears the limit.
CPU_IN_BURSTS = Threshold(0.75, "of the limit", DENNING)
#: The most used CPU where users are many times the knee: the model has it saturated, and what is
#: lacking was taken by others on the host.
CPU_CROWDED = Threshold(
    0.80, "of the limit", "Lazowska et al. 1984: beyond N* the bottleneck saturates"
)
CROWD = 4.0
THROTTLED = Threshold(0.50, "of the periods", KUBERNETES)
HOST = Threshold(0.95, "of the host's cores", GREGG)
GENERATOR = Threshold(0.90, "of the limit", "validity gate of a cell")
STEAL = Threshold(0.01, "of the host's time", "validity gate of a cell")
SLOTS = Threshold(0.85, "in use", GREGG)
#: With half of the latency before the service, so few busy threads are a queue as well: a kept
#: connection stays with the worker that took it, and the kernel wakes the last waiting one first.
SLOTS_UNEVEN = Threshold(
    0.50, "in use", "gunicorn gthread; Linux epoll wakes waiters last in, first out"
)
OUTSIDE_UNEVEN = 0.5
#: A queue that takes less of the latency is not what makes it.
QUEUE_SHARE = Threshold(0.20, "of the latency", OWN)
POOL_SHARE = Threshold(0.20, "of the service's latency", OWN)
WORKER_QUEUE_SHARE = Threshold(0.20, "of the latency", OWN)
CONNECTS = Threshold(0.10, "per request", "a connection that is kept serves more than ten requests")
CONNECT_SHARE = Threshold(0.25, "of the service's latency", OWN)
CONNECTIONS_ROOM = Threshold(
    1.0, "connections", "PostgreSQL refuses the next one: too many clients already", below=True
)
FAILURES = Threshold(0.01, "of the requests", "SRE practice: an objective of 99% is the mildest")
LOCKED = Threshold(0.30, "of the active backends", OWN)
LOCK_WAITS = Threshold(1.0, "backends", "one backend that always waits is a queue")
EXECUTING_SHARE = Threshold(0.20, "of the latency", OWN)
IO = Threshold(0.40, "of the active backends", OWN)
#: Of the active backends that wait for the disk: where fewer wait for WAL, it is for pages.
FOR_WAL = Threshold(0.50, "of those that wait for the disk", "the more frequent of two kinds")
#: Up to here a database that waits for nothing known computes all the time that it executes.
BUSY = Threshold(0.80, "of the limit", "below, what executes longer than it computes waits")
#: A bound within this of the first one limits as well: raising the first alone brings as little.
NEAR = Threshold(0.90, "of the other bound", "docs/speed.md: runs drift by as much")
#: A queue of this share of the latency that no rule explains leaves the verdict open, and a shorter
#: one than LEAST is no queue worth a word.
UNEXPLAINED = Threshold(0.50, "of the latency", "more unknown than known")
LEAST = Threshold(10.0, "ms", "Poolscope's choice: a tenth of what CFS stops a part for at most")
WRITES = Threshold(1.0, "bytes per request", "a request that writes nothing waits for no WAL")
