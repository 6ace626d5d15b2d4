"""The metric contract of each service, read where Prometheus reads it."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.integration.apps_harness import Proxy, Target, backends, service, wait_for_stopped
from tests.unit.scrapes import samples, taken

FRAMEWORKS = ("fastapi", "flask", "django")
CONNECTION = "db_client_connection"
WORKER_MEMORY = "service_worker_memory_bytes"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_apps_metrics_follow_the_contract_with_four_workers(
    apps_target: Target, framework: str
) -> None:
    with service(apps_target, framework, WORKERS=4, SLOW_QUERY_MS=1) as running:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: running.post(), range(80)))
        for _ in range(5):
            running.insert()
        for method, scenario in (("POST", "hot-row"), ("GET", "slow-query"), ("GET", "heavy")):
            assert running.ask(method, scenario).status_code == 200
        running.client.get("/healthz")
        running.client.get("/metrics")
        before = httpx.get(f"http://127.0.0.1:{running.metrics_port}/other").status_code
        get, db_test = running.value, {"handler": "/benchmark/db-test", "method": "GET"}
        assert before == 404
        http = "http_request_duration_seconds"
        assert get(f"{http}_count", status="200", **db_test) == 80
        assert get(f"{http}_count", handler="/benchmark/insert", status="201", method="POST") == 5
        for scenario in ("hot-row", "slow-query", "heavy"):
            assert get(f"{http}_count", handler=f"/benchmark/{scenario}", status="200") == 1
        assert get(f"{http}_count", handler="/healthz") == 1
        assert get(f"{http}_count", handler="/metrics") == 0
        assert get(f"{http}_count", handler="other", status="404") == 1  # the readiness check
        assert get(f"{http}_bucket", le="+Inf", **db_test) == 80
        assert get("db_client_operation_duration_seconds_count", operation="select") == 82
        assert get("db_client_operation_duration_seconds_count", operation="insert") == 5
        assert get("db_client_operation_duration_seconds_count", operation="update") == 1
        for part in ("wait", "use"):
            assert get(f"{CONNECTION}_{part}_time_seconds_count", pool="default") == 89
        opened = get(f"{CONNECTION}_create_time_seconds_count", pool="default")
        assert 1 <= opened <= 32
        # Each checkout of a connection that was kept; a worker may open one it does not use yet.
        checked = get(f"{CONNECTION}_check_time_seconds_count", pool="default")
        assert 86 - opened <= checked < 86
        assert get(f"{CONNECTION}_count", pool="default", state="idle") == opened
        assert get(f"{CONNECTION}_count", state="used") == 0
        assert get(f"{CONNECTION}_timeouts_total", pool="default") == 0
        assert get("http_requests_in_progress") == 0
        assert get("service_workers") == 4
        assert get("service_workers_busy") == 0
        for place in "1234":
            assert 10 * 2**20 < get("service_worker_memory_bytes", worker=place) < 300 * 2**20
        assert get("service_worker_restarts_total") == 0
        assert get("poolscope_scrape_errors_total") == 0
        assert 0 < get("poolscope_scrape_duration_seconds") < 1
        assert get("service_listen_backlog_connections") == 0
        somaxconn = int(Path("/proc/sys/net/core/somaxconn").read_text())
        assert get("service_listen_backlog_max_connections") == min(4096, somaxconn)
        bounds = {dict(labels)["le"] for name, labels in running.samples() if "bucket" in name}
        assert {"0.001", "30.0", "+Inf"} <= bounds
        if framework == "django":
            assert get("django_db_new_connections_total") == opened
            assert get("django_db_execute_total") >= 85
            name = "django_http_requests_latency_seconds_by_view_method_count"
            assert get(name, view="db-test", method="GET") == 80


@pytest.mark.parametrize("route", ["direct", "pgbouncer"])
def test_django_keeps_the_names_that_people_look_for(apps_target: Target, route: str) -> None:
    """On both routes, and by both ways to its metrics: the master's, and a worker's own."""
    more = {"ROUTE": route, "DB_PORT": apps_target.pgbouncer_port} if route == "pgbouncer" else {}
    with service(apps_target, "django", **more) as running:
        for _ in range(10):
            assert running.post().status_code == 200
        at_work = running.client.get("/metrics")
        assert at_work.status_code == 200
        master = httpx.get(f"http://127.0.0.1:{running.metrics_port}/metrics").text
        for text in (at_work.text, master):
            found = samples(taken(text))
            database = frozenset({("alias", "default"), ("vendor", "postgresql")})
            assert found["django_db_new_connections_total", database] >= 1
            assert found["django_db_execute_total", database] >= 10
            name = "django_http_requests_latency_seconds_by_view_method"
            labels = frozenset({("method", "GET"), ("view", "db-test")})
            assert found[f"{name}_count", labels] == 10
            assert found[f"{name}_bucket", labels | {("le", "30.0")}] == 10
        starts = set(re.findall(r'start="([^"]+)"', at_work.text + master))
        assert len(starts) == 1
        assert starts.pop().startswith("none/django-")


@pytest.mark.parametrize(
    ("framework", "more"),
    [
        *((framework, {}) for framework in FRAMEWORKS),
        ("django", {"DJANGO_MODE": "async"}),
        ("django", {"WORKER_CLASS": "gevent"}),
    ],
)
def test_apps_count_each_connection_of_connect_per_request(
    apps_target: Target, framework: str, more: dict[str, str]
) -> None:
    """And name no limit, where nothing is pooled."""
    with service(apps_target, framework, DB_POOL="per-request", WORKERS=2, **more) as running:
        for _ in range(25):
            running.post()
        assert running.value(f"{CONNECTION}_create_time_seconds_count") == 25
        assert running.value(f"{CONNECTION}_count") == 0
        assert running.value(f"{CONNECTION}_max") == 0


@pytest.mark.parametrize("mode", ["wsgi", "async", "sync_to_async"])
def test_apps_count_connections_of_djangos_pool_not_checkouts(
    apps_target: Target, mode: str
) -> None:
    more = {"DJANGO_MODE": mode, "DB_POOL": "psycopg", "DB_POOL_SIZE": 2}
    before = backends(apps_target)
    with service(apps_target, "django", **more) as running:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: running.post(), range(60)))
        opened = running.value(f"{CONNECTION}_create_time_seconds_count")
        assert 1 <= opened <= 2
        assert running.value("django_db_new_connections_total") == opened
        assert running.value(f"{CONNECTION}_wait_time_seconds_count") == 60
        assert running.value(f"{CONNECTION}_max") == 2
        assert backends(apps_target) - before == opened


@pytest.mark.parametrize(
    ("framework", "pool"),
    [("fastapi", "persistent"), ("flask", "persistent"), ("django", "psycopg")],
)
def test_apps_pool_wait_leaves_out_the_time_to_connect(
    apps_target: Target, framework: str, pool: str
) -> None:
    proxy = Proxy(apps_target)
    with service(proxy.target, framework, DB_POOL=pool, DB_POOL_SIZE=1) as running:
        proxy.delay_s = 0.4
        assert running.post().status_code == 200
        assert running.value(f"{CONNECTION}_create_time_seconds_sum") >= 0.4
        assert running.value(f"{CONNECTION}_wait_time_seconds_sum") < 0.1
    proxy.down()


def test_apps_pool_wait_leaves_out_a_connect_that_takes_longer_than_the_pool_waits(
    apps_target: Target,
) -> None:
    """Django's pool connects behind the request, which gives up before the connection is there."""
    proxy = Proxy(apps_target)
    proxy.delay_s = 1.5
    more = {"DB_POOL": "psycopg", "DB_POOL_TIMEOUT": 0.5}
    with service(proxy.target, "django", **more) as running:
        assert running.post().json()["error"] == "pool-timeout"
        assert running.value(f"{CONNECTION}_wait_time_seconds_count") == 1
        assert running.value(f"{CONNECTION}_wait_time_seconds_sum") < 0.2
    proxy.down()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_apps_metrics_off_takes_everything_out(apps_target: Target, framework: str) -> None:
    with service(apps_target, framework, METRICS="off") as running:
        assert running.post().status_code == 200
        assert running.client.get("/metrics").status_code == 404
        with pytest.raises(httpx.ConnectError):
            running.samples()
        assert not list(running.folder.rglob("*.db"))


