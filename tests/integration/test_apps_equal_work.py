"""The three services do the same work: same answers, same statements, same rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.integration.apps_harness import Target, forget, service, statements

WAYS = {
    "fastapi": {"FRAMEWORK": "fastapi"},
    "flask": {"FRAMEWORK": "flask"},
    "django": {"FRAMEWORK": "django"},
    "django-psycopg": {"FRAMEWORK": "django", "DB_POOL": "psycopg"},
    "django-async": {"FRAMEWORK": "django", "DJANGO_MODE": "async"},
    "django-threads": {"FRAMEWORK": "django", "DJANGO_MODE": "sync_to_async"},
}
REQUESTS = 10


def toggles(way: str, **more: object) -> dict[str, object]:
    return {**{k: v for k, v in WAYS[way].items() if k != "FRAMEWORK"}, **more}


@pytest.fixture(scope="module")
def seen() -> dict[str, dict[str, object]]:
    """Collect what each way of running did, to compare across tests."""
    return {}


@pytest.mark.parametrize("way", WAYS)
def test_apps_send_one_statement_per_request(apps_target: Target, seen, way: str) -> None:
    """Reused connections are checked by one SELECT 1; nothing else is sent, not even BEGIN."""
    forget(apps_target)
    more = toggles(way, SLOW_QUERY_MS=1, HOT_ROWS=1)
    with service(apps_target, WAYS[way]["FRAMEWORK"], **more) as running:
        for _ in range(REQUESTS):
            assert running.post().status_code == 200
        for _ in range(REQUESTS):
            assert running.insert().status_code == 201
            assert running.ask("GET", "slow-query").json()["slept_ms"] == 1
            assert running.ask("POST", "hot-row").json() == {"id": 1, "updated": 1}
        near = [running.ask("GET", "heavy", latitude=n, longitude=-n) for n in range(REQUESTS)]
        asked = [running.post(given) for given in (77, "1;2", 0, 10**8, 2**40)]
        nowhere = running.ask("GET", "heavy", latitude="north", longitude=1)
        answers = [(a.status_code, a.content) for a in (*asked, nowhere, *near)]
        # Read last: each thread of a worker opens a connection of its own when it is first used.
        connections = running.value("db_client_connection_create_time_seconds_count")
    sent = {text.split(" ", 2)[0]: (i, calls) for i, calls, _, text in statements(apps_target)}
    posts = [s for s in statements(apps_target) if "posts" in s[3]]
    others = [
        next((s for s in statements(apps_target) if word in s[3]), None)
        for word in ("INSERT", "pg_sleep", "UPDATE", "LIMIT")
    ]
    checks = [s for s in statements(apps_target) if s[3] == "SELECT $1"]
    assert len(posts) + len(others) + len(checks) == len(statements(apps_target)), sent
    assert [status for status, _ in answers] == [200, 400, 404, 404, 404, 400, *[200] * REQUESTS]
    assert [s[1] for s in posts] == [REQUESTS + 2]  # an id that no row can have needs no query
    rows = [REQUESTS, REQUESTS, REQUESTS, 10 * REQUESTS]
    assert [s and s[1:3] for s in others] == [(REQUESTS, n) for n in rows]
    # Who opens a connection does not check it. One more may be opened and never be used: under ASGI
    # Django answers first and gives its connection back then, so the next request finds none.
    requests = 5 * REQUESTS + 2
    assert requests - connections <= sum(s[1] for s in checks) <= requests - 1
    seen[way] = {"answers": answers, "ids": [s and s[0] for s in (*posts, *others)]}
    first = next(iter(seen.values()))
    assert seen[way] == first


@pytest.mark.parametrize("way", ["fastapi", "flask", "django"])
def test_apps_connect_per_request_sends_no_further_statement(apps_target: Target, way: str) -> None:
    forget(apps_target)
    more = {"DB_CONN_MAX_AGE": 0, "DB_PREPARED": "on"}
    with service(apps_target, way, **more) as running:
        for _ in range(REQUESTS):
            assert running.post().status_code == 200
    assert [calls for _, calls, _, _ in statements(apps_target)] == [REQUESTS]


@pytest.mark.parametrize("way", ["fastapi", "flask", "django", "django-async"])
def test_apps_answer_rightly_through_transaction_pooling(apps_target: Target, way: str) -> None:
    """20 concurrent clients over few server connections each get the post they asked for."""
    through = replace(apps_target, port=apps_target.pgbouncer_port)
    more = toggles(way, ROUTE="pgbouncer", DB_PREPARED="off", WORKERS=2)
    with service(through, WAYS[way]["FRAMEWORK"], **more) as running:
        asked = [1 + (n * 7919) % 1000 for n in range(400)]
        with ThreadPoolExecutor(20) as pool:
            got = list(pool.map(lambda n: running.post(n).json().get("id"), asked))
    assert got == asked


@pytest.mark.parametrize("way", ["fastapi", "flask", "django"])
def test_apps_ask_for_the_same_ids_in_every_run(apps_target: Target, way: str) -> None:
    """The first worker's first ids of SEED=42: the same in each service, and each time."""
    with service(apps_target, way, SEED=42) as running:
        assert [running.post().json()["id"] for _ in range(3)] == [27437, 44598, 40720]
