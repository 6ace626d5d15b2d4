"""Prometheus metrics of the ladder's generator, from the same counts as `ladder_metrics.csv`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client import start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from loadtest.ladder.account import Account
from loadtest.ladder.contract import Rung
from monitoring.identity import StartedRegistry

#: Seconds: from one row on a fast disk to a large COPY on a slow one.
BUCKETS_S = (
    *(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)


class LadderCollector(Collector):
    """Give the account as metrics at each scrape; `rung` is what is under test."""

    def __init__(self, rung: Rung, account: Account, target_tps: float | None) -> None:
        self._rung, self._account, self._target_tps = rung, account, target_tps

    def describe(self) -> list[Metric]:
        """Name nothing ahead of time."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Make the metric families of one scrape."""
        rung, account = self._rung, self._account
        info = GaugeMetricFamily(
            "ladder_info",
            "The rung that is being measured.",
            labels=["rung", "method", "durability", "client"],
        )
        info.add_metric([rung.name, rung.method, rung.durability, rung.client], 1)
        yield info
        for name, meaning, good, bad in (
            ("rows", "Rows of writes that ended.", account.rows, account.failed_rows),
            ("writes", "Write calls that ended.", account.writes, account.failed_writes),
        ):
            counter = CounterMetricFamily(f"ladder_{name}", meaning, labels=["rung", "outcome"])
            counter.add_metric([rung.name, "acknowledged"], good)
            counter.add_metric([rung.name, "failed"], bad)
            yield counter
        yield self._durations()
        for name, meaning, value in (
            ("connections_created", "Connections that were opened.", account.connects),
            ("connection_create_seconds", "Time spent opening them.", account.connect_s),
            ("cpu_seconds", "CPU time of the writing processes.", account.cpu_s),
        ):
            total = CounterMetricFamily(f"ladder_{name}", meaning, labels=["rung"])
            total.add_metric([rung.name], value)
            yield total
        gauges: list[tuple[str, str, float]] = [
            ("queue_length", "Writes that are due and not begun.", account.queue_length),
            ("memory_bytes", "Memory of all processes, shared pages once.", account.memory_bytes),
        ]
        if self._target_tps is not None:
            gauges.append(("target_rows_per_second", "Intended rate.", self._target_tps))
        for name, meaning, number in gauges:
            gauge = GaugeMetricFamily(f"ladder_{name}", meaning, labels=["rung"])
            gauge.add_metric([rung.name], number)
            yield gauge

    def _durations(self) -> HistogramMetricFamily:
        counts = [0] * (len(BUCKETS_S) + 1)
        for item in self._account.latencies.get_recorded_iterator():
            place = bisect_left(BUCKETS_S, item.value_iterated_to / 1e6)
            counts[place] += item.count_at_value_iterated_to
        below, buckets = 0, []
        for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], counts, strict=True):
            below += count
            buckets.append((bound, float(below)))
        family = HistogramMetricFamily(
            "ladder_write_duration_seconds",
            "From a write's intended start to its acknowledgement.",
            labels=["rung"],
        )
        family.add_metric([self._rung.name], buckets, sum_value=self._account.sum_ms / 1000)
        return family


def serve(port: int, collector: LadderCollector) -> None:
    """Serve the metrics on loopback from a thread; OSError where the port is taken."""
    registry = StartedRegistry("ladder")
    registry.register(collector)
    start_http_server(port, addr="127.0.0.1", registry=registry)
