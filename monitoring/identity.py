"""Who answers a scrape: every sample of our servers says which start of which server it is of.

A port does not say whose server listens on it: another lab's may, and a new one follows an old one
there. So each sample has the label `start="<token>/<name>-<unix ms>"`, the token being the one that
the lab gives to all servers that it starts (POOLSCOPE_START_TOKEN). Prometheus takes the samples
with its own lab's token, makes `<name>-<unix ms>` of it their `instance`, and drops the label.

Three series come with it: `poolscope_start_time_seconds` (there for a server of this lab only,
while `up` is 1 for whoever answers), `poolscope_scrape_errors_total` and
`poolscope_scrape_duration_seconds`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

TOKEN_VARIABLE = "POOLSCOPE_START_TOKEN"
NO_TOKEN = "none"
LABEL = "start"
#: Of this module's first import, which forked processes share with the one that they are of.
STARTED_MS = time.time_ns() // 1_000_000


@dataclass
class _Scrapes:
    """What became of this process's scrapes: a registry may be made anew for each."""

    failed: int = 0


_scrapes = _Scrapes()


class StartedRegistry(CollectorRegistry):
    """A registry whose samples all have the label `start`; `name` is the server's."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._start = f"{os.environ.get(TOKEN_VARIABLE, NO_TOKEN)}/{name}-{STARTED_MS}"

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all collectors; whatever one raises is counted, and raised."""
        begin = time.perf_counter()
        try:
            families = list(super().collect())
        except Exception:
            _scrapes.failed += 1
            raise
        families += _own(time.perf_counter() - begin)
        for family in families:
            family.samples = [
                sample._replace(labels={**sample.labels, LABEL: self._start})
                for sample in family.samples
            ]
            yield family


def _own(seconds: float) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "poolscope_start_time_seconds", "When this server started.", value=STARTED_MS / 1000
    )
    yield CounterMetricFamily(
        "poolscope_scrape_errors", "Scrapes of this server that failed.", value=_scrapes.failed
    )
    yield GaugeMetricFamily(
        "poolscope_scrape_duration_seconds", "How long this scrape collected.", value=seconds
    )
