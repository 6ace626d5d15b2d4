"""PostgreSQL and PgBouncer killed in mid-load: 503 at once, workers kept, recovery by itself."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from lab.stack.ready import wait_until

from .conftest import Lab


@contextmanager
def load(url: str, clients: int = 6) -> Iterator[Counter[tuple[str, int]]]:
    """Send requests from some clients until the block ends; count (phase, status)."""
    seen: Counter[tuple[str, int]] = Counter()
    phase = {"name": "before"}
    stop = threading.Event()

    def one() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
            while not stop.is_set():
                try:
                    status = client.get("/benchmark/db-test").status_code
                except httpx.HTTPError:
                    status = 0
                seen[phase["name"], status] += 1

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    seen.phase = phase  # type: ignore[attr-defined]
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    "framework", ["fastapi", "django", pytest.param("flask", marks=pytest.mark.stack)]
)
@pytest.mark.parametrize("victim", ["postgres", "pgbouncer"])
def test_service_survives_a_killed_server(lab: Lab, framework: str, victim: str) -> None:
    """While it is down: 503; afterwards 200 again; the same workers all along."""
    route = "pgbouncer" if victim == "pgbouncer" else "direct"
    settings, endpoints = lab.start(
        FRAMEWORK=framework, ROUTE=route, DB_CONNECT_TIMEOUT=2, DB_POOL_TIMEOUT=2
    )
    before = lab.servers.workers(framework)
    with load(endpoints.service) as seen:
        time.sleep(1)
        seen.phase["name"] = "down"  # type: ignore[attr-defined]
        lab.servers.kill(victim)
        time.sleep(2)
        down = httpx.get(f"{endpoints.service}/benchmark/db-test", trust_env=False, timeout=10)
        seen.phase["name"] = "coming back"  # type: ignore[attr-defined]
        lab.servers.bring_back(victim, settings)
        wait_until(
            lambda: httpx.get(
                f"{endpoints.service}/healthz", trust_env=False, timeout=10
            ).raise_for_status(),
            framework,
            20,
            errors=(httpx.HTTPError,),
        )
        time.sleep(1)
        seen.phase["name"] = "after"  # type: ignore[attr-defined]
        time.sleep(1)
    assert down.status_code == 503
    assert down.json()["error"] == "database-unavailable"
    statuses = {name: {s for p, s in seen if p == name} for name in ("before", "down", "after")}
    assert statuses["before"] == {200}
    assert 503 in statuses["down"]
    assert 0 not in statuses["down"]
    assert statuses["after"] == {200}
    assert lab.servers.workers(framework) == before


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_exhausted_pool_answers_503_within_its_timeout(lab: Lab, framework: str) -> None:
    """With every connection taken, a request gives up after DB_POOL_TIMEOUT with its own code."""
    _, endpoints = lab.start(FRAMEWORK=framework, WORKERS=1, DB_POOL_SIZE=1, DB_POOL_TIMEOUT=0.5)
    with lab.sql(endpoints) as connection, connection.transaction():
        connection.execute("LOCK TABLE posts IN ACCESS EXCLUSIVE MODE")
        stuck = threading.Thread(
            target=lambda: httpx.get(
                f"{endpoints.service}/benchmark/db-test", trust_env=False, timeout=30
            )
        )
        stuck.start()
        time.sleep(0.5)
        began = time.monotonic()
        answer = httpx.get(f"{endpoints.service}/benchmark/db-test", trust_env=False, timeout=10)
        took = time.monotonic() - began
    stuck.join()
    assert (answer.status_code, answer.json()["error"]) == (503, "pool-timeout")
    assert took < 2


@pytest.mark.parametrize("framework", ["fastapi", "django", "flask"])
@pytest.mark.parametrize("route", ["direct", "pgbouncer"])
def test_statement_timeout_answers_503(lab: Lab, framework: str, route: str) -> None:
    """A statement beyond DB_STATEMENT_TIMEOUT ends with its own code, on both routes."""
    _, endpoints = lab.start(FRAMEWORK=framework, ROUTE=route, DB_STATEMENT_TIMEOUT=400)
    url = f"{endpoints.service}/benchmark/db-test"
    with lab.sql(endpoints) as connection, connection.transaction():
        connection.execute("LOCK TABLE posts IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        answer = httpx.get(url, trust_env=False, timeout=10)
        took = time.monotonic() - began
    assert (answer.status_code, answer.json()["error"]) == (503, "statement-timeout")
    assert took < 3
    assert httpx.get(url, trust_env=False, timeout=10).status_code == 200
