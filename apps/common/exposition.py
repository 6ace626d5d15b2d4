"""The text of /metrics: what all workers of a service have counted, added up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from apps.common import gone_workers
from monitoring.identity import StartedRegistry

CONTENT_TYPE = CONTENT_TYPE_LATEST


class WorkersCollector(Collector):
    """Adds up the files of a folder; raises OSError or ValueError where it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> list[Metric]:
        """Say nothing beforehand, so that registering does not read anything."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read them all."""
        with gone_workers.reading(self._folder):
            yield from MultiProcessCollector(None, str(self._folder)).collect()


def exposition(*more: Collector) -> bytes:
    """Read the files of PROMETHEUS_MULTIPROC_DIR, and `more`, into Prometheus's text format."""
    registry = StartedRegistry(os.environ.get("FRAMEWORK", "service"))
    for collector in (*more, WorkersCollector(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))):
        registry.register(collector)
    return generate_latest(registry)
