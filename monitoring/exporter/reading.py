"""What a source hands to the exporter, and short ways to build metric families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import psycopg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

_Family = TypeVar("_Family", GaugeMetricFamily, CounterMetricFamily)

#: What a source may raise: the other side is gone, refuses, or answers what cannot be read.
#: Anything else is a fault of the exporter and is not hidden.
FAILURES = (OSError, ValueError, LookupError, psycopg.Error)

#: Label values and a value; None stands for a figure that could not be had.
Row = tuple[Sequence[str], float | None]


@dataclass
class Reading:
    """Metric families, and one line for each figure that could not be had."""

    families: list[Metric] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Source(Protocol):
    """One collector: reads its figures anew at every scrape, or raises one of FAILURES."""

    name: str

    def read(self) -> Reading:
        """Return the figures of this moment."""


def gauge(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """Build a gauge; rows without a value are left out."""
    return _fill(GaugeMetricFamily(name, text, labels=labels), rows)


def counter(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """Build a counter by its exposed name, which ends in `_total`."""
    return _fill(CounterMetricFamily(name, text, labels=labels), rows)


def _fill(family: _Family, rows: Iterable[Row]) -> _Family:
    for values, value in rows:
        if value is not None:
            family.add_metric(list(values), value)
    return family


def number(columns: Mapping[str, object], *names: str) -> float | None:
    """Return the first of the named columns that is there as a number, else None."""
    for name in names:
        value = columns.get(name)
        if value is not None:
            return float(str(value))
    return None
