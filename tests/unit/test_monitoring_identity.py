"""Every sample says which start of which server it is of, and the lab takes no other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest, start_http_server

from lab import edges
from lab.stack import compose, due_load, servers
from monitoring import compose as compose_config
from monitoring import identity
from monitoring.identity import StartedRegistry
from tests.unit.scrapes import samples, taken

ROOT = Path(__file__).parents[2]
TOKEN = "c0ffee00"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> StartedRegistry:
    """A registry with one gauge, of a server that a lab started."""
    monkeypatch.setenv(identity.TOKEN_VARIABLE, TOKEN)
    found = StartedRegistry("flask")
    Gauge("level", "x", ["place"], registry=found).labels("a").set(7)
    return found


def answer(registry: CollectorRegistry) -> dict[str, float]:
    """Return name and value of the samples of a scrape."""
    return {name: value for (name, _), value in samples(generate_latest(registry).decode()).items()}


def test_registry_puts_the_start_on_every_sample(registry: StartedRegistry) -> None:
    found = samples(generate_latest(registry).decode())
    start = ("start", f"{TOKEN}/flask-{identity.STARTED_MS}")
    assert all(start in labels for _, labels in found)
    assert found["level", frozenset({("place", "a"), start})] == 7


def test_registry_says_when_its_server_started(registry: StartedRegistry) -> None:
    assert answer(registry)["poolscope_start_time_seconds"] == identity.STARTED_MS / 1000


def test_registry_without_a_lab_has_a_start_too() -> None:
    """A server that is started by hand."""
    environment = {name: v for name, v in os.environ.items() if name != identity.TOKEN_VARIABLE}
    assert start_of_a_process(environment).startswith("none/own-")


def start_of_a_process(environment: dict[str, str]) -> str:
    """Return the start of a new process, after one that it forked has said the same."""
    script = """if True:
        import os
        from prometheus_client import generate_latest
        from monitoring.identity import StartedRegistry
        def text(): return generate_latest(StartedRegistry("own")).decode()
        parent = os.getpid()
        if os.fork():
            os.wait()
        print([l for l in text().splitlines() if l.startswith("poolscope_start_time")][0])
    """
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    (start,) = {dict(labels)["start"] for _, labels in samples(done.stdout)}
    return start


def test_start_differs_between_processes_and_is_shared_by_forks() -> None:
    """Gunicorn's workers answer as their master does."""
    assert start_of_a_process(dict(os.environ)) != start_of_a_process(dict(os.environ))


class Broken:
    """A collector that fails."""

    def collect(self) -> Iterator:
        raise OSError("no such file")


def test_failed_scrapes_are_counted_and_fail(registry: StartedRegistry) -> None:
    before = answer(registry)["poolscope_scrape_errors_total"]
    broken = StartedRegistry("flask")
    broken.register(Broken())
    for _ in range(2):
        with pytest.raises(OSError, match="no such file"):
            generate_latest(broken)
    found = answer(registry)
    assert found["poolscope_scrape_errors_total"] == before + 2
    assert 0 < found["poolscope_scrape_duration_seconds"] < 1


def test_text_as_prometheus_takes_it_has_no_start(registry: StartedRegistry) -> None:
    """Wherever the label stands among the others."""
    Gauge("both", "x", ["place", "zone"], registry=registry).labels("a", "b").set(1)
    Gauge("after", "x", ["zone"], registry=registry).labels("b").set(1)
    lines = taken(generate_latest(registry).decode()).splitlines()
    assert {'level{place="a"} 7.0', 'both{place="a",zone="b"} 1.0', 'after{zone="b"} 1.0'} <= set(
        lines
    )


@pytest.fixture
def served(registry: StartedRegistry) -> Iterator[int]:
    """The port of a server that a lab started."""
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port of a program that no lab started."""
    registry = CollectorRegistry()
    Gauge("locust_users", "x", registry=registry).set(77)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/metrics"


def test_scrape_of_an_edge_leaves_the_start_out(served: int) -> None:
    found = edges.scrape(url(served), TOKEN)
    assert found.samples["level"] == {frozenset({("place", "a")}): 7.0}


def test_edge_takes_nothing_of_another_program(served: int, stranger: int) -> None:
    """Neither of another lab's server nor of one that has no token at all."""
    edge = edges.take({"service": url(served), "locust": url(stranger)}, None, "0therlab")
    assert edge.scrapes == {}
    for job, why in (("service", f"start token '{TOKEN}'"), ("locust", "no start token")):
        assert edge.failed[job].endswith(f"is another program's: {why}, not '0therlab'")


def test_edge_takes_postgres_exporter_without_a_token(stranger: int) -> None:
    """Its path has it."""
    edge = edges.take({"postgres": url(stranger)}, None, TOKEN)
    assert edge.scrapes["postgres"].total("locust_users") == 77


def test_serves_knows_this_labs_server(served: int, stranger: int) -> None:
    assert due_load.serves("127.0.0.1", served, TOKEN)
    assert not due_load.serves("127.0.0.1", served, "0therlab")
    assert not due_load.serves("127.0.0.1", stranger, TOKEN)
    assert not due_load.serves("127.0.0.1", 1, TOKEN)


def test_names_are_the_same_on_both_sides() -> None:
    """The lab does not import what is under test: label and variable stand there once more."""
    assert servers.START_TOKEN == identity.TOKEN_VARIABLE
    assert edges.START == identity.LABEL
    assert compose.START_TOKEN == compose_config.START_TOKEN
