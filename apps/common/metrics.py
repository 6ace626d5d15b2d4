"""The metrics of the contract: names, labels, buckets, and one object that keeps a pool's books.

Import this in a worker and only where METRICS=on: in multiprocess mode every metric made here
opens a file for the process that makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from apps.common.cells import adder, mover, observer
from apps.common.workload import HEALTH_PATH, SCENARIOS

#: seconds, 1 ms to 30 s
BUCKETS: Final = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
HTTP_DURATION: Final = "http_request_duration_seconds"
HTTP_LABELS: Final = ("handler", "method", "status")
HTTP_IN_PROGRESS: Final = "http_requests_in_progress"
OTHER: Final = "other"
POOL: Final = "default"

_HANDLERS: Final = {path: path for path in (*(p for _, p in SCENARIOS.values()), HEALTH_PATH)}
_METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT", "PATCH")
)


def handler_of(path: str) -> str:
    """Return the `handler` label of a path: its own where the service has it, else `other`."""
    return _HANDLERS.get(path, OTHER)


def method_of(method: str) -> str:
    """Return the `method` label: clients may send any word, which would make series without end."""
    return method if method in _METHODS else OTHER


class HttpMetrics:
    """Count requests under the contract's two names; label lookups are cached."""

    def __init__(self) -> None:
        self._duration = Histogram(
            HTTP_DURATION, "Server-side latency of requests.", HTTP_LABELS, buckets=BUCKETS
        )
        #: add 1 when a request begins, -1 when it is answered
        self.in_progress: Callable[[float], None] = adder(
            Gauge(HTTP_IN_PROGRESS, "Requests being answered.", multiprocess_mode="livesum")
        )
        self._observers: dict[tuple[str, str, int], Callable[[float], None]] = {}

    def observe(self, path: str, method: str, status: int, seconds: float) -> None:
        """Record one answered request."""
        observe = self._observers.get((path, method, status))
        if observe is None:
            observe = self._observer(path, method, status)
        observe(seconds)

    def _observer(self, path: str, method: str, status: int) -> Callable[[float], None]:
        """Find the series; only its own labels are kept as a key, as paths are without number."""
        key = (handler_of(path), method_of(method), status)
        observe = self._observers.get(key)
        if observe is None:
            observe = observer(self._duration.labels(key[0], key[1], str(status)))
            self._observers[key] = observe
        return observe


class PoolMetrics:
    """Keep the books of the one connection pool of a process.

    A connection is opened (idle), checked out (used), checked in (idle) and closed; the gauges
    follow by adding and taking away, so any order of events ends with the right numbers.
    """

    def __init__(self) -> None:
        labels = ("pool",)

        def histogram(name: str, meaning: str) -> Callable[[float], None]:
            return observer(Histogram(name, meaning, labels, buckets=BUCKETS).labels(POOL))

        prefix = "db_client_connection"
        self.create = histogram(f"{prefix}_create_time_seconds", "Opening a connection.")
        self.wait = histogram(
            f"{prefix}_wait_time_seconds",
            "Queueing for a connection, without the time to open or check one.",
        )
        self.check = histogram(
            f"{prefix}_check_time_seconds", "Checking a kept connection with SELECT 1."
        )
        self.use = histogram(f"{prefix}_use_time_seconds", "Checkout to checkin.")
        count = Gauge(
            f"{prefix}_count", "Open connections.", ("pool", "state"), multiprocess_mode="livesum"
        )
        idle, used = count.labels(POOL, "idle"), count.labels(POOL, "used")
        self._idle = adder(idle)
        self._idle_to_used = mover(idle, used)
        self.set_max: Callable[[float], None] = (
            Gauge(f"{prefix}_max", "Connections allowed.", labels, multiprocess_mode="livesum")
            .labels(POOL)
            .set
        )
        self.timed_out: Callable[[], None] = (
            Counter(f"{prefix}_timeouts", "Checkouts that gave up.", labels).labels(POOL).inc
        )

    def opened(self) -> None:
        """Note a new connection, not yet checked out."""
        self._idle(1.0)

    def closed(self) -> None:
        """Note that a connection that is not checked out is gone."""
        self._idle(-1.0)

    def checked_out(self) -> float:
        """Note a checkout; return when it was, for `checked_in`. Its wait is noted apart."""
        self._idle_to_used(1.0)
        return perf_counter()

    def checked_in(self, checked_out_at: float) -> None:
        """Note a checkin."""
        self._idle_to_used(-1.0)
        self.use(perf_counter() - checked_out_at)


class OperationMetrics:
    """Time statements: sent to last row read, per operation."""

    def __init__(self) -> None:
        duration = Histogram(
            "db_client_operation_duration_seconds",
            "Statement sent to last row read.",
            ("operation",),
            buckets=BUCKETS,
        )
        self.select: Callable[[float], None] = observer(duration.labels("select"))
        self.insert: Callable[[float], None] = observer(duration.labels("insert"))
        self.update: Callable[[float], None] = observer(duration.labels("update"))


http = HttpMetrics()
pool = PoolMetrics()
operations = OperationMetrics()
