"""The text of /metrics: what all workers of a service have counted, added up."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from apps.common import gone_workers
from monitoring.identity import StartedRegistry

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition(*more: Collector) -> bytes:
    """Read the files of PROMETHEUS_MULTIPROC_DIR, and `more`, into Prometheus's text format.

    Raises ValueError where that folder is not set or missing.
    """
    registry = StartedRegistry(os.environ.get("FRAMEWORK", "service"))
    for collector in more:
        registry.register(collector)
    MultiProcessCollector(registry)
    with gone_workers.reading(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])):
        return generate_latest(registry)
