"""What a service answers when the database cannot, and that it comes back by itself."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.integration.apps_harness import Proxy, Service, Target, locked, service, silent

WAYS = {
    "fastapi": ("fastapi", {}),
    "flask": ("flask", {}),
    "django": ("django", {}),
    "django-psycopg": ("django", {"DB_POOL": "psycopg"}),
    "django-async": ("django", {"DJANGO_MODE": "async"}),
}


def codes(running: Service, requests: int) -> list[tuple[int, str | None]]:
    """Return status and error code of concurrent requests."""
    with ThreadPoolExecutor(requests) as pool:
        answers = list(pool.map(lambda _: running.post(1), range(requests)))
    return [(a.status_code, a.json().get("error")) for a in answers]


METHODS = {"insert": "POST", "slow-query": "GET", "hot-row": "POST", "heavy": "GET"}


def scenarios(running: Service, *names: str) -> set[tuple[int, str | None]]:
    """Return status and error code of the scenarios beside db-test, asked for all at once."""
    with ThreadPoolExecutor(len(METHODS)) as pool:
        answers = list(pool.map(lambda n: running.ask(METHODS[n], n), names or METHODS))
    return {(a.status_code, a.json().get("error")) for a in answers}


@pytest.mark.parametrize(
    ("way", "checks"),
    [(way, "true") for way in WAYS] + [(way, "false") for way in ("fastapi", "flask", "django")],
)
def test_apps_answer_503_while_the_database_is_down_and_recover(
    apps_target: Target, way: str, checks: str
) -> None:
    framework, more = WAYS[way]
    proxy = Proxy(apps_target)
    toggles = {"DB_CONN_HEALTH_CHECKS": checks, "DB_CONNECT_TIMEOUT": 3, "DB_POOL_TIMEOUT": 3}
    with service(proxy.target, framework, **toggles, **more) as running:
        assert set(codes(running, 4)) == {(200, None)}
        workers = running.workers()
        proxy.down()
        begin = time.monotonic()
        assert set(codes(running, 4)) == {(503, "database-unavailable")}
        assert time.monotonic() - begin < 3
        assert scenarios(running) == {(503, "database-unavailable")}
        proxy.up()
        after = [code for _ in range(4) for code in codes(running, 4)]
        assert after[-4:] == [(200, None)] * 4
        if checks == "true":
            assert set(after) == {(200, None)}
        assert running.workers() == workers
        assert running.value("db_client_connection_count", state="used") == 0
        assert 1 <= running.value("db_client_connection_count", state="idle") <= 8
    proxy.down()


@pytest.mark.parametrize("way", ["fastapi", "flask", "django-psycopg", "django-async"])
def test_apps_answer_503_when_the_pool_is_exhausted(apps_target: Target, way: str) -> None:
    framework, more = WAYS[way]
    toggles = {"DB_POOL_SIZE": 1, "DB_POOL_TIMEOUT": 0.4, "DB_STATEMENT_TIMEOUT": 1200}
    with service(apps_target, framework, **toggles, **more) as running:
        assert running.post(1).status_code == 200
        with locked(apps_target):
            got = codes(running, 3)
        assert sorted(got) == [(503, "pool-timeout")] * 2 + [(503, "statement-timeout")]
        assert running.value("db_client_connection_timeouts_total") == 2
        assert running.value("db_client_connection_wait_time_seconds_count") == 4
        assert 0.8 <= running.value("db_client_connection_wait_time_seconds_sum") < 1.2
        assert running.post(1).status_code == 200


@pytest.mark.parametrize(
    ("way", "route"),
    [(way, "pgbouncer") for way in ("fastapi", "flask", "django")] + [("django", "direct")],
)
def test_apps_answer_503_when_a_statement_times_out(
    apps_target: Target, way: str, route: str
) -> None:
    """The role's limit is longer here: it is the client that gives up, on both routes."""
    framework, more = WAYS[way]
    if route == "pgbouncer":
        apps_target = replace(apps_target, port=apps_target.pgbouncer_port)
    with service(
        apps_target,
        framework,
        ROUTE=route,
        DB_PREPARED="off",
        DB_STATEMENT_TIMEOUT=500,
        SLOW_QUERY_MS=5000,
        **more,
    ) as running:
        assert running.post(1).status_code == 200
        with locked(apps_target):
            begin = time.monotonic()
            assert codes(running, 3) == [(503, "statement-timeout")] * 3
            assert 0.4 < time.monotonic() - begin < 2
        with locked(apps_target, "hot_rows, transactions"), locked(apps_target, "users"):
            assert scenarios(running) == {(503, "statement-timeout")}
        assert scenarios(running, "slow-query") == {(503, "statement-timeout")}
        assert scenarios(running, "hot-row", "heavy") == {(200, None)}
        assert codes(running, 3) == [(200, None)] * 3


