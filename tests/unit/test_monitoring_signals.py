"""Signals: what they are made of, and that every metric they read really exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from loadtest.exposition import LoadCollector
from monitoring.rules import RULES_FILE, render_rules
from monitoring.signals import BY_NAME, SCRAPE_INTERVAL_S, SIGNALS, WINDOW_S, Signal, with_cell
from tests.unit.scrapes import golden, sample_names

ROOT = Path(__file__).parents[2]
PROMETHEUS_OWN = {
    "up",
    "scrape_duration_seconds",
    "process_cpu_seconds_total",
    "prometheus_rule_group_last_duration_seconds",
}
#: New in PostgreSQL 16; the kept answer is of 15.
NEWER = {"pg_settings_reserved_connections"}
#: Given by gunicorn's master alone: tests/integration/test_apps_metrics.py asks a real one.
MASTER = {
    "service_workers",
    "service_workers_busy",
    "service_listen_backlog_connections",
    "service_listen_backlog_max_connections",
}
UNITS = {
    "seconds": "s",
    "ratio": "ratio",
    "bytes": "bytes",
}

SERVICE_ANSWER = """
from prometheus_client import REGISTRY, generate_latest
from apps.common.metrics import http, operations, pool
http.observe("/benchmark/db-test", "GET", 200, 0.01)
pool.create(0.001); pool.opened(); pool.wait(0.001); pool.checked_in(pool.checked_out())
pool.set_max(8)
operations.select(0.001)
print(generate_latest(REGISTRY).decode())
"""


@pytest.fixture(scope="module")
def known_names() -> set[str]:
    """All names in the exporters' kept answers, and in what the services and the load make."""
    service = subprocess.run(
        [sys.executable, "-c", SERVICE_ANSWER],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    load = CollectorRegistry()
    totals = {"buckets": [1] * 25, "sum_s": 1.0, "statuses": {"200": 25}, "failures": 0}
    process = {"users": 1, "cpu_s": 1.0, "process": "1"}
    load.register(LoadCollector(lambda: [totals | process], "GET", "db-test"))
    return (
        sample_names(golden("postgres_exporter-0.11.1"))
        | sample_names(golden("poolscope_exporter"))
        | sample_names(service.stdout)
        | sample_names(generate_latest(load).decode())
        | MASTER
        | PROMETHEUS_OWN
        | NEWER
        | {item.record for item in SIGNALS}
    )


@pytest.mark.parametrize("item", SIGNALS, ids=lambda item: item.name)
def test_signal_reads_metrics_that_a_real_scrape_has(item: Signal, known_names: set[str]) -> None:
    """A name that no exporter gives would be an empty panel and an alert that never fires."""
    assert item.metrics
    assert item.metrics <= known_names


def test_signal_names_are_unique() -> None:
    assert len(BY_NAME) == len(SIGNALS)


@pytest.mark.parametrize("item", SIGNALS, ids=lambda item: item.name)
def test_signal_name_carries_its_unit(item: Signal) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", item.name)
    assert item.meaning
    for ending, unit in UNITS.items():
        if item.name.endswith(f"_{ending}"):
            assert item.unit == unit
    if item.name.endswith("_per_second"):
        assert item.unit.endswith("/s")
    assert (item.threshold is None) == (item.threshold_source is None)


def test_signals_that_need_pgbouncer_or_load_say_so() -> None:
    """The check of a real run asks for data of exactly the signals that are due."""
    for item in SIGNALS:
        if any(name.startswith("pgbouncer_") for name in item.metrics):
            assert item.due in ("pgbouncer", "pgbouncer load"), item.name
        if any(name.startswith(("locust_", "http_", "db_client_")) for name in item.metrics):
            assert "load" in item.due, item.name


def test_signal_over_replaces_the_windows_of_rates_only() -> None:
    item = Signal("x", "rate(a[10s]) + rate(b[20s]) + sum_over_time(up[24s])", "", "")
    assert item.over("1m") == "rate(a[1m]) + rate(b[1m]) + sum_over_time(up[24s])"


def test_signal_metrics_leaves_out_functions_labels_and_words() -> None:
    expr = 'sum by (name) (rate(a_total{job=~"x or y"}[10s])) / on(name) group_left(z) (b > 0) or c'
    assert Signal("x", expr, "", "").metrics == {"a_total", "b", "c"}


def test_with_cell_joins_the_info_metric() -> None:
    assert with_cell("sum(a)", "framework", "route") == (
        "(sum(a)) * on() group_left(framework, route) max by (framework, route) (lab_cell_info)"
    )


def test_windows_hold_four_scrapes() -> None:
    for job, seconds in SCRAPE_INTERVAL_S.items():
        assert WINDOW_S[job] >= 4 * seconds


def test_rules_file_is_what_the_signals_make() -> None:
    """To make it again: python -m monitoring.rules."""
    assert RULES_FILE.read_text() == render_rules()


def test_every_rule_has_a_promtool_test() -> None:
    tests = "".join(p.read_text() for p in (RULES_FILE.parents[1] / "tests").glob("*.yml"))
    assert [item.record for item in SIGNALS if not re.search(rf"{item.record}\b", tests)] == []
