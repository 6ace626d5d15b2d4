"""What Prometheus takes: this lab's servers as they are now, and nobody else's."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from lab import edges
from lab.errors import ServiceError
from lab.prometheus import Prometheus, gaps
from lab.stack.base import Endpoints
from lab.stack.native import NativeStack

from .conftest import Lab

WITHIN_S = 15
#: An exporter is asked so often that what is true for a moment only is seen too.
POLL_S = 0.02


def until(check: Callable[[], object], what: str, within_s: float = WITHIN_S) -> None:
    """Wait for something to be true."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.1)


def values(endpoints: Endpoints, query: str) -> dict[str, float]:
    """Return what a query gives now, by instance, collector or job."""
    assert endpoints.prometheus is not None
    found = Prometheus(endpoints.prometheus).query(query, time.time())
    return {_key(series["metric"]): float(series["value"][1]) for series in found}


def _key(labels: dict[str, str]) -> str:
    return next((labels[n] for n in ("instance", "collector", "job") if n in labels), "")


@contextmanager
def strangers_locust(port: int) -> Iterator[None]:
    """Serve the users of somebody else's Locust."""
    registry = CollectorRegistry()
    Gauge("locust_users", "x", registry=registry).set(77)
    server, thread = start_http_server(port, "127.0.0.1", registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_another_programs_metrics_on_a_port_of_ours_are_not_taken(lab: Lab, tmp_path: Path) -> None:
    """Its target answers, and nothing of what it says is in Prometheus or at a window's edge."""
    settings, endpoints = lab.start(FRAMEWORK="flask")
    began = time.time()
    with strangers_locust(lab.stack.ports["locust_metrics_port"]):
        answers = f'up{{job="locust"}} == 1 and timestamp(up{{job="locust"}}) >= {began}'
        until(lambda: values(endpoints, answers), "the stranger scraped")
        assert not values(endpoints, f"timestamp(locust_users) >= {began}")
        of_it = 'scrape_samples_{}{{job="locust"}}'
        assert list(values(endpoints, of_it.format("scraped")).values()) == [1]
        assert list(values(endpoints, of_it.format("post_metric_relabeling")).values()) == [0]
        own = 'poolscope_start_time_seconds{job=~"service|locust|poolscope"}'
        assert set(values(endpoints, f"group by (job) ({own})")) == {"service", "poolscope"}
        edge = edges.take(endpoints.metrics, None, endpoints.start_token)
        jobs = {"locust": 1, "service": 3, "postgres": 6}
        missing = gaps(Prometheus(str(endpoints.prometheus)), jobs, time.time() - 6, time.time())
        assert missing == "locust 0 of 5 scrapes"
        with pytest.raises(ServiceError, match=r"locust cannot start: .* by another program"):
            lab.stack.load(settings, tmp_path, 1)
    assert edge.failed.keys() == {"locust"}
    assert "is another program's" in edge.failed["locust"]
    assert edge.scrapes.keys() == {"service", "poolscope", "postgres"}


def start_of_a_service(lab: Lab) -> tuple[str, Endpoints]:
    """Start it, and return its instance once it is the only one that is found."""
    began = time.time()
    _, endpoints = lab.start(FRAMEWORK="flask")
    recent = f"timestamp(service_workers) >= {began}"
    until(lambda: values(endpoints, recent), "the service scraped")
    until(lambda: len(values(endpoints, "service_workers")) == 1, "the one before forgotten")
    (instance,) = values(endpoints, "service_workers")
    return instance, endpoints


def test_each_start_of_a_service_has_an_instance_of_its_own(lab: Lab) -> None:
    """A moment after the second start only that one is found, whatever the first one said."""
    first, _ = start_of_a_service(lab)
    second, endpoints = start_of_a_service(lab)
    for instance in (first, second):
        assert re.fullmatch(r"flask-\d{13}", instance)
    assert second > first
    found = values(endpoints, 'group by (instance) ({job=~"service|poolscope|postgres"})')
    kinds = {name.rpartition("-")[0] for name in found}
    kinds.discard("")  # `up` and its like are of the target, not of who answers there
    assert kinds == {"flask", "poolscope_exporter", "postgres_exporter"}
    assert not values(endpoints, '{start=~".+"}')


def test_postgres_exporter_that_is_started_again_has_another_instance(lab: Lab) -> None:
    """It does not say itself when it started: Prometheus is told so."""
    _, endpoints = lab.start(FRAMEWORK="flask")
    until(lambda: len(values(endpoints, "pg_up")) == 1, "postgres_exporter scraped")
    (first,) = values(endpoints, "pg_up")
    lab.stack._processes["postgres_exporter"].kill()
    lab.start(FRAMEWORK="flask")
    until(lambda: values(endpoints, "pg_up").keys() - {first}, "the new one scraped", 30)
    until(lambda: len(values(endpoints, "pg_up")) == 1, "the first one forgotten")


def test_a_direct_cell_has_no_pgbouncer_collector(lab: Lab) -> None:
    """It is not due, so it is neither asked nor down."""
    _, endpoints = lab.start(FRAMEWORK="flask", ROUTE="pgbouncer")
    up = 'poolscope_collector_up{collector="pgbouncer"}'
    until(lambda: values(endpoints, up) == {_only(endpoints): 1.0}, "pgbouncer up")
    lab.start(FRAMEWORK="flask", ROUTE="direct")
    until(lambda: not values(endpoints, up), "no such collector")
    due = 'poolscope_collector_due{collector="pgbouncer"}'
    assert list(values(endpoints, due).values()) == [0]
    assert not values(endpoints, "pgbouncer_up")
    assert not values(endpoints, "poolscope_collector_up == 0")


def _only(endpoints: Endpoints) -> str:
    (instance,) = values(endpoints, 'poolscope_start_time_seconds{job="poolscope"}')
    return instance


class Asking(threading.Thread):
    """Scrapes the exporter all the time, and keeps every answer."""

    def __init__(self, endpoints: Endpoints) -> None:
        super().__init__(daemon=True)
        self._url, self._token = endpoints.metrics["poolscope"], endpoints.start_token
        self.seen: list[edges.Scrape] = []
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(POLL_S):
            self.seen.append(edges.scrape(self._url, self._token))

    def end(self) -> None:
        self._ended.set()
        self.join(10)

    def is_due(self, job: str) -> bool:
        return bool(self.seen and self.seen[-1].total("poolscope_target_due", target=job))

    def answers(self, metric: str, **labels: str) -> list[float | None]:
        return [scrape.total(metric, **labels) for scrape in self.seen]


def changes(answers: list[Any]) -> list[Any]:
    """Return what followed on what, each once."""
    return [a for a, before in zip(answers, [object(), *answers], strict=False) if a != before]


def test_no_collector_is_down_while_servers_are_stopped_and_started(
    lab: Lab, tmp_path: Path
) -> None:
    """From cell to cell, asked 50 times a second: due or not due, never due and down.

    PostgreSQL itself is started anew for another number of connections.
    """
    settings, endpoints = lab.start(FRAMEWORK="flask", ROUTE="direct")
    asking = Asking(endpoints)
    asking.start()
    try:
        until(lambda: asking.is_due("service"), "the first service due")
        lab.start(FRAMEWORK="flask", ROUTE="pgbouncer")
        until(lambda: asking.is_due("service"), "the second service due")
        lab.start(FRAMEWORK="django", ROUTE="direct", POSTGRES_MAX_CONNECTIONS=150)
        load = lab.stack.load(settings, tmp_path, 30)
        try:
            until(lambda: load.alive() and asking.is_due("locust"), "locust due")
        finally:
            load.stop()
        lab.start(FRAMEWORK="flask", ROUTE="pgbouncer")
        until(lambda: asking.is_due("service"), "the last service due")
    finally:
        asking.end()
    for scrape in asking.seen:
        down = [labels for labels, up in scrape.samples["poolscope_collector_up"].items() if not up]
        assert not down
        assert scrape.total("pgbouncer_up") in (None, 1)
        bouncer = {"collector": "pgbouncer"}
        asked = scrape.total("poolscope_collector_up", **bouncer) is not None
        assert scrape.total("poolscope_collector_due", **bouncer) == asked
    assert changes(asking.answers("poolscope_collector_due", collector="pgbouncer")) == [0, 1, 0, 1]
    assert changes(asking.answers("poolscope_collector_due", collector="postgres")) == [
        *(1, 0, 1, 0, 1)
    ]
    assert changes(asking.answers("poolscope_target_due", target="locust")) == [0, 1, 0]
    assert changes(asking.answers("poolscope_target_due", target="service")) == [1, 0] * 3 + [1]


def test_who_is_due_serves(lab: Lab, tmp_path: Path) -> None:
    """A target is due only while its port answers, asked right after the exporter said so.

    The load is put on from outside, by a stack that has started nothing else.
    """
    settings, endpoints = lab.start(FRAMEWORK="flask")
    state = lab.stack.home.run / "state.json"
    before = json.loads(state.read_text())
    joined = NativeStack(lab.stack.home, lab.stack.ports)
    joined.start_token = before["start_token"]
    ports = {
        "service": lab.stack.ports["service_metrics_port"],
        "locust": lab.stack.ports["locust_metrics_port"],
    }
    load = joined.load(settings, tmp_path, 30)
    seen = set()
    try:
        deadline = time.monotonic() + WITHIN_S
        while "locust" not in seen:
            assert time.monotonic() < deadline
            load.alive()
            found = edges.scrape(endpoints.metrics["poolscope"], endpoints.start_token)
            for job, port in ports.items():
                if found.total("poolscope_target_due", target=job):
                    seen.add(job)
                    with socket.create_connection(("127.0.0.1", port), 1):
                        pass
    finally:
        load.stop()
    assert seen == {"service", "locust"}
    assert json.loads(state.read_text()) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ports["locust"]), 1).close()
