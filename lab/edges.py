"""Raw samples at a window's edges: every counter straight from its source, with its own time.

A difference between two edges is divided by another from the same source, so that the milliseconds
between two sources' answers cancel out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import psutil
import psycopg
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 5

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """One answer of /metrics: when it was asked for (unix seconds) and its samples."""

    at: float
    samples: dict[str, dict[Labels, float]]

    def total(self, metric: str, /, **labels: str) -> float | None:
        """Return the sum over the series with these labels, None where there is none."""
        wanted = set(labels.items())
        values = [v for key, v in self.samples.get(metric, {}).items() if wanted <= key]
        return sum(values) if values else None


@dataclass(frozen=True)
class Sql:
    """What PostgreSQL itself counts for the service's role and database.

    `calls` and `exec_ms` are of the scenario's statement, pings and utility statements left out;
    `all_exec_ms` is of everything that the service's role executed.
    """

    at: float
    calls: int
    exec_ms: float
    rows: int
    sessions: int
    all_exec_ms: float | None = None


@dataclass(frozen=True)
class Edge:
    """Everything that was read at one moment; `failed` says why a source is missing."""

    at: float
    scrapes: dict[str, Scrape]
    sql: Sql | None
    cpu: dict[str, float]
    failed: dict[str, str] = field(default_factory=dict)


#: The label that our own servers have on every sample (monitoring/identity.py), and their jobs.
START = "start"
OURS = ("service", "poolscope", "locust")


def take(metrics: Mapping[str, str], connection: psycopg.Connection | None, token: str) -> Edge:
    """Read all sources at once; one that does not answer is in `failed`, not an error.

    So is one that is not of the stack with this start token: another lab's, on a port of ours.
    """
    at = time.time()
    scrapes: dict[str, Scrape] = {}
    failed: dict[str, str] = {}
    sql = None
    with ThreadPoolExecutor(max_workers=len(metrics) + 1) as pool:
        wanted = {
            job: pool.submit(scrape, url, token if job in OURS else None)
            for job, url in metrics.items()
        }
        counted = pool.submit(count, connection) if connection is not None else None
        for job, future in wanted.items():
            try:
                scrapes[job] = future.result()
            except (httpx.HTTPError, ValueError) as error:
                failed[job] = f"{type(error).__name__}: {error}"
        if counted is not None:
            try:
                sql = counted.result()
            except psycopg.Error as error:
                failed["sql"] = str(error).strip().splitlines()[0]
    cpu = psutil.cpu_times()
    return Edge(at, scrapes, sql, cpu._asdict(), failed)


def scrape(url: str, token: str | None) -> Scrape:
    """Return the samples of a /metrics URL without START; raise httpx.HTTPError or ValueError.

    With a token, all samples must be of a server that was started with it.
    """
    # Before the request: the exporter reads CPU time first, then asks servers that may be busy.
    at = time.time()
    answer = httpx.get(url, timeout=TIMEOUT_S, trust_env=False)
    answer.raise_for_status()
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = dict(sample.labels)
            start = labels.pop(START, "")
            if token is not None and not start.startswith(f"{token}/"):
                whose = f"start token {start.partition('/')[0]!r}" if start else "no start token"
                raise ValueError(f"{url} is another program's: {whose}, not {token!r}")
            samples.setdefault(sample.name, {})[frozenset(labels.items())] = sample.value
    return Scrape(at, samples)


COUNT = """
SELECT coalesce(sum(s.calls), 0), coalesce(sum(s.total_exec_time), 0), coalesce(sum(s.rows), 0),
       (SELECT sessions FROM pg_stat_database WHERE datname = 'poolscope'),
       (SELECT coalesce(sum(a.total_exec_time), 0) FROM pg_stat_statements a
        JOIN pg_roles o ON o.oid = a.userid WHERE o.rolname = 'poolscope_service')
FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
WHERE r.rolname = 'poolscope_service'
  AND s.query ~* 'posts|transactions|users|hot_rows'
"""


def count(connection: psycopg.Connection) -> Sql:
    """Return PostgreSQL's own counters for the service."""
    row = connection.execute(COUNT).fetchone()
    assert row is not None
    calls, exec_ms, rows, sessions, all_exec_ms = row
    return Sql(
        time.time(), int(calls), float(exec_ms), int(rows), int(sessions), float(all_exec_ms)
    )
