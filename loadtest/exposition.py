"""Prometheus metrics of the load, from the same counts as the interval log.

Nothing is done for them in the request path. With several processes each worker sends its totals
to the master once a second, and the master, which makes no requests itself, serves their sum.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gevent.pywsgi import WSGIServer
from prometheus_client import ProcessCollector, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from loadtest.intervals import HIGHEST_INDEX, Second, index_floor_us
from monitoring.identity import StartedRegistry

# Seconds: those of the services' http_request_duration_seconds, so that the two can be laid over
# each other, and the client's timeout on top.
BUCKETS_S = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
# Where each place of the HDR histogram belongs: a list look-up instead of a bisection per place.
_BUCKET_OF = [bisect_left(BUCKETS_S, index_floor_us(i) / 1e6) for i in range(HIGHEST_INDEX + 1)]

Totals = dict[str, Any]
"""What one process did so far: {"buckets": [n, ...], "sum_s", "statuses": {"200": n}, "failures",
"users", "cpu_s", "process"}; plain types, since it travels as a message."""


class LoadTotals:
    """Sum the seconds of one process."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._statuses: dict[str, int] = {}
        self._sum_s = 0.0
        self._failures = 0

    def add(self, second: Second) -> None:
        """Add one second to the totals."""
        for index, count in second.counts.items():
            self._buckets[_BUCKET_OF[min(index, HIGHEST_INDEX)]] += count
        for status, count in second.statuses.items():
            self._statuses[str(status)] = self._statuses.get(str(status), 0) + count
        self._sum_s += second.sum_ms / 1000
        self._failures += second.failures

    def snapshot(self, unfinished: Iterable[Second], users: int, process: str) -> Totals:
        """Give the totals with the seconds that are still being counted."""
        total = LoadTotals()
        total._buckets = list(self._buckets)
        total._statuses = dict(self._statuses)
        total._sum_s, total._failures = self._sum_s, self._failures
        for second in unfinished:
            total.add(second)
        return {
            "buckets": total._buckets,
            "sum_s": total._sum_s,
            "statuses": total._statuses,
            "failures": total._failures,
            "users": users,
            "cpu_s": time.process_time(),
            "process": process,
        }


class LoadCollector(Collector):
    """Give the sum of all processes' totals as metrics at each scrape."""

    def __init__(self, totals: Callable[[], list[Totals]], method: str, name: str) -> None:
        self._totals = totals
        self._labels = [method, name]

    def describe(self) -> list[Metric]:
        """Name nothing ahead of time, so that registering needs no running load."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Make the metric families of one scrape."""
        totals = self._totals()
        yield self._durations(totals)
        requests = CounterMetricFamily(
            "locust_requests", "Requests that ended.", labels=["method", "name", "status"]
        )
        statuses = sorted({status for one in totals for status in one["statuses"]})
        for status in statuses:
            count = sum(one["statuses"].get(status, 0) for one in totals)
            requests.add_metric([*self._labels, status], count)
        yield requests
        failures = CounterMetricFamily(
            "locust_failures", "Requests without the expected answer.", labels=["method", "name"]
        )
        failures.add_metric(self._labels, sum(one["failures"] for one in totals))
        yield failures
        yield GaugeMetricFamily(
            "locust_users", "Users that are running.", value=sum(one["users"] for one in totals)
        )
        cpu = CounterMetricFamily(
            "locust_process_cpu_seconds",
            "CPU time of each load-generating process.",
            labels=["process"],
        )
        for one in totals:
            cpu.add_metric([one["process"]], one["cpu_s"])
        yield cpu

    def _durations(self, totals: list[Totals]) -> HistogramMetricFamily:
        family = HistogramMetricFamily(
            "locust_request_duration_seconds",
            "Client-side latency, failures included.",
            labels=["method", "name"],
        )
        below = 0
        buckets: list[tuple[str, float]] = []
        for place, bound in enumerate([*map(str, BUCKETS_S), "+Inf"]):
            below += sum(one["buckets"][place] for one in totals)
            buckets.append((bound, below))
        family.add_metric(self._labels, buckets, sum_value=sum(one["sum_s"] for one in totals))
        return family


def serve_metrics(port: int, collector: LoadCollector, host: str = "127.0.0.1") -> WSGIServer:
    """Serve the collector and this process's own metrics; OSError if it cannot."""
    registry = StartedRegistry("locust")
    registry.register(collector)
    ProcessCollector(registry=registry)
    server = WSGIServer((host, port), make_wsgi_app(registry), log=None)
    server.start()
    return server
