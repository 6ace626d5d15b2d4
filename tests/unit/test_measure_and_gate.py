"""Edges to measurement, and the gate's reasons, with figures made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lab import validity
from lab.edges import Edge, Scrape, Sql
from lab.intervals import LoadWindow
from lab.measure import little, measurement
from lab.results import Measurement
from lab.validity import Counts, Gathered

LOAD = LoadWindow(
    window_s=10.0, responses=1000, failures=0, statuses={"200": 1000}, errors={}, rps=100.0,
    error_rate=0.0, mean_ms=100.0, p50_ms=90.0, p95_ms=150.0, p99_ms=200.0, p999_ms=300.0,
    max_ms=310.0, users_min=10, users_max=10, generator_cpu=0.2, hdr="", timeline=[],
)  # fmt: skip


def scrape(at: float, **values: float) -> Scrape:
    """Make an answer; `name__label_value` gives a series with a label `name` of that value."""
    samples: dict[str, dict[Any, float]] = {}
    for key, value in values.items():
        name, _, service = key.partition("__")
        labels = frozenset({("name", service)}) if service else frozenset()
        samples.setdefault(name, {})[labels] = value
    return Scrape(at, samples)


def handled(at: float, count: float, **values: float) -> Scrape:
    """Make a service's answer with `count` requests of db-test, 20 ms each."""
    made = scrape(at, **values)
    label = frozenset({("handler", "/benchmark/db-test")})
    made.samples["http_request_duration_seconds_count"] = {label: count}
    made.samples["http_request_duration_seconds_sum"] = {label: count * 0.02}
    return made


def edge(at: float, sql: Sql | None = None, cpu: float = 0.0, **scrapes: Scrape) -> Edge:
    """Make an edge; `cpu` seconds of user time and as many of idle time, and no steal."""
    return Edge(at, scrapes, sql, {"user": cpu, "idle": cpu, "steal": 0.0})


def test_counters_become_figures_per_request() -> None:
    """Each figure is a difference divided by another of the same source."""
    names = ("create", "wait", "use")
    first = {f"db_client_connection_{n}_time_seconds_sum": 1.0 for n in names}
    last = {
        f"db_client_connection_{n}_time_seconds_sum": v
        for n, v in zip(names, (2, 6, 11), strict=True)
    }
    created = "db_client_connection_create_time_seconds_count"
    m = measurement(
        LOAD,
        edge(0, Sql(0, 10, 5.0, 10, 7), service=handled(0, 500, **first, **{created: 100})),
        edge(10, Sql(10, 1010, 205.0, 99, 1007), cpu=5.0,
             service=handled(10, 1500, **last, **{created: 1100})),
        "flask", "direct", 2,
    )  # fmt: skip
    assert m.server_requests == 1000
    assert m.server_mean_ms == pytest.approx(20)
    assert m.new_connections_per_request == 1.0
    assert m.new_sessions_per_request == 1.0
    assert (m.connect_ms, m.pool_wait_ms, m.use_ms) == (1.0, 5.0, 10.0)
    assert m.executed_mean_ms == pytest.approx(0.2)
    assert m.host_cpu == 0.5
    assert m.steal == 0


def test_cpu_is_a_share_of_the_limit_by_the_exporters_own_time() -> None:
    """CPU seconds are divided by the seconds between the exporter's own answers and the limit."""
    usage, throttled = (
        "container_cpu_usage_seconds_total",
        "container_cpu_cfs_throttled_periods_total",
    )
    quota = {
        "container_spec_cpu_quota__postgres": 25000,
        "container_spec_cpu_period__postgres": 1e5,
    }
    periods = "container_cpu_cfs_periods_total"
    first = scrape(1.0, **{f"{usage}__postgres": 3.0, f"{throttled}__postgres": 5,
                           f"{periods}__postgres": 10}, **quota)  # fmt: skip
    last = scrape(11.5, **{f"{usage}__postgres": 5.1, f"{throttled}__postgres": 65,
                           f"{periods}__postgres": 110}, **quota)  # fmt: skip
    m = measurement(LOAD, edge(0, poolscope=first), edge(10, poolscope=last), "flask", "direct", 2)
    assert m.db_cpu == pytest.approx(2.1 / (10.5 * 0.25))
    assert m.db_cpu_s == pytest.approx(2.1)
    assert m.db_throttled == pytest.approx(0.6)
    assert m.app_cpu is None
    assert "flask" in m.missing["app_cpu"]


