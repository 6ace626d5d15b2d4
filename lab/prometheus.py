"""Samples of a stretch of time from Prometheus's HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from lab.edges import OURS
from lab.errors import ServiceError

TIMEOUT_S = 10


class QueryRefused(ServiceError):
    """Prometheus answers, but not this query: an expression or a range that it does not take."""


class Prometheus:
    """Prometheus at a base URL; raises ServiceError where it does not answer as documented.

    With a client of the caller's own, many queries share its connections, from any thread.
    """

    def __init__(self, url: str, client: httpx.Client | None = None) -> None:
        self.url = url
        self._get_url = client.get if client is not None else _get_alone

    def query(self, expr: str, at: float) -> list[dict[str, Any]]:
        """Return an instant vector: series as {"metric": labels, "value": [unix_s, text]}."""
        return self._get("query", query=expr, time=at)

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return a matrix: series as {"metric": labels, "values": [[unix_s, text], ...]}."""
        return self._get("query_range", query=expr, start=start, end=end, step=step)

    def _get(self, path: str, **params: Any) -> list[dict[str, Any]]:
        try:
            answer = self._get_url(f"{self.url}/api/v1/{path}", params=params, timeout=TIMEOUT_S)
            data = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ServiceError(f"prometheus at {self.url}: {error}") from None
        if data.get("status") != "success":
            raise QueryRefused(f"prometheus at {self.url} refused a query: {data.get('error')}")
        return list(data["data"]["result"])


def _get_alone(url: str, **options: Any) -> httpx.Response:
    return httpx.get(url, trust_env=False, **options)


def gaps(
    prometheus: Prometheus, interval_s: Mapping[str, float], start: float, end: float
) -> str | None:
    """Say which jobs lack samples in a window, None where every scrape came and succeeded.

    `interval_s` maps the jobs to their scrape interval. One scrape at each edge may fall outside.
    Of our own servers that of another program on their port does not count, though it is `up`.
    """
    window = max(1, round(end - start))
    ours = "|".join(OURS)
    scrapes = (
        f'sum by (job) (count_over_time(poolscope_start_time_seconds{{job=~"{ours}"}}[{window}s]))'
        f' or sum by (job) (sum_over_time(up{{job!~"{ours}"}}[{window}s]))'
    )
    found = {
        series["metric"]["job"]: float(series["value"][1])
        for series in prometheus.query(scrapes, end)
    }
    expected = {job: int(window / interval) - 1 for job, interval in interval_s.items()}
    short = [
        f"{job} {found.get(job, 0):.0f} of {count}"
        for job, count in expected.items()
        if found.get(job, 0) < count
    ]
    return ", ".join(short) + " scrapes" if short else None
