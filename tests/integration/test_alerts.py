"""Alerts in a real Prometheus, and the runbooks' queries on the real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from lab.errors import ServiceError
from lab.prometheus import Prometheus
from lab.stack.base import Endpoints
from lab.stack.ready import wait_until
from monitoring.alerts import ALERTS
from monitoring.signals import EVALUATION_INTERVAL_S, SIGNALS
from tests.unit.runbook_pages import PAGES, queries

from .conftest import Lab

#: A rate looks back 10 s: after this long it has seen nothing but the load of the test.
SETTLED_S = 12
#: Enough for a host that is busy with other work.
DEADLINE_S = 90


def api(endpoints: Endpoints, path: str) -> Any:
    """Ask Prometheus's HTTP API."""
    answer = httpx.get(f"{endpoints.prometheus}/api/v1/{path}", timeout=10, trust_env=False)
    return answer.raise_for_status().json()["data"]


def alert(endpoints: Endpoints, name: str) -> dict[str, Any] | None:
    """Return an alert that is pending or firing, None where it is neither."""
    alerts = api(endpoints, "alerts")["alerts"]
    return next((a for a in alerts if a["labels"]["alertname"] == name), None)


@contextmanager
def loaded(lab: Lab, folder: Path, **toggles: Any) -> Iterator[Endpoints]:
    """Bring the stack to these toggles, and load it until the rates know of nothing else.

    Two users: a pool that fills opens few connections, however slow this host is.
    """
    settings, endpoints = lab.start(FRAMEWORK="flask", USERS=2, **toggles)
    prometheus = Prometheus(str(endpoints.prometheus))
    evaluations = SETTLED_S // EVALUATION_INTERVAL_S
    began = time.time()
    load = lab.stack.load(settings, folder, DEADLINE_S + 30)

    def settled() -> None:
        now = time.time()
        signal = f"poolscope:new_connections_per_request[{max(1, int(now - began))}s]"
        found = prometheus.query(f"count_over_time({signal})", now)
        if not found or int(found[0]["value"][1]) < evaluations:
            raise OSError(f"new_connections_per_request: {found}")

    try:
        wait_until(settled, "signals under load", DEADLINE_S, alive=load.alive, tail=load.tail)
        yield endpoints
    finally:
        load.stop()


def test_kept_connections_raise_no_storm(lab: Lab, tmp_path: Path) -> None:
    with loaded(lab, tmp_path, DB_POOL="persistent") as endpoints:
        assert alert(endpoints, "ConnectionStorm") is None


def test_connecting_per_request_raises_the_storm_with_its_numbers(lab: Lab, tmp_path: Path) -> None:
    with loaded(lab, tmp_path, DB_POOL="per-request") as endpoints:
        found = alert(endpoints, "ConnectionStorm")
    assert found is not None
    assert found["state"] in ("pending", "firing")
    assert found["labels"]["severity"] == "warning"
    assert found["annotations"]["runbook"] == "monitoring/runbooks/connection-set-up.md"
    assert float(found["value"]) == pytest.approx(1, abs=0.2)
    assert " per second" in found["annotations"]["summary"]
    assert "error" not in found["annotations"]["summary"]


def test_prometheus_evaluates_every_rule(lab: Lab) -> None:
    """Each rule that was loaded works; an expression that matches twice fails only when it runs."""
    _, endpoints = lab.start(FRAMEWORK="flask")

    def evaluated() -> list[dict[str, Any]]:
        found = [rule for group in api(endpoints, "rules")["groups"] for rule in group["rules"]]
        if unknown := [rule["name"] for rule in found if rule["health"] == "unknown"]:
            raise OSError(f"not evaluated yet: {unknown}")
        return found

    rules = wait_until(evaluated, "rules", DEADLINE_S)
    assert {r["name"] for r in rules if r["type"] == "alerting"} == {a.name for a in ALERTS}
    assert len(rules) == len(ALERTS) + len(SIGNALS)
    assert [(r["name"], r["lastError"]) for r in rules if r["health"] == "err"] == []


def test_queries_of_the_runbooks_run(lab: Lab) -> None:
    """Each query of each page runs on the real servers; an error names its page."""
    _, endpoints = lab.start(FRAMEWORK="flask")
    prometheus = Prometheus(str(endpoints.prometheus))
    failed = []
    with lab.sql(endpoints) as connection:
        for page in PAGES:
            try:
                for query in queries(page, "promql"):
                    prometheus.query(query, time.time())
                for query in queries(page, "sql"):
                    connection.execute(query)
            except (ServiceError, psycopg.Error) as error:
                failed.append(f"{page.name}: {error}")
    assert failed == []