def test_a_missing_source_is_none_with_its_reason() -> None:
    """No figure is made of nothing, and 0 is never put for it."""
    failed = Edge(10, {}, None, {"user": 1.0, "idle": 1.0}, {"service": "timed out", "sql": "gone"})
    m = measurement(LOAD, edge(0), failed, "flask", "pgbouncer", 2)
    assert m.pool_wait_ms is None
    assert "timed out" in m.missing["pool_wait_ms"]
    assert "gone" in m.missing["executed_statements"]
    assert m.pgbouncer_wait_ms is None
    assert m.steal is None


def test_a_restarted_source_gives_no_difference() -> None:
    """A counter that went back means a new process, not a negative rate."""
    m = measurement(
        LOAD, edge(0, service=handled(0, 500)), edge(10, service=handled(10, 20)), "flask",
        "direct", 2,
    )  # fmt: skip
    assert m.server_requests is None


GOOD = Measurement(
    window_s=10, requests=1000, failures=0, statuses={"200": 1000}, errors={}, rps=100.0,
    mean_ms=100.0, generator_cpu=0.5, steal=0.0,
)  # fmt: skip
GATHERED = Gathered(10, 10, 10, 0, Counts(1000, 1000, "the service"), None, None)


def test_a_good_cell_has_no_reason() -> None:
    """Nothing is wrong with a measurement in which everything agrees."""
    assert validity.reasons(GOOD, GATHERED) == []


@pytest.mark.parametrize(
    ("measured", "gathered", "words"),
    [
        ({"generator_cpu": 0.95}, {}, "load generator used 95% of a core"),
        ({"generator_cpu": None}, {}, "CPU time is unknown"),
        ({"steal": 0.03}, {}, "CPU steal was 3.0%"),
        ({"mean_ms": 80.0}, {}, "Little's law: X*R = 8.0 for N = 10"),
        ({"requests": 0, "statuses": {}, "mean_ms": None}, {}, "no request was answered"),
        ({}, {"samples": "service 3 of 9 scrapes"}, "samples missing: service 3 of 9"),
        ({}, {"unequal": "two statements"}, "work not equal: two statements"),
        ({}, {"missing_seconds": 2}, "reported nothing for 2 s"),
        ({}, {"users_min": 8}, "users were 8 to 10, not 10"),
        ({}, {"ended": ("pgbouncer",)}, "pgbouncer ended during the window"),
        ({}, {"counts": Counts(1000, 990, "the service")}, "client counted 1000 answers"),
        ({}, {"counts": Counts(1000, None, "x", "timed out")}, "nothing to check the client's"),
    ],
)
def test_each_reason_is_given(
    measured: dict[str, Any], gathered: dict[str, Any], words: str
) -> None:
    """Each fault gives its own reason, with its figure, and no other one."""
    found = validity.reasons(GOOD.model_copy(update=measured), replace(GATHERED, **gathered))
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    ("update", "gathered"),
    [
        ({"generator_cpu": 0.9}, {}),
        ({"steal": 0.01}, {}),
        ({"mean_ms": 95.5}, {}),
        ({}, {"counts": Counts(1000, 996, "the service")}),
    ],
)
def test_limits_themselves_are_allowed(update: dict[str, Any], gathered: dict[str, Any]) -> None:
    """A figure at its limit, or just inside, is no reason."""
    assert not validity.reasons(GOOD.model_copy(update=update), replace(GATHERED, **gathered))


def test_little_counts_requests_without_an_answer() -> None:
    """A user who waits for an answer that never comes is in the system too."""
    waiting = GOOD.model_copy(update={"requests": 500, "statuses": {"200": 500, "0": 500}})
    assert validity.reasons(waiting, GATHERED) == []
    assert little(100, 100, 10) == 1