def wait_for(condition: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_apps_metrics_survive_a_killed_worker_and_free_their_port(apps_target: Target) -> None:
    """Counters stay, gauges of the dead go, and a new master can take the port at once."""
    with service(apps_target, "flask", WORKERS=2) as running:
        for _ in range(10):
            running.post()
        limit = 2 * 8  # of each worker, once it has begun
        wait_for(lambda: running.value(f"{CONNECTION}_max") == limit)
        killed = running.workers()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(running.workers() - killed) == 2)
        wait_for(lambda: running.value(f"{CONNECTION}_max") >= limit)
        assert running.value(f"{CONNECTION}_max") == limit
        assert running.value("http_request_duration_seconds_count", status="200") == 10
        assert running.value("service_worker_restarts_total") == 2
        sizes = {k: v for k, v in running.samples().items() if k[0] == WORKER_MEMORY}
        assert {dict(labels)["worker"] for _, labels in sizes} == {"1", "2"}
        port = running.metrics_port
    wait_for_stopped()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/metrics")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_apps_metrics_stay_exact_and_few_while_workers_are_replaced(
    apps_target: Target, framework: str
) -> None:
    """With MAX_REQUESTS every gone worker would leave files that each scrape has to read."""
    more = {"WORKERS": 2, "MAX_REQUESTS": 10, "MAX_REQUESTS_JITTER": 0}
    with service(apps_target, framework, **more) as running:
        seen: set[int] = set()
        requests = 0

        def eight_workers_answered() -> bool:
            nonlocal requests
            answer = running.client.get("/benchmark/db-test", headers={"Connection": "close"})
            assert answer.status_code == 200
            requests += 1
            seen.update(running.workers())
            return len(seen) >= 8

        wait_for(eight_workers_answered, within_s=40)
        wait_for(lambda: len(list(running.folder.rglob("*.db"))) <= 2 * 3 + 2)
        count = "http_request_duration_seconds_count"
        assert running.value(count, handler="/benchmark/db-test", status="200") == requests
        bucket = "http_request_duration_seconds_bucket"
        assert running.value(bucket, handler="/benchmark/db-test", le="+Inf") == requests
        assert running.value(f"{CONNECTION}_wait_time_seconds_count") == requests
        assert running.value("service_worker_restarts_total") >= 6
        workers = {dict(labels)["worker"] for n, labels in running.samples() if n == WORKER_MEMORY}
        assert workers <= {"1", "2"}