@pytest.mark.parametrize("way", ["fastapi", "flask", "django-psycopg"])
def test_apps_give_up_on_a_silent_database_within_the_connect_timeout(
    apps_target: Target, way: str
) -> None:
    framework, more = WAYS[way]
    proxy = Proxy(apps_target)
    proxy.delay_s = 30
    toggles = {"DB_CONNECT_TIMEOUT": 2, "DB_POOL_TIMEOUT": 10}
    with service(proxy.target, framework, **toggles, **more) as running:
        begin = time.monotonic()
        assert codes(running, 2) == [(503, "database-unavailable")] * 2
        assert 1.5 < time.monotonic() - begin < 4
    proxy.down()


@pytest.mark.parametrize("checks", ["true", "false"])
@pytest.mark.parametrize(
    ("way", "route"),
    [
        *((way, "direct") for way in WAYS),
        *((way, "pgbouncer") for way in ("fastapi", "flask", "django")),
    ],
)
def test_apps_answer_503_while_the_database_is_silent_and_recover(
    apps_target: Target, way: str, route: str, checks: str
) -> None:
    """It neither answers nor closes what is open: only the client's own deadline ends a request."""
    framework, more = WAYS[way]
    port = apps_target.port if route == "direct" else apps_target.pgbouncer_port
    toggles = {"DB_STATEMENT_TIMEOUT": 500, "DB_CONNECT_TIMEOUT": 2, "DB_POOL_TIMEOUT": 2}
    toggles |= {"ROUTE": route, "DB_PREPARED": "off", "DB_CONN_HEALTH_CHECKS": checks}
    with service(replace(apps_target, port=port), framework, **toggles, **more) as running:
        assert set(codes(running, 4)) == {(200, None)}
        workers = running.workers()
        with silent(apps_target):
            for _ in range(2):
                begin = time.monotonic()
                got = codes(running, 4)
                assert {status for status, _ in got} == {503}, got
                # the deadline, or the time to connect
                assert time.monotonic() - begin < 3
        deadline = time.monotonic() + 5
        while set(got := codes(running, 4)) != {(200, None)}:
            assert time.monotonic() < deadline, got
        assert running.workers() == workers
        assert running.value("db_client_connection_count", state="used") == 0


@pytest.mark.parametrize("way", ["fastapi", "flask", "django"])
def test_apps_answer_503_once_where_one_connection_is_silent(apps_target: Target, way: str) -> None:
    """The next request gets a new connection, while PostgreSQL's process is still stopped."""
    framework, more = WAYS[way]
    toggles = {"DB_STATEMENT_TIMEOUT": 500, "DB_POOL_SIZE": 1, "THREADS": 1, "DB_POOL_TIMEOUT": 2}
    with service(apps_target, framework, **toggles, **more) as running:
        assert running.post(1).status_code == 200
        with silent(apps_target, whole=False):
            begin = time.monotonic()
            assert running.post(1).status_code == 503
            assert time.monotonic() - begin < 2.5
            assert running.post(1).status_code == 200
