"""PostgreSQL and PgBouncer killed in mid-load: 503 at once, workers kept, recovery by itself."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import psycopg
import pytest

from lab.stack.ready import wait_until

from .conftest import Lab


@dataclass
class Load:
    """Requests of some clients; `seen` counts (phase, status) of those that are of one phase."""

    phase: str = "before"
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    ended: threading.Event = field(default_factory=threading.Event)

    def send(self, url: str) -> None:
        """Send requests, one after the other, until the end; a status of 0 is no answer."""
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
            while not self.ended.is_set():
                phase = self.phase
                try:
                    status = client.get("/benchmark/db-test").status_code
                except httpx.HTTPError:
                    status = 0
                if phase == self.phase:
                    self.seen[phase, status] += 1

    def statuses(self, phase: str) -> set[int]:
        """Return what was answered in a phase."""
        return {status for name, status in self.seen if name == phase}

    def until(self, phase: str, answers: int = 30) -> None:
        """Begin a phase, and wait for some answers in it."""
        self.phase = phase

        def check() -> None:
            assert sum(n for (name, _), n in self.seen.items() if name == phase) >= answers

        wait_until(check, f"{answers} answers {phase}", 30, errors=(AssertionError,))


@contextmanager
def load(url: str, clients: int = 6) -> Iterator[Load]:
    """Send requests from some clients until the block ends."""
    sent = Load()
    threads = [threading.Thread(target=sent.send, args=(url,)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield sent
    finally:
        sent.ended.set()
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
    with load(endpoints.service) as sent:
        sent.until("before")
        sent.phase = "being killed"
        lab.servers.kill(victim)
        sent.until("down", answers=10)
        down = httpx.get(f"{endpoints.service}/benchmark/db-test", trust_env=False, timeout=10)
        sent.phase = "coming back"
        lab.servers.bring_back(victim, settings)
        wait_until(
            lambda: httpx.get(
                f"{endpoints.service}/healthz", trust_env=False, timeout=10
            ).raise_for_status(),
            framework,
            20,
            errors=(httpx.HTTPError,),
        )
        # Every worker's kept connections are broken; each finds that out, and opens new ones.
        sent.until("settling", answers=60)
        sent.until("after")
    assert down.status_code == 503
    assert down.json()["error"] == "database-unavailable"
    assert sent.statuses("before") == {200}
    # A killed PostgreSQL's backends may still end what they have begun.
    assert {503} <= sent.statuses("down") <= {200, 503}
    assert sent.statuses("after") == {200}
    assert lab.servers.workers(framework) == before


def _one_waits(connection: psycopg.Connection) -> None:
    """Fail until a backend waits for a lock."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    ).fetchone()
    assert row == (1,)


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
        wait_until(
            lambda: _one_waits(connection), "the first request", 10, errors=(AssertionError,)
        )
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
